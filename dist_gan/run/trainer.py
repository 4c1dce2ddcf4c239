"""The loop of a run: updates of the game until all images were seen, and the events in between."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext

from dist_gan.console import Console
from dist_gan.data import Batch
from dist_gan.distributed.processes import Processes
from dist_gan.distributed.stopping import Stopping
from dist_gan.distributed.timing import AGREE_SECONDS
from dist_gan.distributed.traffic import Traffic
from dist_gan.game.game import Game
from dist_gan.run.checkpoint import name_of
from dist_gan.run.events import Checkpoints, Event, Metrics, Pictures
from dist_gan.run.records import Records, RunRecords
from dist_gan.run.summary import show_end
from dist_gan.sampling.generate import to_uint8
from dist_gan.sampling.real import like


class Trainer:
    """Runs a game from its first update to its last."""

    def __init__(
        self,
        game: Game,
        batches: Callable[[int], Iterator[Batch]],
        processes: Processes,
        stopping: Stopping,
        images: int,
        metrics: Metrics,
        events: Sequence[Event],
        records: Records,
        console: Console,
    ) -> None:
        """Everything comes as objects.

        Args:
            game: what is trained.
            batches: (images seen) -> this process's batches from there on.
            processes: this process among the others.
            stopping: whether the run was asked to stop.
            images: how many images D sees in all.
            metrics: one of the events.
            events: all of them, in the order in which they happen.
            records: where results are written.
            console: where progress is shown.
        """
        self.game = game
        self.batches = batches
        self.processes = processes
        self.stopping = stopping
        self.pulse = processes.pulse
        self.images = images
        self.metrics = metrics
        self.events = events
        self.records = records
        self.console = console
        self._counted = False
        """Whether what processes send each other in an update has been counted."""
        self._prepared = 0
        """What the game's runner had prepared before the last update."""

    def run(self) -> int:
        """Train until all images were seen or a signal asks to stop; returns that signal's number, or 0.

        In both cases the last state is saved. So it is after an error, unless that came in the middle of an update.
        """
        game = self.game
        begun = time.perf_counter()
        first = game.images_seen
        self.pulse.enter("the start", first)
        self.records.status("running", images_seen=first, images=self.images, processes=self.processes.count)
        if first == 0:
            self._first_pictures()
        game.warm_up_reduction(self.batches(first))
        batches = self._timed(self.batches(first))
        self.console.start(first, self.images)
        self.metrics.start(first)
        self.pulse.armed = True
        try:
            for event in self.events:
                if event.was_missed(game) and not self.stopping.agreed:
                    self._happen(event)
            while game.images_seen < self.images and not self.stopping.agreed:
                self._update(batches, first)
                self.console.advance(game.images_seen)
                self.stopping.after_update()
                done = game.images_seen >= self.images
                for event in self.events:  # a long one may find that the run is to stop
                    if event.is_due(game) or (done and event.at_end) or (self.stopping.agreed and event.at_stop):
                        self._happen(event)
        except Exception:
            self._save_what_is_good(first)
            raise
        finally:
            self.console.stop()
        stop = self.stopping.agreed
        self.pulse.enter("the end", game.images_seen)
        self.pulse.armed = False  # a last save and what services need may take their time
        with self.stopping.protected():
            self.records.wait()
            reason = f"signal {stop}" if stop else "all images were seen"
            self.records.status("stopped" if stop else "finished", reason=reason, images_seen=game.images_seen)
        if isinstance(self.records, RunRecords):
            show_end(self.console, self.records, self.metrics.last, game.images_seen, first, begun, stop)
        return stop

    def _happen(self, event: Event) -> None:
        self.pulse.enter(event.name, self.game.images_seen)
        with self.stopping.protected() if event.saves else nullcontext():
            event.happen(self.game, self.records)

    def _update(self, batches: Iterator[Batch], first: int) -> None:
        # The first update sets everything up; the second is like every later one, where nothing is prepared any more.
        before, self._prepared = self._prepared, self.game.runner.prepared
        ready = self.game.images_seen > first and before == self._prepared
        if self._counted or self.processes.count == 1 or not ready:
            self.game.update(batches)
            return
        self._counted = True
        with Traffic() as traffic:
            self.game.update(batches)
        totals = traffic.totals()
        for purpose, (collectives, size) in totals.items():
            self.metrics.constant[f"communication/{purpose}/collectives"] = collectives
            self.metrics.constant[f"communication/{purpose}/bytes"] = size
        rows = [(p, f"{c} collective{'s' if c > 1 else ''}, {b:,} bytes") for p, (c, b) in totals.items()]
        rows.append(("now and then", f"the processes agree on whether to stop, every {AGREE_SECONDS:.0f} s"))
        self.console.table("communication of one update", rows)

    def _first_pictures(self) -> None:
        """Real images as D will see them, and what G makes before it has learnt anything."""
        for event in self.events:
            if isinstance(event, Pictures):
                event.happen(self.game, self.records)
                if self.processes.is_first:
                    read = ((to_uint8(batch.images).cpu(), batch.labels) for batch in self.batches(0))
                    real = like(event.condition, len(event.latents), read)
                    self.records.picture(real, "real.png", columns=event.columns)

    def _save_what_is_good(self, first: int) -> None:
        """Save the state after an error, unless it came in the middle of an update, or other processes have parts of
        it, which may be gone."""
        seen = self.game.images_seen
        if not self.game.sharded and self.game.untouched and seen > first and self.processes.is_first:
            self.pulse.armed = False
            with self.stopping.protected():
                self.records.wait()
                if self.records.last_checkpoint is None or self.records.last_checkpoint.name != name_of(seen):
                    Checkpoints(1).happen(self.game, self.records)
                    self.records.wait()

    def _timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        while True:
            begun = time.perf_counter()
            self.pulse.enter("the data", self.game.images_seen)
            batch = next(batches)
            waited = self.metrics.extra.get("seconds_waiting_for_data", 0.0)
            self.metrics.extra["seconds_waiting_for_data"] = waited + time.perf_counter() - begun
            yield batch
