"""Debug mode: the checks after every turn, and the short run that writes and reads everything once."""

import shutil
from pathlib import Path
from typing import Any

import torch

from dist_gan.config.schema import Config
from dist_gan.distributed.numerics import deterministic
from dist_gan.errors import CheckFailed
from dist_gan.game.game import Game
from dist_gan.game.player import Player
from dist_gan.objective.objective import Terms
from dist_gan.run.checkpoint import Checkpoint

UPDATES = 4


class Checks:
    """Checks shapes, ranges and finite values after every turn; the first failure says what is wrong, in whose turn."""

    def __init__(self) -> None:
        self.passed = 0
        self.bounded = False
        """Whether G's images lie in [-1, 1]; known from its first turn on."""

    def __call__(self, turn: str, player: Player[Any], terms: Terms) -> None:
        """After `turn` ("D" or "G") of `player`, with the last microbatch's terms."""
        images, n = terms.images, len(terms.images)
        if turn == "G":
            self.bounded = player.network.bounded
        if self.bounded:
            low, high = images.min().item(), images.max().item()
            self._hold(turn, low >= -1 and high <= 1, f"fake images lie in [-1, 1], and are in [{low}, {high}]")
        self._hold(turn, terms.fake.shape == (n,), f"logits are [{n}], and are {list(terms.fake.shape)}")
        self._hold(turn, terms.loss.shape == (), f"the loss is one number, and is {list(terms.loss.shape)}")
        for name, tensor in (("fake images", images), ("logits", terms.fake), ("the loss", terms.loss)):
            self._hold(turn, bool(tensor.isfinite().all()), f"{name} are finite")
        if terms.real is not None:
            self._hold(turn, bool(terms.real.isfinite().all()), "logits of real images are finite")
        self._hold(turn, not player.skipped.item(), "gradients are finite")
        self._hold(turn, player.gradient_norm.item() > 0, "a gradient arrives")
        for name, parameter in player.network.named_parameters():
            self._hold(turn, bool(parameter.isfinite().all()), f"{name} is finite")
            self._hold(turn, not parameter.requires_grad, f"{name} requires no gradient")

    def _hold(self, turn: str, holds: bool, what: str) -> None:
        if not holds:
            raise CheckFailed(f"debug: after {turn}'s turn it must hold that {what}")
        self.passed += 1


def shortened(config: Config, updates: int) -> Config:
    """The same game for a few updates, in a folder of its own, with every kind of file written."""
    update = config.discriminator_turns * config.batch_size
    return config.model_copy(
        update={
            "run": f"{config.run.rstrip('/')}-debug",
            "images": updates * update,
            "resume": "auto",
            "console": "plain",
            "track": config.track.model_copy(update={"every": update, "wandb": "disabled"}),
            "save": config.save.model_copy(update={"every": updates * update}),
            "evaluate": (),
            "sample": config.sample.model_copy(update={"every": updates * update}),
        }
    )


def clear(folder: Path) -> None:
    """Remove what an earlier debug run left."""
    if folder.name.endswith("-debug") and (folder / "status.json").exists():
        shutil.rmtree(folder)


def watch_everything() -> None:
    """Anomaly detection and deterministic kernels, for this process."""
    torch.autograd.set_detect_anomaly(True)
    deterministic()


def check_restored(game: Game, checkpoint: Checkpoint) -> None:
    """Check that the game's state, just loaded, equals the checkpoint's bit for bit."""
    for file, own in game.state().items():
        for name, tensor in own.items():
            if not torch.equal(tensor.cpu(), checkpoint.tensors[file][name]):
                raise CheckFailed(f"debug: {name} of {file} is not what was saved")
