"""The candidate for Lightning with manual optimization, where the package `lightning` is installed.

`Trainer.fit` owns its loop, so it runs in a thread of its own, which stops after each round until the next.
"""

import importlib
import importlib.util
import logging
import threading
import warnings
from typing import Any

import torch
from loops import Average, Rules, Setup, Way, fast_adam
from plain import Pair
from torch import Tensor, nn


def installed() -> bool:
    """Whether Lightning can be compared."""
    return importlib.util.find_spec("lightning") is not None


class LightningLoop:
    """A LightningModule with the best loop's parts, run in Lightning's barebones mode."""

    def __init__(self, setup: Setup, way: Way) -> None:
        self.pair: Pair = setup.pair
        self._average = Average(setup.pair.generator, setup.batch)
        self._left = 0
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._error: BaseException | None = None
        self._closed = False
        self._setup = setup
        self._module = _module(self, setup, way)
        self._thread = threading.Thread(target=self._fit, name="lightning", daemon=True)
        self._thread.start()

    @property
    def average(self) -> nn.Module:
        return self._average.network

    def run(self, updates: int) -> None:
        self._left = updates
        self._go.release()
        self._done.acquire()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """End the fit."""
        self._closed = True
        self._go.release()
        self._thread.join(timeout=60)

    def update_done(self) -> bool:
        """Called by the module after each update, and waits after the last of a round. False: no more is wanted."""
        self._average.follow(self._average.next_weight())
        self._left -= 1
        if self._left > 0:
            return True
        self._done.release()
        self._go.acquire()
        return not self._closed

    def _fit(self) -> None:
        lightning = importlib.import_module("lightning")
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        try:
            self._go.acquire()
            if self._closed:
                return
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                trainer = lightning.Trainer(
                    accelerator="gpu" if self._setup.device.type == "cuda" else "cpu",
                    devices=1,
                    precision="bf16-mixed" if self._setup.bf16 else "32-true",
                    max_epochs=1,
                    barebones=True,
                )
                trainer.fit(self._module, train_dataloaders=_Endless(self._setup))
        except BaseException as error:
            self._error = error
        self._done.release()


class _Endless:
    """The source as an iterable."""

    def __init__(self, setup: Setup) -> None:
        self._images = setup.images

    def __iter__(self) -> Any:
        return self._images


def _module(loop: LightningLoop, setup: Setup, way: Way) -> Any:
    base: Any = importlib.import_module("lightning").LightningModule
    rules = Rules(setup, way)

    class Module(base):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.G, self.D = setup.pair

        def configure_optimizers(self) -> list[torch.optim.Adam]:
            return [fast_adam(self.D), fast_adam(self.G)]

        def training_step(self, real: Tensor, index: int) -> None:
            optimizer_D, optimizer_G = self.optimizers()
            self.toggle_optimizer(optimizer_D)
            with torch.no_grad():
                fake = self.G(setup.latents())
            for loss in rules.discriminator(self.D, real, fake):
                self.manual_backward(loss)
            optimizer_D.step()
            optimizer_D.zero_grad()
            self.untoggle_optimizer(optimizer_D)

            self.toggle_optimizer(optimizer_G)
            self.manual_backward(rules.generator(self.D, self.G(setup.latents())))
            optimizer_G.step()
            optimizer_G.zero_grad()
            self.untoggle_optimizer(optimizer_G)

        def on_train_batch_end(self, *_: Any) -> None:
            self.trainer.should_stop = not loop.update_done()

    return Module()
