"""Lines about the run's folder: whether it can be used, what is in it, whether there is room."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dist_gan.checkup.lines import Line, Mark, Problem
from dist_gan.config.schema import Config
from dist_gan.formatting import size
from dist_gan.run import checkpoint
from dist_gan.run.folder import RunFolder
from dist_gan.run.resume import ResumePoint, preview

PROBE = 2**24
"""Bytes that are written to a file without a name, to see whether there is room for them."""


@contextmanager
def beacon(folder: RunFolder, *, first: bool) -> Iterator[Path | None]:
    """Rank 0's file that all others must see, in the folder or the nearest that exists above it; removed at the end."""
    if not first:
        yield None
        return
    try:
        file = tempfile.NamedTemporaryFile(dir=folder.above, prefix=".doctor-")  # noqa: SIM115  # the finally is below
    except OSError:  # another line reports that the folder cannot be written in
        yield None
        return
    with file:
        yield Path(file.name if folder.path.is_absolute() else os.path.relpath(file.name))


def sees(path: Path | None, *, first: bool) -> Line:
    """Whether this rank sees rank 0's file; an empty line where there is none."""
    if path is None or first:
        return Line("")
    deadline = time.monotonic() + 2  # network file systems may show it late
    while not path.exists():
        if time.monotonic() > deadline:
            return Line(
                f"{path.parent.absolute()} is not the folder that rank 0 sees",
                Mark.PROBLEM,
                "run=... on a file system that all nodes see: all ranks read the checkpoint from which a run goes on",
            )
        time.sleep(0.1)
    return Line("")


def usable(folder: RunFolder) -> Line:
    """Whether the folder can be created and written in, and whether locks work there. Leaves nothing behind."""
    folder.check()
    above = folder.above
    try:
        with tempfile.TemporaryFile(dir=above) as file:
            begun = time.perf_counter()
            file.write(os.urandom(PROBE))
            file.flush()
            os.fsync(file.fileno())
            seconds = time.perf_counter() - begun
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise Problem(
                    f"file locks do not work in {above} ({error.strerror})",
                    "run=... on another file system, or mount this one with locks (Lustre: -o flock)",
                ) from None
    except OSError as error:
        raise Problem(
            f"{size(PROBE)} cannot be written in {above} ({error.strerror})",
            "free some space, check your quota, or choose another folder with run=...",
        ) from None
    return Line(f"{folder.path}: can be written ({size(PROBE / seconds)}/s), and locks work")


def beginning(config: Config, folder: RunFolder, data: str | None) -> tuple[Line, ResumePoint]:
    """Whether a run would begin there, and from which image it would go on."""
    broken: list[str] = []
    start = preview(config, folder, data, lambda path, problem: broken.append(f"{path.name} is not valid ({problem})"))
    if start.checkpoint is None:
        found = "a new run"
    else:
        found = f"goes on from {start.images_seen:,} images ({start.checkpoint})"
    if start.images_seen >= config.images:
        return Line(
            f"{found}: this is all of them, nothing is left to train", Mark.ADVICE, "set more with images=..."
        ), start
    if broken:
        advice = "the run would rename it and go on from the one before; check the disk and the file system"
        return Line(f"{found}; {'; '.join(broken)}", Mark.ADVICE, advice), start
    return Line(found), start


def room(config: Config, folder: RunFolder, one: int) -> Line:
    """Free space against what all checkpoints, of `one` bytes each, will need."""
    stay = config.images // config.save.keep_every if config.save.keep_every else 0
    there = len(checkpoint.existing(folder.checkpoints)) if folder.path.is_dir() else 0
    count = config.save.keep + stay + 1  # a new one is written before an old one is deleted
    needed = max(1, count - there) * one
    free = shutil.disk_usage(folder.above).free
    kept = f"keep {config.save.keep}" + (f", {stay:,} of keep_every" if stay else "")
    found = f"checkpoints of {size(one)}: at most {count:,} ({kept}, 1 being written) need {size(count * one)}"
    found += f" ({there} exist already)" if there else ""
    if needed > free:
        return Line(
            f"{found}; {size(free)} are free",
            Mark.PROBLEM,
            "free some space, choose another disk with run=..., or keep fewer with save.keep= and save.keep_every=",
        )
    return Line(f"{found}; {size(free)} are free")
