"""Which image files are below a folder, and how one is read from a disk or share that may be away for a moment."""

import errno
import os
import stat
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

from dist_gan.errors import ConfigError

T = TypeVar("T")
ENDINGS = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
SYSTEM_FOLDERS = {"__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information"}
"""Folders that systems put beside images. Those of other systems have names that begin with a dot."""
AWAY = {
    getattr(errno, name)
    for name in (
        *("EIO", "ESTALE", "ETIMEDOUT", "ENOTCONN", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH"),
        *("ECONNRESET", "ECONNABORTED", "EREMOTEIO", "ENODEV", "ENXIO", "EAGAIN", "EBUSY"),
    )
    if hasattr(errno, name)
}
"""Error numbers of a share that is away for a moment."""
GONE = AWAY | {errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOTDIR}
"""The same, and those of a file that was there before, while its share is mounted again."""
PAUSE = 0.2  # seconds between two tries
MOMENT = 2.0  # seconds for which a file may be missing that is being replaced by another


class Names:
    """Many names in little memory: their bytes one after the other. Bytes that are not UTF-8 are read as Python's
    surrogate escapes."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._ends = array("q", [0])

    def append(self, name: str) -> None:
        """One more, at the end."""
        self._bytes += os.fsencode(name)
        self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> str:
        return os.fsdecode(bytes(self._bytes[self._ends[index] : self._ends[index + 1]]))

    def __iter__(self) -> Iterator[str]:
        start = 0
        for end in self._ends[1:]:
            yield os.fsdecode(bytes(self._bytes[start:end]))
            start = end


@dataclass
class Found:
    """Image files below `root`, in the order of their paths."""

    root: str
    names: Names = field(default_factory=Names)
    """Paths relative to `root`."""
    sizes: "array[int]" = field(default_factory=lambda: array("q"))
    """Bytes."""
    times: "array[int]" = field(default_factory=lambda: array("q"))
    """When they were last changed, in nanoseconds since 1970."""
    lost: dict[int, str] = field(default_factory=dict)
    """Indices of links whose target is gone, with the reason."""
    skipped: Counter[str] = field(default_factory=Counter)
    """How many names were skipped, for each reason."""

    def path(self, index: int) -> str:
        """The path of file `index`."""
        return os.path.join(self.root, self.names[index])


def shown(path: str | os.PathLike[str]) -> str:
    """`path` as text that every terminal and file can hold: bytes that are not UTF-8 as `\\xff`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def expanded(path: str) -> Path:
    """`path` with `~` and `~user` replaced.

    Raises:
        ConfigError: there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ConfigError(
            f"data.path: {shown(path)} begins with the home folder of a user that this machine does not know. "
            "Give the full path"
        ) from None


def is_skipped(name: str) -> str:
    """Why a file or folder of this name is not data; empty where it may be."""
    if name.startswith("."):
        return "names that begin with a dot"
    return name if name in SYSTEM_FOLDERS else ""


def patiently(
    action: Callable[[], T], patience: float, errors: set[int], is_final: Callable[[OSError], bool] = lambda _: False
) -> T:
    """`action()`, tried again for `patience` seconds while it raises an OSError whose number is among `errors`.

    After an error that `is_final`, it is tried again for `MOMENT` only.
    """
    begun = time.monotonic()
    while True:
        try:
            return action()
        except OSError as error:
            limit = min(patience, MOMENT) if is_final(error) else patience
            if error.errno not in errors or time.monotonic() - begun >= limit:
                raise
        time.sleep(PAUSE)


def read(path: str, patience: float, errors: set[int]) -> bytes:
    """The content of a file; raises OSError after `patience` seconds of trying."""

    def content() -> bytes:
        with open(path, "rb") as file:
            return file.read()

    def is_removed(error: OSError) -> bool:
        """Whether the file is missing, and not all that is in its folder: a share that is away shows an empty one."""
        try:
            with os.scandir(Path(path).parent) as entries:
                return error.errno == errno.ENOENT and next(entries, None) is not None
        except OSError:
            return False

    return patiently(content, patience, errors, is_removed)


def find(root: Path, patience: float = 0) -> Found:
    """All image files below `root`. Links are followed, except one that leads back to a folder above it.

    Raises:
        ConfigError: `root` is not a folder or has no images, or something below it cannot be read.
    """
    endings = ", ".join(sorted(ENDINGS))
    try:
        status = patiently(root.stat, patience, AWAY)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(
            f"data.path: {shown(root)} is not a folder ({reason}). Give a folder of images ({endings})"
        ) from None
    if not stat.S_ISDIR(status.st_mode):
        raise ConfigError(f"data.path: {shown(root)} is not a folder. Give a folder of images ({endings})")
    found = Found(os.fspath(root))
    _Walk(found, patience).folder("", frozenset({_identity(found.root, status)}))
    if len(found.names) == 0:
        skipped = f". {note}" if (note := skipped_note(found.skipped)) else ""
        raise ConfigError(f"data.path: no image below {shown(root)}. Looked for files that end in {endings}{skipped}")
    return found


def skipped_note(skipped: Counter[str]) -> str:
    """One line about what was skipped; empty where nothing was."""
    reasons = ", ".join(f"{shown(reason)} ({count:,})" for reason, count in skipped.most_common())
    return f"{skipped.total():,} skipped: {reasons}" if reasons else ""


class _Entry(NamedTuple):
    """A file or folder that may be data."""

    key: bytes
    """By which those of one folder are sorted, so that all files are found in the order of their whole paths."""
    path: str
    name: str
    """The path relative to the root."""
    status: os.stat_result | None
    """None: a file that cannot be reached."""
    reason: str = ""
    """Why it cannot."""


class _Walk:
    def __init__(self, found: Found, patience: float) -> None:
        self.found = found
        self.patience = patience

    def folder(self, inside: str, above: frozenset[object]) -> None:
        """Look into the folder `inside` the root; `above` are this folder and those that led to it."""
        path = os.path.join(self.found.root, inside) if inside else self.found.root

        def listed() -> list[os.DirEntry[str]]:
            with os.scandir(path) as entries:
                return list(entries)

        try:
            entries = patiently(listed, self.patience, AWAY)
        except OSError as error:
            raise ConfigError(
                f"data.path: the folder {shown(path)} cannot be listed ({error.strerror}). Its images would be "
                "missing: make it readable, or move it out of data.path"
            ) from None
        start = f"{inside}/" if inside else ""
        looked = [found for entry in entries if (found := self.looked_at(entry, start + entry.name))]
        del entries
        for entry in sorted(looked, key=lambda found: found.key):
            self.keep(entry, above)

    def looked_at(self, entry: os.DirEntry[str], name: str) -> _Entry | None:
        """None: neither an image nor a folder."""
        is_image = os.path.splitext(entry.name)[1].lower() in ENDINGS  # noqa: PTH122  # Path takes ten times as long
        if not is_image and entry.is_file(follow_symlinks=False):
            return None
        if reason := is_skipped(entry.name):
            self.found.skipped[reason] += 1
            return None
        key = os.fsencode(entry.name)
        try:
            status = patiently(entry.stat, self.patience, AWAY)
        except OSError as error:
            return _Entry(key, entry.path, name, None, self.unreachable(entry, is_image, error))
        if stat.S_ISDIR(status.st_mode):
            return _Entry(key + b"/", entry.path, name, status)
        return _Entry(key, entry.path, name, status) if is_image else None

    def keep(self, entry: _Entry, above: frozenset[object]) -> None:
        """Keep a file, look into a folder, or skip the entry."""
        status = entry.status
        if status is None:
            self.found.lost[len(self.found.names)] = entry.reason
            self.file(entry.name, 0, 0)
        elif stat.S_ISREG(status.st_mode):
            self.file(entry.name, status.st_size, status.st_mtime_ns)
        elif not stat.S_ISDIR(status.st_mode):
            self.found.skipped["pipes, sockets and devices"] += 1
        elif (identity := _identity(entry.path, status)) in above:
            self.found.skipped["links to a folder that they are in"] += 1
        else:
            self.folder(entry.name, above | {identity})

    def file(self, name: str, size: int, changed: int) -> None:
        self.found.names.append(name)
        self.found.sizes.append(size)
        self.found.times.append(changed)

    def unreachable(self, entry: os.DirEntry[str], is_image: bool, error: OSError) -> str:
        """A broken link may be an image, which can be replaced: the reason. If it was a folder, its images would be
        missing: raises ConfigError."""
        reason = error.strerror or str(error)
        if entry.is_symlink() and error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            reason = f"a link to {shown(Path(entry.path).readlink())}, which is not there"
        if not is_image:
            raise ConfigError(
                f"data.path: {shown(entry.path)} cannot be reached ({reason}). If it was a folder, its images would "
                "be missing: repair or remove it"
            )
        return reason


def _identity(path: str, status: os.stat_result) -> object:
    """The same for two paths to one folder. Some shares give no inode numbers."""
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(path)
