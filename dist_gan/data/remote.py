"""Shards at a URL that fsspec reads (s3://, gs://, hf://, https://, ...), kept on disk up to a limit.

The first shards of the list are kept, as many as the limit has room for; images of the others are fetched one by one,
by their bytes. So what is on disk never changes while a run uses it, and nothing is fetched twice. A copy has its
SHA-256 beside it, and appears under its name when it is complete.
"""

import errno
import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from dist_gan.data.durable import BLOCK, read_json, replacing, stamp, write_json
from dist_gan.data.fetch import data_root, may_fetch, only_one
from dist_gan.data.files import shown
from dist_gan.errors import ConfigError

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(::[A-Za-z][A-Za-z0-9+.-]*)*://")


def is_url(path: str) -> bool:
    """Whether `path` is a URL, and not the path of a file."""
    return URL.match(path) is not None


def file_system(url: str) -> tuple[Any, str]:
    """fsspec's file system for a URL, and the path in it. Raises ConfigError where a package is missing."""
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise ConfigError(f"data.path: {url} needs the package fsspec: pip install 'dist_gan[data]'") from None
    try:
        system, path = url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"data.path: {url} cannot be read: {error}") from None
    return system, str(path)


def urls_at(url: str, inside: str) -> list[str]:
    """The URLs that one with wildcards, or of a folder with files like `inside`, means; else itself. Raises
    ConfigError."""
    is_pattern = re.search(r"[*?\[]", url) is not None
    if not is_pattern and PurePosixPath(url).suffix:
        return [url]
    system, path = file_system(url)
    try:
        found = system.glob(path if is_pattern else f"{path.rstrip('/')}/{inside}")
    except Exception as error:  # each file system has errors of its own
        raise _unreachable(url, error) from None
    return [str(system.unstrip_protocol(one)) for one in sorted(found)]


def _unreachable(url: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"data.path: {url} cannot be reached ({' '.join(str(error).split()) or type(error).__name__}). Look at the "
        "URL, the network and the credentials"
    )


class Remote:
    """A shard at a URL, and its copy on disk, where it has one."""

    def __init__(self, url: str, is_kept: bool = False) -> None:
        """Raises ConfigError where it cannot be reached."""
        self.name = url
        self.is_kept = is_kept
        self.expected = ""
        """The SHA-256 that it must have; empty where that is not known yet."""
        system, path = file_system(url)
        try:
            facts = system.info(path)
            self.size = int(facts["size"])
            versions = {
                key: str(facts[key]) for key in ("ETag", "etag", "mtime", "LastModified", "sha") if key in facts
            }
        except Exception as error:  # each file system has errors of its own
            raise _unreachable(url, error) from None
        self.stamp: list[Any] = [self.size, versions]
        self.opened: tuple[int, Any, str] = (os.getpid(), system, path)
        self.descriptor: tuple[int, int] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "opened": None, "descriptor": None}

    @property
    def copy(self) -> Path:
        """Where its copy is, or would be: another one for each version of the shard."""
        key = hashlib.sha256(f"{self.name} {self.stamp}".encode()).hexdigest()[:24]
        return data_root() / "shards" / f"{key}-{PurePosixPath(self.name).name[-60:]}"

    def read(self, offset: int, size: int) -> bytes:
        """Raises OSError."""
        if self.is_kept:
            content = os.pread(self._descriptor(), size, offset)
        else:
            content = self._fetched(offset, size)
        if len(content) < size:
            raise OSError(errno.EIO, f"only {len(content):,} of {size:,} bytes came from {self.name}")
        return content

    def _fetched(self, offset: int, size: int) -> bytes:
        if not self.opened or self.opened[0] != os.getpid():  # connections do not survive a fork
            self.opened = (os.getpid(), *file_system(self.name))
        _, system, path = self.opened
        try:
            return bytes(system.cat_file(path, start=offset, end=offset + size)) if size else b""
        except Exception as error:
            if isinstance(error, OSError) and error.errno:
                raise
            raise OSError(errno.EIO, f"{self.name}: {' '.join(str(error).split())}") from None

    def _descriptor(self) -> int:
        """Of the copy, which is made where it is missing or is not what it was."""
        if self.descriptor is None or self.descriptor[0] != os.getpid():
            self._make_sure()
            self.descriptor = (os.getpid(), os.open(self.copy, os.O_RDONLY | os.O_CLOEXEC))
        return self.descriptor[1]

    def __del__(self) -> None:
        if getattr(self, "descriptor", None) and self.descriptor[0] == os.getpid():  # type: ignore[index]  # checked
            os.close(self.descriptor[1])  # type: ignore[index]

    def _make_sure(self) -> None:
        copy = self.copy
        if self._is_whole(copy):
            return
        with only_one(copy.parent):
            if self._is_whole(copy):  # another process was faster
                return
            if not may_fetch():
                raise OSError(errno.ENOENT, f"{self.name} is not on this machine, and nothing is downloaded now")
            digest, place = hashlib.sha256(), 0
            with replacing(copy) as file:
                while place < self.size:
                    block = self._fetched(place, min(BLOCK, self.size - place))
                    if not block:
                        raise OSError(errno.EIO, f"{self.name} ended after {place:,} of {self.size:,} bytes")
                    file.write(block)
                    digest.update(block)
                    place += len(block)
                self._check(digest.hexdigest())
            write_json(_beside(copy), {"stamp": stamp(copy), "sha256": digest.hexdigest()})

    def _is_whole(self, copy: Path) -> bool:
        facts = read_json(_beside(copy))
        try:
            now = stamp(copy)
        except OSError:
            return False
        if not isinstance(facts, dict) or now[0] != self.size:
            return False
        if now != facts.get("stamp"):  # copied, or changed: its content decides
            with open(copy, "rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != facts.get("sha256"):
                    return False
            write_json(_beside(copy), {**facts, "stamp": now})
        return not self.expected or facts.get("sha256") == self.expected

    def _check(self, sha256: str) -> None:
        if self.expected and sha256 != self.expected:
            raise OSError(f"{self.name} is not what it was when its index was made, at the same size and version")


def _beside(copy: Path) -> Path:
    return copy.with_name(f"{copy.name}.json")


def remote_shards(urls: Sequence[str], limit: float) -> list[Remote]:
    """The shards at `urls`, in this order; the first of them, up to `limit` bytes together, are kept on disk.

    Raises:
        ConfigError: one cannot be reached.
    """
    shards = [Remote(url) for url in urls]
    room = limit
    for shard in shards:
        room -= shard.size
        if room < 0:
            break
        shard.is_kept = True
    return shards


def limit_note(shards: Sequence[Remote]) -> list[str]:
    """A line where not all shards are kept."""
    kept = sum(shard.size for shard in shards if shard.is_kept)
    whole = sum(shard.size for shard in shards)
    if kept == whole:
        return []
    return [
        f"{kept / 1e9:.1f} of {whole / 1e9:.1f} GB of shards are kept in {shown(data_root())}; images of the others "
        "are fetched one by one, which is slow: raise data.cache_gigabytes where the disk has room"
    ]
