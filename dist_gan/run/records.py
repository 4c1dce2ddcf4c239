"""What a run writes: metrics, pictures, checkpoints, its status. Rank 0 writes; other ranks have a silent twin."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from dist_gan.console import Console
from dist_gan.metrics.health import Finding
from dist_gan.run.checkpoint import Writer, existing
from dist_gan.run.folder import RunFolder
from dist_gan.run.scores import images_of, read_scores
from dist_gan.run.tracker import Tracker
from dist_gan.sampling.pictures import save_grid


class Records:
    """The silent twin: every method does nothing."""

    last_checkpoint: Path | None = None
    services: str = ""
    """Where metrics go, as text."""
    upload: str = ""
    """The command that uploads to W&B what was written offline; empty where there is nothing to upload."""
    sampling: str = ""
    """The command that makes more pictures."""

    def metrics(self, images_seen: int, metrics: Mapping[str, float]) -> None:
        """One line of metrics."""

    def scores(self, images_seen: int, numbers: Mapping[str, float], best: tuple[str, bool] | None) -> bool:
        """What an evaluation has found. `best`: by which number checkpoints are compared, and whether a higher one is
        better. Returns whether the game as it is now is better than every checkpoint by it."""
        return False

    def picture(self, images: Tensor, name: str, images_seen: int | None = None, columns: int | None = None) -> None:
        """A grid of images uint8 [N, C, H, W]; also passed to trackers where `images_seen` is given."""

    def note(self, images_seen: int, finding: Finding) -> None:
        """What is wrong with the run: a warning and a line of notes.jsonl, once for each kind and run."""

    def checkpoint(self, images_seen: int, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
        """A snapshot of the game, written while training goes on."""

    def status(self, state: str, **details: object) -> None:
        """Replace status.json."""

    def wait(self) -> None:
        """Wait until the checkpoint in progress is written."""

    def close(self) -> None:
        """Send the services what they do not have yet."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """After a second Ctrl-C the services are not waited for."""
        if kind is None or not issubclass(kind, KeyboardInterrupt):
            self.close()


class RunRecords(Records):
    """The records that rank 0 writes."""

    def __init__(
        self,
        folder: RunFolder,
        writer: Writer,
        tracker: Tracker,
        console: Console,
        config: str,
        facts: Mapping[str, object],
        own_networks: bool = False,
    ) -> None:
        """`config`: the resolved one; `facts`: what each checkpoint's state.json has besides the images seen;
        `own_networks`: whether they are code of the user's own, which sampling executes only where it is trusted."""
        self.folder = folder
        self.writer = writer
        self.tracker = tracker
        self.console = console
        self.config = config
        self.facts = facts
        self.services = "; ".join(tracker.services)
        self.upload = tracker.upload
        self._noted = {note["kind"] for note in folder.notes()}
        self.sampling = f"python -m dist_gan.sample {folder.path}" + (" trust_code=true" if own_networks else "")

    @property
    def last_checkpoint(self) -> Path | None:  # type: ignore[override]
        """The newest one that is complete."""
        return self.writer.last

    def metrics(self, images_seen: int, metrics: Mapping[str, float]) -> None:
        self.tracker.metrics(images_seen, metrics)

    def scores(self, images_seen: int, numbers: Mapping[str, float], best: tuple[str, bool] | None) -> bool:
        self.folder.score(images_seen, numbers, best)
        self.tracker.metrics(images_seen, numbers)
        if best is None or best[0] not in numbers:
            return False
        key, higher = best
        try:
            known = read_scores(self.folder.path)
            others = [known.get(images_of(path), {}) for path in existing(self.folder.checkpoints)]
        except OSError as error:
            self.console.warn(f"whether this is the best checkpoint is not known ({error})")
            return False
        own, sign = numbers[key], -1 if higher else 1
        return all(sign * own < sign * other[key] for other in others if key in other)

    def picture(self, images: Tensor, name: str, images_seen: int | None = None, columns: int | None = None) -> None:
        """Into samples/. A full disk does not end a run."""
        path = self.folder.samples / name
        try:
            save_grid(images, path, columns)
        except OSError as error:
            self.console.warn(f"{path} was not written ({error.strerror or error}); training goes on")
            return
        if images_seen is not None:
            self.tracker.picture(images_seen, path)

    def note(self, images_seen: int, finding: Finding) -> None:
        if finding.kind not in self._noted:
            self._noted.add(finding.kind)
            self.console.warn(f"health: {finding.text}. {finding.advice}")
            self.folder.note(images_seen, *finding)

    def checkpoint(self, images_seen: int, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
        state: dict[str, Any] = {"images_seen": images_seen, **self.facts}
        self.writer.save(images_seen, tensors, state, self.config)

    def status(self, state: str, **details: object) -> None:
        self.folder.status(state, **details)

    def wait(self) -> None:
        self.writer.wait()

    def close(self) -> None:
        self.tracker.close()
