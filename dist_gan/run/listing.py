"""What is in a run's folder. Nothing here needs a lock (or `fcntl`, which not every system has)."""

import os
import re
from pathlib import Path

from dist_gan.errors import InputOutputError

CHECKPOINT = re.compile(r"images-[0-9]{12,}")
"""The name of a checkpoint's folder."""


def checkpoints_in(parent: Path) -> list[Path]:
    """The folders below `parent` that are named as checkpoints are, the oldest first. Raises as `entries_of`."""
    return sorted(parent / e.name for e in entries_of(parent) if CHECKPOINT.fullmatch(e.name) and e.is_dir())


def runs_below(folder: Path) -> list[Path]:
    """The runs' folders below `folder`, in alphabetical order; those inside of a run are not looked for."""
    if (folder / "status.json").is_file():
        return [folder]
    try:
        inner = sorted(entry.name for entry in entries_of(folder) if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []
    return [run for name in inner for run in runs_below(folder / name)]


def entries_of(folder: Path) -> list[os.DirEntry[str]]:
    """The entries of `folder`; empty where it does not exist. Raises InputOutputError where it cannot be read."""
    try:
        with os.scandir(folder) as found:
            return list(found)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise unreadable(folder, error) from None


def unreadable(path: Path, error: OSError) -> InputOutputError:
    """The error that ends a run where something exists but cannot be read."""
    return InputOutputError(
        f"{path} cannot be read ({error.strerror}). Nothing was changed: give the same command again when it can"
    )
