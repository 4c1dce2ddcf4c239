"""The run: updates of the game until enough images were seen, and the cadence of everything else."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from dist_gan.run.checkpoint import Writer
from dist_gan.console import Console, duration
from dist_gan.data import Batch
from dist_gan.game.game import Game
from dist_gan.game.meter import peak_memory
from dist_gan.distributed.processes import AGREE_SECONDS, Processes
from dist_gan.run.folder import RunFolder
from dist_gan.sampling.generate import generate, sample_latents, save_grid, to_uint8
from dist_gan.run.tracker import Tracker
from dist_gan.distributed.traffic import Wire


@dataclass(frozen=True)
class Cadence:
    """How many images, and how many between two of each kind of event."""

    images: int
    track: int
    sample: int
    save: int
    grid: int
    """Images in a grid."""


@dataclass(frozen=True)
class Desk:
    """What rank 0 alone has: where everything is written."""

    folder: RunFolder
    writer: Writer
    tracker: Tracker
    config: str
    facts: dict[str, object]
    """What each checkpoint's state.json says besides the game's counters."""


class Trainer:
    """Runs a game. It trains, and at the times that the clock (`images_seen`) names, it tells."""

    def __init__(
        self,
        game: Game,
        batches: Callable[[int], Iterator[Batch]],
        processes: Processes,
        cadence: Cadence,
        console: Console,
        desk: Desk | None,
    ) -> None:
        """`batches`: images seen -> this process's batches from there on. `desk`: on rank 0, else None."""
        self.game = game
        self.batches = batches
        self.processes = processes
        self.pulse = processes.pulse
        self.cadence = cadence
        self.console = console
        self.desk = desk
        self._clock = (time.perf_counter(), game.images_seen)
        self._waited = 0.0
        self._metrics: dict[str, float] = {}
        self._wire: dict[str, float] = {}
        self._grid = sample_latents(
            game.seed, range(cadence.grid), game.average.network.latent, processes.device, processes.dtype
        )

    def run(self) -> int:
        """Train until all images were seen or a signal asks to stop; returns that signal's number, or 0.

        Either way the last state is saved and sampled.
        """
        game, cadence = self.game, self.cadence
        begun = time.perf_counter()
        first = game.images_seen
        self.pulse.enter("the start", first)
        self._status("running")
        if first == 0:
            self._first_pictures()
        game.prime(self.batches(first))
        batches = self._timed(self.batches(first))
        self.console.start(first, cadence.images)
        self._clock = (time.perf_counter(), first)
        self.pulse.armed = True
        stop = 0
        try:
            while game.images_seen < cadence.images and not stop:
                # After a first update all is set up, and the next is as every other.
                if self.processes.count > 1 and not self._wire and game.images_seen > first:
                    self._count_an_update(batches)
                else:
                    game.update(batches)
                done = game.images_seen >= cadence.images
                stop = self.processes.stop_after_update()
                if self._due(cadence.track) or done or stop:
                    self._track()
                if self._due(cadence.sample) or done:
                    self._sample()
                if self._due(cadence.save) or done or stop:
                    self._save()
        finally:
            self.console.stop()
        self.pulse.enter("the end", game.images_seen)
        self.pulse.armed = False  # a last save and what services want may take their time
        if self.desk is not None:
            self.desk.writer.wait()
            self._report(time.perf_counter() - begun, game.images_seen - first, stop)
        return stop

    def _due(self, every: int) -> bool:
        """Whether the last update crossed a multiple of `every`."""
        now = self.game.images_seen
        return now // every > (now - self.game.images_per_update) // every

    def _track(self) -> None:
        """Read the meter, on all ranks; write it down, on rank 0."""
        self.pulse.enter("the metrics", self.game.images_seen)
        metrics = self.game.meter.read()
        then, before = self._clock
        now = time.perf_counter()
        seen = self.game.images_seen
        metrics["images_per_second"] = (seen - before) / (now - then)
        metrics["seconds_waiting_for_data"] = self._waited
        metrics |= peak_memory() | self._wire
        self._clock, self._waited = (now, seen), 0.0
        self._metrics = metrics
        if self.desk is not None:
            self.desk.tracker.metrics(seen, metrics)
            last = self.desk.writer.last
            self.console.progress(seen, self.cadence.images, metrics, last.name if last else "")
            self._status("running")

    def _count_an_update(self, batches: Iterator[Batch]) -> None:
        with Wire() as wire:
            self.game.update(batches)
        totals = wire.totals()
        for purpose, (collectives, size) in totals.items():
            self._wire |= {f"wire/{purpose}_collectives": collectives, f"wire/{purpose}_bytes": size}
        rows = [
            (purpose, f"{n} collective{'s' if n > 1 else ''}, {size:,} bytes") for purpose, (n, size) in totals.items()
        ]
        rows.append(("metrics", f"1 collective, every {self.cadence.track:,} images"))
        rows.append(("whether to stop", f"1 collective, about every {AGREE_SECONDS:.0f} s"))
        self.console.table("on the wire in one update", rows)

    def _sample(self) -> None:
        self.pulse.enter("the pictures", self.game.images_seen)
        self.game.measure()
        if self.desk is not None:
            seen = self.game.images_seen
            path = self._picture(generate(self.game.average.network, self._grid), f"{seen:012d}.png")
            if path:
                self.desk.tracker.picture(seen, path)

    def _save(self) -> None:
        self.pulse.enter("the checkpoint", self.game.images_seen)
        state = self.game.state()
        if self.desk is not None:
            facts = {**self.game.counters(), **self.desk.facts}
            self.desk.writer.save(self.game.images_seen, state, facts, self.desk.config)

    def _first_pictures(self) -> None:
        """Real images as D will see them, and what G makes before it has learnt anything."""
        self._sample()
        if self.desk is not None:
            real = next(self.batches(0)).images[: self.cadence.grid]
            self._picture(to_uint8(real).cpu(), "real.png")

    def _picture(self, images: Tensor, name: str) -> Path | None:
        """Where the grid is; None where the disk did not take it, which ends no run."""
        assert self.desk is not None
        path = self.desk.folder.samples / name
        try:
            save_grid(images, path)
        except OSError as error:
            self.console.warn(f"{path} was not written ({error.strerror or error}); training goes on")
            return None
        return path

    def _status(self, state: str, **details: object) -> None:
        if self.desk is not None:
            self.desk.folder.status(
                state,
                **details,
                images_seen=self.game.images_seen,
                images=self.cadence.images,
                images_per_second=self._metrics.get("images_per_second"),
                processes=self.processes.count,
            )

    def _report(self, seconds: float, images: int, stop: int) -> None:
        assert self.desk is not None
        seen, folder = self.game.images_seen, self.desk.folder
        self._status("stopped" if stop else "finished", reason=f"signal {stop}" if stop else "all images were seen")
        saved = self.desk.writer.last
        rows = [
            ("images seen", f"{seen:,} ({images:,} now, {images / seconds:,.0f} a second, in {duration(seconds)})"),
            ("losses", f"D {self._metrics['D/loss']:.3f}, G {self._metrics['G/loss']:.3f}"),
            ("pictures", str(folder.samples)),
            ("checkpoint", str(saved) if saved else "none could be written"),
            ("more pictures", f"python -m dist_gan.sample {folder.path}"),
        ]
        if stop:
            rows.append(("to go on", "the same command again"))
        self.console.table(f"stopped by signal {stop}" if stop else "finished", rows)

    def _timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        while True:
            begun = time.perf_counter()
            self.pulse.enter("the data", self.game.images_seen)
            batch = next(batches)
            self._waited += time.perf_counter() - begun
            yield batch
