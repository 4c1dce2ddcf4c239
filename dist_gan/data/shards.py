"""Images in shards, read by the bytes that an index names: what zip files, tar shards and tables have in common."""

import bisect
import errno
import os
import resource
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from io import RawIOBase
from pathlib import Path
from typing import Any

import torch

from dist_gan.data.decode import Broken, Unclear, decode
from dist_gan.data.durable import stamp
from dist_gan.data.files import AWAY, GONE, patiently, shown, skipped_note
from dist_gan.data.from_files import FromFiles, ImageFiles, broken_note, check_broken, dataset_of, transparent_note
from dist_gan.data.index import Index, Shard
from dist_gan.data.jpegs import differs
from dist_gan.data.mapped import shared
from dist_gan.data.source import Dataset, Reading, fingerprint
from dist_gan.data.survey import each
from dist_gan.errors import ConfigError

MOST_OPEN = 256
"""Shards that a process keeps open; of more, each is opened for each read."""


def stay_open(count: int) -> bool:
    """Whether a process may keep this many shards open: at most `MOST_OPEN`, and a quarter of its open files."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return count <= (MOST_OPEN if limit == resource.RLIM_INFINITY else min(MOST_OPEN, limit // 4))


class _Descriptor:
    """A number of an open file, closed when nobody has it any more: it cannot come to mean another file while a thread
    reads."""

    def __init__(self, path: str) -> None:
        self.number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


class Local:
    """A shard on a disk or share."""

    def __init__(self, path: Path, keeps_open: bool = True) -> None:
        """Raises ConfigError where there is no such file."""
        self.path = str(path)
        self.name = str(path.absolute())
        self.keeps_open = keeps_open
        self.file: _Descriptor | None = None
        self.opening = threading.Lock()
        self.expected = ""
        try:
            self.stamp: list[Any] = stamp(path)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(f"data.path: {shown(path)} cannot be read ({reason})") from None
        if not Path(path).is_file():
            raise ConfigError(f"data.path: {shown(path)} is no file")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "file": None, "opening": None}  # another process opens it for itself

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, opening=threading.Lock())

    def read(self, offset: int, size: int) -> bytes:
        """Raises OSError, also where the file is not the one that was opened first. May be called by many threads."""
        file = self._opened()
        try:
            content = os.pread(file.number, size, offset)
            if len(content) < size:
                raise OSError(f"{shown(self.path)} is shorter than it was")
        except OSError:
            with self.opening:
                if self.file is file:
                    self.file = None
            raise
        return content

    def _opened(self) -> _Descriptor:
        with self.opening:
            if self.file is not None:
                return self.file
            file = _Descriptor(self.path)
            status = os.fstat(file.number)
            if [status.st_size, status.st_mtime_ns] != self.stamp:
                raise OSError(f"{shown(self.path)} was changed since the run began")
            if self.keeps_open:
                self.file = file
            return file


class Patient(RawIOBase):
    """A shard as a file to read; errors are waited for, and the last one is kept for those who hide it."""

    def __init__(self, shard: Shard, patience: float) -> None:
        self.shard = shard
        self.patience = patience
        self.size = int(shard.stamp[0])
        self.place = 0
        self.error: OSError | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.place, os.SEEK_END: self.size}[whence]
        if place < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self.place = place
        return place

    def readinto(self, buffer: Any) -> int:
        size = max(0, min(len(buffer), self.size - self.place))
        try:
            buffer[:size] = patiently(lambda: self.shard.read(self.place, size), self.patience, AWAY)
        except OSError as error:
            self.error = error
            raise
        self.place += size
        return size


class Ranges(ImageFiles):
    """Images by the bytes of an index."""

    def __init__(
        self,
        source: FromFiles,
        index: Index,
        shards: Sequence[Shard],
        unwrap: Callable[[bytes], bytes],
        name: Callable[[Shard, int, int], str],
        patience: float,
    ) -> None:
        """`unwrap`: the bytes that the index names -> the image file; `name`: of a file by its shard, its offset, and
        its number in the shard."""
        labels = shared(index.entries["label"]) if source.labels else None
        super().__init__(source, len(index), labels, index.broken)
        self.index = index
        self.shards = shards
        self.unwrap = unwrap
        self.name = name
        self.patience = patience

    def content(self, index: int) -> bytes:
        offset, size, _ = self.index.entries[index].item()
        shard = self.shards[bisect.bisect_right(self.index.firsts, index) - 1]
        return self.unwrap(patiently(lambda: shard.read(offset, size), self.patience, GONE))

    def where(self, index: int) -> str:
        place = bisect.bisect_right(self.index.firsts, index) - 1
        shard = self.shards[place]
        offset = int(self.index.entries["offset"][index])
        try:
            name = self.name(shard, offset, index - self.index.firsts[place])
        except (OSError, ValueError, IndexError):
            name = ""
        return f"{shown(name) if name else f'the image at byte {offset:,}'} in {shown(shard.name)}"


def as_it_is(raw: bytes) -> bytes:
    """For shards whose index names the image files themselves."""
    return raw


def open_shards(
    source: FromFiles,
    index: Index,
    shards: Sequence[Shard],
    options: dict[str, Any],
    unwrap: Callable[[bytes], bytes],
    name: Callable[[Shard, int, int], str],
    device: torch.device,
    reading: Reading,
    notes: Sequence[str] = (),
) -> Dataset:
    """The images of `shards`: on the device where they are small together, else read by workers.

    Args:
        source: its configuration.
        index: where the images are.
        shards: what they are read from.
        options: what the index depends on, beside `labels`.
        unwrap: the bytes that the index names -> the image file.
        name: of a file by its shard, its offset, and its number in the shard: for messages.
        device: for small data.
        reading: how to read.
        notes: what else the user should know.
    """
    kind = source.model_dump()["name"]
    options = {"labels": source.labels, **options}
    for shard, sha256 in zip(shards, index.sha256, strict=True):
        shard.expected = sha256
    files = Ranges(source, index, shards, unwrap, name, reading.patience)
    check_broken(index.broken, len(index), source.skip_broken, files)
    images = source.room(len(index))
    if images is not None:

        def checked(place: int) -> None:
            try:
                if place not in index.broken:
                    images[place] = decode(files.content(place), files.look)[0]
            except Broken as error:  # where the index was made, it could be decoded
                files.broken[place] = str(error)
            except (OSError, Unclear) as error:
                raise ConfigError(f"data.path: {files.where(place)} cannot be used ({error})") from None

        for _ in each(checked, range(len(index)), "reading images", reading.progress):
            pass
        files.broken = dict(sorted(files.broken.items()))
        check_broken(files.broken, len(index), source.skip_broken, files)
    said = [*notes, *([note] if (note := skipped_note(Counter(index.skipped))) else [])]
    if index.transparent:
        said.append(transparent_note(index.transparent, len(index), source))
    if files.broken:
        said.append(broken_note([files.where(place) for place in files.broken]))
    mark = fingerprint(kind, f"skip_broken={source.skip_broken}", sorted(options.items()), *differs(), *index.sha256)
    return dataset_of(files, source, images, device, mark, index.classes if source.labels else (), tuple(said))
