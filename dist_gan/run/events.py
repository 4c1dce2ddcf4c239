"""What happens at given numbers of images: metrics, pictures, checkpoints, and whatever else is added.

An event watches: it never changes what is learnt. It happens on all ranks alike, after the same update.
"""

import time
from abc import ABC, abstractmethod

from torch import Tensor

from dist_gan.console import Console
from dist_gan.game.game import Game
from dist_gan.game.meter import peak_memory
from dist_gan.run.records import Records
from dist_gan.sampling.generate import generate


class Event(ABC):
    """Something that happens every `every` images.

    Attributes:
        name: for people; the watchdog reports it as the phase in which a run hangs.
        every: images between two occurrences; it happens after the update that crosses a multiple.
        at_end: whether it happens after the last update too.
        at_stop: whether it happens when a signal stops the run.
        saves: whether a second Ctrl-C must wait for it, so that nothing is lost.
    """

    name: str
    every: int
    at_end: bool = True
    at_stop: bool = False
    saves: bool = False

    @abstractmethod
    def happen(self, game: Game, records: Records) -> None:
        """Called on all ranks. May communicate; `records` writes on rank 0 and does nothing elsewhere."""

    def was_missed(self, game: Game) -> bool:
        """Whether it should have happened where the run goes on, and did not: then it happens before training does."""
        return False

    def is_due(self, game: Game) -> bool:
        """Whether the last update crossed a multiple of `every`."""
        now = game.images_seen
        return now // self.every > (now - game.images_per_update) // self.every


class Metrics(Event):
    """Reads the meter on all ranks, and records it on rank 0."""

    name = "the metrics"
    at_stop = True

    def __init__(self, every: int, images: int, console: Console) -> None:
        self.every = every
        self.images = images
        self.console = console
        self.last: dict[str, float] = {}
        self.extra: dict[str, float] = {}
        """Numbers of this process that are logged once, with the next line."""
        self.constant: dict[str, float] = {}
        """Numbers of this process that are logged with every line."""
        self._clock = (time.perf_counter(), 0)

    def leave_out(self, seconds: float) -> None:
        """Training has waited this long for something else: it does not count for the speed."""
        then, before = self._clock
        self._clock = (then + seconds, before)

    def start(self, images_seen: int) -> None:
        """Training begins now, so the speed is measured from here."""
        self._clock = (time.perf_counter(), images_seen)

    def happen(self, game: Game, records: Records) -> None:
        """Makes one reduction, and waits for the device once."""
        metrics = game.meter.read()
        seen, now = game.images_seen, time.perf_counter()
        then, before = self._clock
        metrics["images_per_second"] = (seen - before) / (now - then)
        metrics |= {f"{player}/learning_rate": rate for player, rate in game.learning_rates().items()}
        averages = game.averages.items()
        metrics |= {f"augment/{name}": value for name, value in game.numbers.logged(seen).items()}
        metrics |= {f"{name.upper()}/half_life_images": each.recipe.half_life(seen) for name, each in averages}
        if game.processes.scaler is not None:
            metrics["fp16_scale"] = game.processes.scaler.get_scale()
        metrics |= peak_memory() | self.extra | self.constant
        self.extra = {}
        self._clock = (now, seen)
        self.last = metrics
        records.metrics(seen, metrics)
        last = records.last_checkpoint
        self.console.progress(seen, self.images, metrics, last.name if last else "")
        records.status(
            "running",
            images_seen=seen,
            images=self.images,
            images_per_second=metrics["images_per_second"],
            processes=game.processes.count,
        )


class Pictures(Event):
    """Grids of the same latents over time, one of each average of G."""

    name = "the pictures"

    def __init__(self, every: int, latents: Tensor, condition: Tensor | None, columns: int | None) -> None:
        """latents [N, Z], condition int64 [N] or None: what the grid shows, with `columns` images in a row."""
        self.every = every
        self.latents = latents
        self.condition = condition
        self.columns = columns
        self.last: Tensor | None = None
        """The newest grid of the first average on rank 0, uint8 [N, C, H, W] on the CPU."""

    def happen(self, game: Game, records: Records) -> None:
        """Made by each averaged generator, whose batch statistics are measured now."""
        if not game.processes.is_first and not game.sharded:  # nothing is communicated: others go on
            return
        for name, average in game.averages.items():
            network = average.ready()
            if not game.processes.is_first:
                continue
            images = generate(network, self.latents, self.condition)
            which = "" if average is game.average else f"-{name}"
            records.picture(images, f"{game.images_seen:012d}{which}.png", game.images_seen, self.columns)
            if average is game.average:
                self.last = images


class Checkpoints(Event):
    """The game's state."""

    name = "the checkpoint"
    at_stop = True
    saves = True

    def __init__(self, every: int) -> None:
        self.every = every
        self.wanted = False
        """Whether another event has asked for one now."""

    def is_due(self, game: Game) -> bool:
        return self.wanted or super().is_due(game)

    def happen(self, game: Game, records: Records) -> None:
        """Takes a snapshot now, which is written while training goes on."""
        self.wanted = False
        if game.processes.is_first or game.sharded:  # else the state is the same on all
            state = game.state()
            if game.processes.is_first:
                records.checkpoint(game.images_seen, state)
