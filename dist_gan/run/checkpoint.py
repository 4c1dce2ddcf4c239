"""Checkpoints: named tensors to a folder, published by one rename; verified; the newest valid one is found.

    checkpoints/images-000000200000/
      manifest.json         format version, images seen, {file: bytes, sha256}; written last
      state.json            small facts
      config.yaml           the resolved config
      *.safetensors         tensors by name

Nothing here unpickles. No other layout of files is ever read. Files that the manifest does not name are ignored,
because systems put files of their own beside others.

A checkpoint whose content is wrong is *bad*, and is renamed. One that cannot be read (permissions, a share that is
away) is neither valid nor bad: this ends the run, and nothing is changed.
"""

import json
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as serialize_tensors
from torch import Tensor

from dist_gan.errors import CheckpointError
from dist_gan.run.listing import checkpoints_in, entries_of
from dist_gan.run.manifest import MANIFEST, Wrong, manifest_of, read_files
from dist_gan.run.scores import best_first, images_of

SAVING = "save"
"""The name of the thread that writes checkpoints."""
FAILURES = 3
"""This many failed saves in a row end the run; fewer are warnings."""

FACTS = "dist_gan"
"""The key of a tensor file's metadata."""
NEEDED_TO_BUILD = ("image_shape", "classes")
"""What of the state stands in each file of tensors too: with the config that is enough to build the networks."""

Tensors = Mapping[str, Mapping[str, Tensor]]
"""File name without its ending -> tensor name -> tensor."""


class Checkpoint(NamedTuple):
    """A checkpoint's content."""

    path: Path
    tensors: dict[str, dict[str, Tensor]]
    state: dict[str, Any]
    config: str


def name_of(images_seen: int) -> str:
    """The folder's name; sorts by age up to 10^12 images."""
    return f"images-{images_seen:012d}"


def write(parent: Path, images_seen: int, tensors: Tensors, state: Mapping[str, Any], config: str) -> Path:
    """Write a checkpoint and publish it by one rename. On an OSError nothing of it is left.

    Args:
        parent: the folder of checkpoints.
        images_seen: what it is named after.
        tensors: on any device; they are brought to the CPU.
        state: JSON data.
        config: the resolved config as YAML.

    Returns:
        The checkpoint's folder.
    """
    target = parent / name_of(images_seen)
    temporary = parent / f".tmp-{target.name}"
    for stray in parent.glob(".tmp-*"):  # from a failed save that could not be removed
        _remove(stray)
    try:
        temporary.mkdir(parents=True, exist_ok=True)  # a network disk may keep a file of its own in the old one
        # One key: safetensors writes several in an order that differs from save to save.
        facts = {FACTS: json.dumps({key: state[key] for key in NEEDED_TO_BUILD if key in state})}
        files: dict[str, bytes] = {
            f"{file}.safetensors": serialize_tensors({k: v.detach().cpu().contiguous() for k, v in own.items()}, facts)
            for file, own in tensors.items()
        }
        files["state.json"] = json.dumps(state, indent=1).encode()
        files["config.yaml"] = config.encode()
        for file, content in files.items():
            _write_through(temporary / file, content)
        _write_through(temporary / MANIFEST, manifest_of(images_seen, files))
        _sync_folder(temporary)
        temporary.rename(target)  # an OSError where there is one already: what was published is never replaced
        _sync_folder(parent)
    except BaseException:
        _remove(temporary)
        raise
    return target


def verify(path: Path) -> str:
    """What is wrong with the checkpoint at `path`, with the name of the file; empty where it is valid.

    Raises:
        InputOutputError: it cannot be read, so it is not known whether it is valid.
        ConfigError: it was made by another version.
    """
    try:
        read_files(path)
    except Wrong as error:
        return str(error)
    return ""


def read(path: Path) -> Checkpoint:
    """Read a checkpoint, verifying every byte. Raises CheckpointError naming the wrong file, and as `verify`."""
    try:
        files = read_files(path)
        tensors = {
            file.removesuffix(".safetensors"): parse_tensors(content)
            for file, content in files.items()
            if file.endswith(".safetensors")
        }
        return Checkpoint(path, tensors, json.loads(files["state.json"]), files["config.yaml"].decode())
    except (Wrong, UnicodeDecodeError, json.JSONDecodeError, KeyError, SafetensorError) as error:
        raise CheckpointError(f"{path} is no valid checkpoint: {error}") from None


def find(parent: Path, warn: Callable[[str], None]) -> Path | None:
    """The newest valid checkpoint below `parent`; None where there is none at all. What a killed save left is removed.

    One that is not valid is reported through `warn`, renamed to `bad-...` and never used again.

    Raises:
        CheckpointError: there are checkpoints, and none is valid.
        InputOutputError, ConfigError: as `verify`.
    """
    for entry in entries_of(parent):
        stray = parent / entry.name
        if stray.name.startswith((".tmp-", ".trash-")):
            _remove(stray)

    def put_aside(path: Path, problem: str) -> None:
        aside = _free_name(parent / f"bad-{path.name}")
        path.rename(aside)
        warn(f"checkpoint {path.name} is not valid ({problem}); renamed to {aside.name}, an older one is used")

    return newest(parent, put_aside)


def newest(parent: Path, broken: Callable[[Path, str], None]) -> Path | None:
    """The newest valid checkpoint below `parent`; None where there is none at all. Nothing is changed.

    Args:
        parent: the folder of checkpoints.
        broken: called with each newer one that is not valid, and what is wrong with it.

    Raises:
        CheckpointError: there are checkpoints, and none is valid.
        InputOutputError, ConfigError: as `verify`.
    """
    found = existing(parent)
    for path in reversed(found):
        problem = verify(path)
        if not problem:
            return path
        broken(path, problem)
    if found or any(entry.name.startswith("bad-") for entry in entries_of(parent)):
        raise CheckpointError(
            f"none of the checkpoints in {parent} is valid. Restore one from a copy, or start a new run in another "
            "folder with run=..."
        )
    return None


def existing(parent: Path) -> list[Path]:
    """All published checkpoints below `parent`, the oldest first. Raises InputOutputError where it cannot be read."""
    return checkpoints_in(parent)


class Writer:
    """Writes checkpoints while training goes on, one at a time, and keeps the last few."""

    def __init__(
        self, parent: Path, *, keep: int, keep_every: int, warn: Callable[[str], None], keep_best: bool = False
    ) -> None:
        """The `keep` newest ones stay, all at multiples of `keep_every` images (0: none), and with `keep_best` the best
        one by the run's scores.json."""
        self.keep_best = keep_best
        self.parent = parent
        self.keep = keep
        self.keep_every = keep_every
        self.warn = warn
        self.last: Path | None = None
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._left: OSError | None = None
        """Why an old checkpoint could not be deleted."""
        self._failures = 0

    def save(self, images_seen: int, tensors: Tensors, state: Mapping[str, Any], config: str) -> None:
        """Take a snapshot now, write it in the background. An error of the last save is handled first (see `wait`)."""
        self.wait()
        snapshot = {file: {k: v.detach().to("cpu", copy=True) for k, v in own.items()} for file, own in tensors.items()}
        self._thread = threading.Thread(target=self._write, args=(images_seen, snapshot, state, config), name=SAVING)
        self._thread.start()

    def wait(self) -> None:
        """Wait until the save in progress is done. A failed one is a warning; several in a row raise the last error."""
        if self._thread is None:
            return
        self._thread.join()
        self._thread = None
        if self._left is not None:
            self.warn(f"an old checkpoint could not be deleted ({self._left}); tried again after the next")
            self._left = None
        error, self._error = self._error, None
        if error is None:
            self._failures = 0
            return
        self._failures += 1
        if not isinstance(error, OSError) or self._failures >= FAILURES:
            raise error
        kept = f"{self.last.name} stays" if self.last else "there is none yet"
        self.warn(f"a checkpoint could not be written ({error}); {kept}; tried again at the next")

    def _write(self, images_seen: int, tensors: Tensors, state: Mapping[str, Any], config: str) -> None:
        try:
            self.last = write(self.parent, images_seen, tensors, state, config)
            try:
                self._retain()
            except OSError as error:  # the new checkpoint itself is saved
                self._left = error
        except BaseException as error:
            self._error = error

    def _retain(self) -> None:
        there = existing(self.parent)
        best = best_first(self.parent.parent, there)[:1] if self.keep_best else []
        for path in there[: -self.keep]:
            if path not in best and (not self.keep_every or images_of(path) % self.keep_every):
                _discard(path)


def finish_save() -> None:
    """Wait for the checkpoint that this process is writing, so that it is not lost when the process fails."""
    for thread in threading.enumerate():
        if thread.name == SAVING:
            thread.join()


def _write_through(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _discard(path: Path) -> None:
    """Rename, then delete: a kill in between leaves no incomplete checkpoint under a valid name."""
    trash = _free_name(path.parent / f".trash-{path.name}")
    path.rename(trash)
    _remove(trash)


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)


def _free_name(path: Path) -> Path:
    candidate, k = path, 1
    while candidate.exists():
        candidate, k = path.with_name(f"{path.name}-{k}"), k + 1
    return candidate
