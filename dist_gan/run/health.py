"""Says in words when something goes wrong with what a run learns (`track.health`), from what it has at hand anyway.

On rank 0 alone: nothing is communicated, nothing that is learnt depends on it, and it never ends a run. What it says is
in dist_gan/metrics/health.py and health_images.py; how it is shown and kept in `Records.note`.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from dist_gan.config.schema import Config
from dist_gan.data import Batch
from dist_gan.game.game import Game
from dist_gan.metrics.health import Again, Finding, Health, Judge, stalled
from dist_gan.metrics.health_images import checkerboard, constant, copied, gray
from dist_gan.metrics.metric import Metric, Summary
from dist_gan.metrics.symptoms import symptoms
from dist_gan.run.events import Event, Metrics, Pictures
from dist_gan.run.folder import RunFolder
from dist_gan.run.records import Records
from dist_gan.run.resume import ResumePoint
from dist_gan.run.scores import read_scores
from dist_gan.sampling.generate import to_uint8

Batches = Callable[[int], Iterator[Batch]]
"""(images seen) -> a process's batches from there on."""
MOST_REALS = 64
"""Real images that are kept to compare with, at most: as many as a grid usually has."""


def judge_of(config: Config, *, from_noise: bool = True) -> Judge:
    """What of a run must be known to judge it. `from_noise`: whether its metrics begin with a G that has learnt
    nothing."""
    return Judge(
        images_per_update=config.discriminator_turns * config.batch_size,
        batch_size=config.batch_size,
        verdict=config.objective.loss.verdict,
        solved=config.objective.loss.solved,
        from_noise=from_noise,
    )


class Notes:
    """What is needed to judge one start of a run."""

    def __init__(self, config: Config, folder: RunFolder, start: ResumePoint) -> None:
        """Reads the lines of metrics that the run has: what began before a restart is judged as if there was none."""
        lines = list(folder.lines()) if start.images_seen else []
        self.judge = judge_of(config, from_noise=start.parent is None and (not start.images_seen or bool(lines)))
        self.health = Health(self.judge)
        for line in lines:
            self.health.observe(line["images"], line)
        self.health.before = start.images_seen
        self.images = config.images
        self._count = min(MOST_REALS, config.sample.count)
        self._reals: list[Tensor] = []

    def watching(self, batches: Batches) -> Batches:
        """The same batches, of whose first images a copy is kept."""

        def watched(images_seen: int) -> Iterator[Batch]:
            if self._missing() > 0:
                self._reals = []  # the first batch is read several times
            for batch in batches(images_seen):
                if (missing := self._missing()) > 0:
                    self._reals.append(to_uint8(batch.images[:missing]).cpu())
                yield batch

        return watched

    def reals(self) -> Tensor | None:
        """uint8 [N, C, H, W] on the CPU; None before there are enough."""
        return torch.cat(self._reals) if self._reals and self._missing() <= 0 else None

    def _missing(self) -> int:
        return self._count - sum(map(len, self._reals))


def note_events(metrics: Metrics, pictures: Pictures, notes: Notes | None) -> list[Event]:
    """Those that judge what `metrics` and `pictures` have just made; they come after them. `notes`: None on all ranks
    but the first, where nothing happens: the ranks go through the same phases all the same."""
    return [LineNotes(metrics, notes), PictureNotes(pictures, notes)]


class LineNotes(Event):
    """Judges each line of metrics."""

    name = "the notes on the metrics"
    at_stop = True

    def __init__(self, metrics: Metrics, notes: Notes | None) -> None:
        self.metrics = metrics
        self.notes = notes
        self.every = metrics.every

    def happen(self, game: Game, records: Records) -> None:
        if self.notes is None:
            return
        for finding in self.notes.health.observe(game.images_seen, self.metrics.last):
            records.note(game.images_seen, finding)


class PictureNotes(Event):
    """Judges each grid of pictures."""

    name = "the notes on the pictures"

    def __init__(self, pictures: Pictures, notes: Notes | None) -> None:
        self.pictures = pictures
        self.notes = notes
        self.again = Again(notes.judge, notes.images) if notes else None
        self.every = pictures.every

    def happen(self, game: Game, records: Records) -> None:
        if self.notes is None or self.again is None:
            return
        images, reals = self.pictures.last, self.notes.reals()
        if images is None or reals is None or game.images_seen < self.again.patience:
            return
        found = [gray(images, reals), constant(images, reals), checkerboard(images, reals)]
        for finding in self.again.pass_on(game.images_seen, found):
            records.note(game.images_seen, finding)


class Symptoms:
    """Judges what the evaluations of one event have seen, on rank 0."""

    def __init__(self, notes: Notes, folder: RunFolder) -> None:
        self.folder = folder
        self._again: dict[str, Again] = defaultdict(lambda: Again(notes.judge, notes.images))
        """By what is judged: the images, or the number with this name."""
        self._found: list[Finding] = []

    def look(self, metric: Metric, fakes: Summary, reals: Summary) -> None:
        """What a metric is computed of."""
        self._found += symptoms(fakes, reals)

    def note(
        self,
        images_seen: int,
        names: Mapping[str, tuple[str, bool]],
        numbers: Mapping[str, float],
        records: Records,
    ) -> None:
        """Say what was found.

        Args:
            images_seen: by the run.
            names: of all numbers, their short ones, and whether higher is better.
            numbers: what this evaluation gave.
            records: where it is said.
        """
        found: dict[str, list[Finding | None]] = {"": list({f.kind: f for f in self._found}.values())}
        self._found = []
        try:
            history = read_scores(self.folder.path)
        except OSError:
            history = {}
        for key, (name, higher) in names.items():
            if not name.endswith("_std"):
                values = [(images, known[key]) for images, known in history.items() if key in known]
                found[key] = [stalled(values, higher, name)]
            if name == "nearest_ratio" and key in numbers:
                found[""].append(copied(numbers[key]))
        for what, own in found.items():
            for finding in self._again[what].pass_on(images_seen, own):
                records.note(images_seen, finding)
