"""What a run's folder says. Only files are read: no code of the run, no lock. A run may be training in it."""

import json
import math
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from dist_gan.config.reading import read_yaml
from dist_gan.distributed.timing import VANISHED_SECONDS
from dist_gan.errors import ConfigError, RunError
from dist_gan.optim.names import NAMES
from dist_gan.run.listing import checkpoints_in, entries_of, unreadable
from dist_gan.run.scores import best_first, best_key, images_of, read_scores

GRID = re.compile(rf"(\d+)(?:-({'|'.join(NAMES[1:])}))?\.png")
"""A file of samples: the images seen, and the average where it is not the first."""
SIGNS = ("status.json", "metrics.jsonl", "checkpoints", "samples")
"""A folder with one of these is a run's."""


class Note(NamedTuple):
    """A line of notes.jsonl: what the run noticed about its own health."""

    images: int
    kind: str
    text: str
    advice: str


class Best(NamedTuple):
    """The checkpoint with the best value of the metric that `save.best` names."""

    images: int
    key: str
    value: float


@dataclass
class Run:
    """Everything that a report shows of one run. What a file does not say is empty."""

    path: Path
    label: str
    """Its name in the report; no two runs have the same."""
    status: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    """The resolved one, as plain data."""
    config_text: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """state.json of the newest checkpoint."""
    checkpoints: list[int] = field(default_factory=list)
    """Images, the oldest first."""
    best: Best | None = None
    columns: dict[str, dict[int, float]] = field(default_factory=dict)
    """Metric -> images -> value, by images."""
    broken_lines: int = 0
    """Lines of metrics.jsonl that are no JSON: the last one, while it is being written or where the disk was full."""
    grids: dict[int, Path] = field(default_factory=dict)
    """Images -> the file, by images: of the average of G, or of the first of several."""
    more_grids: dict[str, dict[int, Path]] = field(default_factory=dict)
    """The same of each other average, by its name."""
    real: Path | None = None
    notes: list[Note] = field(default_factory=list)

    @property
    def images_seen(self) -> int:
        """As far as any file says."""
        told = self.status.get("images_seen")
        lines = [max(column, default=0) for column in self.columns.values()]
        return max([told if isinstance(told, int) else 0, *lines, *self.grids, *self.checkpoints])

    @property
    def seconds(self) -> float:
        """In training, without what was lost at restarts: from the speed in each line of metrics."""
        speeds = self.columns.get("images_per_second", {})
        before, total = 0, 0.0
        for images, speed in speeds.items():
            total += (images - before) / speed if speed > 0 else 0.0
            before = images
        return total

    def state(self, now: float) -> str:
        """`running`, `finished`, ...; `vanished` where it says that it runs but is silent. `now`: epoch seconds."""
        said = str(self.status.get("state", "unknown"))
        heard = self.status.get("time")
        times = [float(heard)] if isinstance(heard, int | float) else []
        with suppress(OSError):
            times.append((self.path / "lock").stat().st_mtime)
        silent = now - max(times, default=0.0)
        return "vanished" if said in ("starting", "running") and silent > VANISHED_SECONDS else said


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """The runs in these folders, in this order.

    Raises:
        ConfigError: a folder holds no run, or is named twice.
        InputOutputError: a file is there but cannot be read.
    """
    for path in paths:
        if not path.is_dir():
            raise ConfigError(f"{path} is {'a file' if path.exists() else 'not there'}. Give the folder of a run")
        if not any((path / sign).exists() for sign in SIGNS):
            raise ConfigError(f"{path} holds no run: none of {', '.join(SIGNS)} is in it. Give the folder of a run")
    resolved = [path.resolve() for path in paths]
    for path, real in zip(paths, resolved, strict=True):
        if resolved.count(real) > 1:
            raise ConfigError(f"{path} is given twice. Give each run once")
    return [_read(path, label) for path, label in zip(paths, labels(resolved), strict=True)]


def labels(paths: Sequence[Path]) -> list[str]:
    """The last parts of each path: as few as make all of them different."""
    for count in range(1, max(len(path.parts) for path in paths) + 1):
        found = ["/".join(path.parts[-count:]) for path in paths]
        if len(set(found)) == len(found):
            return found
    return [str(path) for path in paths]


def _read(path: Path, label: str) -> Run:
    run = Run(path, label, _json(path / "status.json"))
    run.config_text, run.config = _config(path)
    _read_checkpoints(run)
    _read_metrics(run)
    samples = {entry.name: Path(entry.path) for entry in entries_of(path / "samples")}
    run.real = samples.get("real.png")
    found: dict[str, dict[int, Path]] = {}
    for name, file in sorted(samples.items()):
        if match := GRID.fullmatch(name):
            found.setdefault(match[2] or "", {})[int(match[1])] = file
    grids = {name: dict(sorted(own.items())) for name, own in sorted(found.items())}
    run.grids = grids.pop("", {})
    run.more_grids = grids
    run.notes = sorted(_notes(path / "notes.jsonl"))
    return run


def _read_checkpoints(run: Run) -> None:
    """The newest facts that can be read, and the best score. A checkpoint is not verified for that."""
    for folder in checkpoints_in(run.path / "checkpoints"):
        images = int(folder.name.removeprefix("images-"))
        state = _json(folder / "state.json")
        if state:
            run.checkpoints.append(images)
            run.facts = state
    scores = read_scores(run.path)
    for best in best_first(run.path, checkpoints_in(run.path / "checkpoints"))[:1]:
        key = best_key(run.path)
        run.best = Best(images_of(best), key, scores[images_of(best)][key])


def _read_metrics(run: Run) -> None:
    columns: dict[str, dict[int, float]] = {}
    for line, whole in _lines(run.path / "metrics.jsonl"):
        images = line.pop("images", None)
        if not isinstance(images, int) or isinstance(images, bool) or images < 0:
            run.broken_lines += 1
            continue
        run.broken_lines += not whole
        for name, value in line.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                with suppress(OverflowError):  # an integer that no float holds
                    columns.setdefault(name, {})[images] = float(value)
    for images, numbers in read_scores(run.path).items():  # `dist_gan.score` writes them nowhere else
        for name, value in numbers.items():
            columns.setdefault(name, {})[images] = value
    run.columns = {name: dict(sorted(column.items())) for name, column in columns.items()}


def _notes(path: Path) -> Iterator[Note]:
    for line, _ in _lines(path):
        if isinstance(images := line.get("images"), int) and line.get("text"):
            yield Note(images, *(str(line.get(key) or "") for key in ("kind", "text", "advice")))


def _lines(path: Path) -> Iterator[tuple[dict[str, Any], bool]]:
    """Each line's object, and whether it is one; an empty one in place of a line that is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.strip():
                    found = _parsed(line)
                    yield found, bool(found)
    except FileNotFoundError:
        return
    except OSError as error:
        raise unreadable(path, error) from None


def _parsed(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _json(path: Path) -> dict[str, Any]:
    """The file's object; empty where there is none, or where it is damaged."""
    return _parsed(_text(path))


def _config(path: Path) -> tuple[str, Mapping[str, Any]]:
    """Of the run: config.resolved.yaml, which is there where config.yaml is the user's own, else config.yaml."""
    text = _text(path / "config.resolved.yaml") or _text(path / "config.yaml")
    try:
        tree = read_yaml(text)
    except ConfigError:
        return text, {}
    return text, tree if isinstance(tree, dict) else {}


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return ""
    except OSError as error:
        raise unreadable(path, error) from None


def finite(values: Iterable[float]) -> list[float]:
    """Those that are neither NaN nor infinite."""
    return [value for value in values if math.isfinite(value)]


def why(error: Exception) -> str:
    """One line of text for any error."""
    lines = str(error).strip().splitlines()
    return " ".join(lines) if isinstance(error, RunError) else f"{type(error).__name__}: {(lines or [''])[0]}"


def when(seconds: Any) -> str:
    """Epoch seconds -> `2026-11-26 18:42 UTC`; empty where it is no time."""
    try:
        return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(float(seconds)))
    except (TypeError, ValueError, OverflowError, OSError):
        return ""
