"""A run's folder: its lock, its config, its state, its metrics, and notes on its health.

run/  config.yaml  status.json  metrics.jsonl  scores.json  notes.jsonl  samples/  checkpoints/  lock
      stacks/ (of a run that hung)
"""

import contextlib
import fcntl
import json
import os
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from dist_gan.errors import ConfigError
from dist_gan.run.files import RecordFile, one_at_a_time, replace, text_of
from dist_gan.run.scores import FILE as SCORES
from dist_gan.run.scores import text_compared, text_until, text_with

ENDING = ("reason", "rank", "exit_code")
"""The keys of status.json about how an attempt ended."""
UNDERWAY = ("starting", "running")
"""The states of an attempt that has not ended."""

RESOLVED = "# Everything that this run was configured with, written by it at each start; itself a config.\n"
YAML_STYLE: dict[str, Any] = {"sort_keys": False, "width": 120}
"""How resolved configs are written."""


class RunFolder:
    """The folder of one run, held by one job at a time. Only rank 0 has one open."""

    def __init__(self, path: Path) -> None:
        """Does not touch the disk yet."""
        self.path = path
        self.config = path / "config.yaml"
        self.status_file = path / "status.json"
        self.metrics = path / "metrics.jsonl"
        self.samples = path / "samples"
        self.checkpoints = path / "checkpoints"
        self.stacks = path / "stacks"
        self.scores = path / SCORES
        self.lock_file = path / "lock"
        self._lock: int | None = None
        """The lock file's descriptor, open while the lock is held."""
        self._lines, self._notes = RecordFile(self.metrics), RecordFile(path / "notes.jsonl")

    def check(self) -> None:
        """Raise ConfigError where the folder cannot be made or written in; leave nothing behind."""
        if _is_there(self.path) and not self.path.is_dir():
            raise ConfigError(f"run: {self.path} is a file. Give the folder of a run, or the name of a new one")
        try:
            tempfile.TemporaryFile(dir=self.above).close()  # it has no name: a kill leaves nothing
        except OSError as error:
            raise ConfigError(
                f"run: cannot write in {self.above} ({error.strerror}). Choose another folder with run=..."
            ) from None

    @property
    def above(self) -> Path:
        """The folder itself, or the nearest one above it that exists."""
        return next(folder for folder in [self.path, *self.path.absolute().parents] if _is_there(folder))

    def holder(self) -> str:
        """Which job holds the lock now; empty where none does. The lock is not taken."""
        try:
            with open(self.lock_file) as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # for a moment, and shared with others that look
                except BlockingIOError:
                    return lock.read().strip() or "unknown"
        except OSError:
            pass
        return ""

    def held_by(self, holder: str) -> str:
        """The message to a second job."""
        return (
            f"run: another job trains in {self.path}: {holder or 'unknown'}. Wait for it, stop it, or choose another "
            "folder with run=..."
        )

    def hold(self) -> None:
        """Make the folder and lock it until `release` or the end of this process.

        Raises:
            ConfigError: another job holds it; the message names host, pid and job.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(lock, 1000).decode(errors="replace").strip()
            os.close(lock)
            raise ConfigError(self.held_by(holder)) from None
        except OSError as error:
            os.close(lock)
            raise ConfigError(
                f"run: file locks do not work in {self.path} ({error.strerror}). Choose a folder on another file "
                "system with run=..., or mount this one with locks (Lustre: -o flock)"
            ) from None
        os.ftruncate(lock, 0)
        os.write(lock, f"host {socket.gethostname()}, pid {os.getpid()}, SLURM job {_job() or 'none'}\n".encode())
        self._lock = lock
        _holding.add(self)
        for stray in self.path.glob(".*.tmp"):
            stray.unlink(missing_ok=True)
        for folder in (self.samples, self.checkpoints):
            folder.mkdir(exist_ok=True)

    def release(self) -> None:
        """Release the lock. In a process that was forked, this only closes its copy."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
            _holding.discard(self)

    def begin(self, images_seen: int) -> None:
        """An attempt begins, from a checkpoint of that many images: count it, and whether the one before made any."""
        before = self.read_status()
        again = before.get("began_from_images") == images_seen
        with contextlib.suppress(OSError), one_at_a_time(self.path):
            self._replace_status(
                before,
                "starting",
                images_seen=images_seen,
                began=time.time(),
                began_from_images=images_seen,
                restarts=before.get("restarts", -1) + 1,
                restarts_without_progress=before.get("restarts_without_progress", 0) + 1 if again else 0,
            )

    def status(self, state: str, **details: Any) -> None:
        """Replace status.json: `state` is starting, running, finished, stopped or failed; details are JSON data, and
        what it said before stays where it is not about how an attempt ended.

        On a full disk the old one stays: its checkpoints decide whether a run can go on. And the failure of another
        rank stays: this one may not have noticed it yet, and go on with its update.
        """
        with contextlib.suppress(OSError), one_at_a_time(self.path):
            before = self.read_status()
            if state not in UNDERWAY or before.get("state") != "failed":
                self._replace_status(before, state, **details)

    def _replace_status(self, before: Mapping[str, Any], state: str, **details: Any) -> None:
        kept = {key: value for key, value in before.items() if key not in ENDING}
        here = {"job": _job(), "host": socket.gethostname(), "pid": os.getpid(), "time": time.time()}
        replace(self.status_file, json.dumps({**kept, "state": state, **details, **here}, indent=1) + "\n")

    def read_status(self) -> dict[str, Any]:
        """status.json; empty where there is none. Raises InputOutputError where it cannot be read."""
        try:
            found = json.loads(text_of(self.status_file))
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def write_config(self, text: str) -> Path:
        """Replace config.yaml by the resolved one, YAML `text`; returns the file that was written.

        A config.yaml that was not written by this, or changed since, is the user's own: it stays, and the resolved one
        becomes config.resolved.yaml beside it.
        """
        resolved = self.config.with_name("config.resolved.yaml")
        if self.config.exists() and not _is_resolved(self.config):
            replace(resolved, RESOLVED + text)
            return resolved
        replace(self.config, RESOLVED + text)
        resolved.unlink(missing_ok=True)
        return self.config

    def write_classes(self, names: Sequence[str]) -> None:
        """Replace classes.txt: the name of class `i` in line `i`, the first being 0."""
        replace(self.path / "classes.txt", "".join(f"{name}\n" for name in names))

    def score(self, images_seen: int, numbers: Mapping[str, float], best: tuple[str, bool] | None = None) -> None:
        """Add numbers to scores.json; see `text_with`. On a full disk the old one stays."""
        with contextlib.suppress(OSError), one_at_a_time(self.path):
            replace(self.scores, text_with(self.path, images_seen, numbers, best))

    def compare_by(self, best: tuple[str, bool] | None) -> None:
        """From now on the best checkpoint is the one with the best value of this number; None: none is."""
        with contextlib.suppress(OSError), one_at_a_time(self.path):
            if (text := text_compared(self.path, best)) is not None:
                replace(self.scores, text)

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a line to metrics.jsonl. If the disk is full, the line is kept and written before the next one."""
        self._lines.append(record)

    def note(self, images_seen: int, kind: str, text: str, advice: str) -> None:
        """Add a line to notes.jsonl, likewise: what is wrong with the run, and what to try."""
        self._notes.append({"images": images_seen, "kind": kind, "text": text, "advice": advice})

    def lines(self) -> Iterator[dict[str, Any]]:
        """The lines of metrics.jsonl. Raises InputOutputError where it cannot be read."""
        return self._lines.read()

    def notes(self) -> list[dict[str, Any]]:
        """The lines of notes.jsonl: images, kind, text, advice. Raises InputOutputError where it cannot be read."""
        return [record for record in self._notes.read() if {"kind", "text", "advice"} <= record.keys()]

    def forget_after(self, images_seen: int) -> None:
        """Remove metrics, notes and scores after `images_seen`, which a run that goes on writes again, and incomplete
        last lines."""
        for records in (self._lines, self._notes):
            records.forget_after(images_seen)
        if (scores := text_until(self.path, images_seen)) is not None:
            replace(self.scores, scores)


def _is_there(path: Path) -> bool:
    """Whether it exists. Python 3.11 raises where the folder above cannot be searched."""
    try:
        return path.exists()
    except OSError:
        return False


_holding: set[RunFolder] = set()
"""The folders whose lock this process holds."""


def _forked() -> None:
    """A process that reads images may outlive this one for seconds when it is killed: it must not hold the lock."""
    for folder in list(_holding):
        folder.release()


os.register_at_fork(after_in_child=_forked)


def _is_resolved(path: Path) -> bool:
    """Whether a config is as a run wrote it, with nothing added by hand."""
    try:
        head, _, body = path.read_text().partition("\n")
        return f"{head}\n" == RESOLVED and yaml.safe_dump(yaml.safe_load(body), **YAML_STYLE) == body
    except (ValueError, yaml.YAMLError):
        return False


def _job() -> str | None:
    """SLURM's name for this job: what `scontrol` and `scancel` take."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")
