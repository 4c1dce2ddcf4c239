"""Shards at a URL that fsspec reads (s3://, gs://, hf://, https://, ...), kept on disk up to a limit.

The first shards of the list are kept, as many as the limit has room for; images of the others are fetched one by one,
by their bytes. So what is on disk never changes while a run uses it, and nothing is fetched twice. A copy has its
SHA-256 beside it, and appears under its name when it is complete.
"""

import errno
import hashlib
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from dist_gan.data.durable import BLOCK, record, recorded, remove_torn, replacing
from dist_gan.data.fetch import data_root, may_fetch, only_one
from dist_gan.data.files import shown
from dist_gan.data.shards import Local, stay_open
from dist_gan.errors import ConfigError

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(::[A-Za-z][A-Za-z0-9+.-]*)*://")
WEB = re.compile(r"(?:.*::)?https?://[^/?#]*(?P<path>[^?#]*)(?P<query>\?.*)?")
VERSIONS = {
    *("etag", "md5", "md5hash", "md5checksum", "contentmd5", "digest", "sha", "sha256", "blobid", "xethash", "crc32c"),
    *("mtime", "modified", "lastmodified", "modifiedtime", "modify", "lastwritetime", "updated", "created"),
    *("generation", "versionid"),
}
"""What file systems call that which changes when a file is written, in small letters without - and _. Not the last
commit of a repository, which changes with any of its files."""
LOOK_AGAIN = 600.0
"""Seconds after which a shard that is not kept is looked at again: whether it is still the same version."""


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
    is_pattern = _wildcard(url) >= 0
    if not is_pattern and not _is_folder(url, PurePosixPath(inside).suffix):
        return [url]
    system, path = file_system(url)
    try:
        found = system.glob(path if is_pattern else f"{path.rstrip('/')}/{inside}")
    except Exception as error:  # each file system has errors of its own
        raise _unreachable(url, error) from None
    return [str(system.unstrip_protocol(one)) for one in sorted(found)]


def folder_of(url: str) -> str:
    """The part of a URL that is not searched, as it begins what `urls_at` finds: before the first folder or name with
    wildcards, or all of it."""
    place = _wildcard(url)
    system, path = file_system(url if place < 0 else url[:place].rpartition("/")[0])
    return str(system.unstrip_protocol(path))


def _wildcard(url: str) -> int:
    """Where the first one is; -1 where there is none. On the web, `?` begins a query, in which there are none."""
    web = WEB.fullmatch(url)
    if found := re.search(r"[*\[]", web["path"]) if web else re.search(r"[*?\[]", url):
        return found.start() + (web.start("path") if web else 0)
    return -1


def _is_folder(url: str, ending: str) -> bool:
    if web := WEB.fullmatch(url):  # whether it is one would be found out by downloading it
        return not web["query"] and (web["path"].endswith("/") or not PurePosixPath(web["path"]).suffix)
    if url.endswith(ending):
        return False
    system, path = file_system(url)
    try:
        return bool(system.isdir(path))
    except Exception as error:  # each file system has errors of its own
        raise _unreachable(url, error) from None


def _unreachable(url: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"data.path: {url} cannot be reached ({' '.join(str(error).split()) or type(error).__name__}). Look at the "
        "URL, the network and the credentials"
    )


class Remote:
    """A shard at a URL, and its copy on disk, where it has one."""

    def __init__(self, url: str, is_kept: bool = False, stays_open: bool = True) -> None:
        """Raises ConfigError where it cannot be reached."""
        self.name = url
        self.is_kept = is_kept
        self.stays_open = stays_open
        self.expected = ""
        """The SHA-256 that it must have; empty where that is not known yet."""
        system, path = file_system(url)
        try:
            self.stamp = _version(system.info(path))
        except Exception as error:  # each file system has errors of its own
            raise _unreachable(url, error) from None
        self.size = int(self.stamp[0])
        self.looked = time.monotonic()
        self.opened: tuple[int, Any, str] | None = (os.getpid(), system, path)
        self.local: Local | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "opened": None}

    @property
    def copy(self) -> Path:
        """Where its copy is, or would be: another one for each version of the shard."""
        key = hashlib.sha256(f"{self.name} {self.stamp}".encode()).hexdigest()[:24]
        return data_root() / "shards" / f"{key}-{PurePosixPath(self.name).name[-60:]}"

    def read(self, offset: int, size: int) -> bytes:
        """Raises OSError."""
        if not self.is_kept:
            return self._fetched(offset, size)
        if self.local is not None:
            try:
                return self.local.read(offset, size)
            except OSError:  # it was removed, or another process found it damaged and made it again
                pass
        self._make_sure()
        self.local = Local(self.copy, self.stays_open)
        return self.local.read(offset, size)

    def _fetched(self, offset: int, size: int) -> bytes:
        if time.monotonic() - self.looked > LOOK_AGAIN:
            self._look_again()
        system, path = self._system()
        try:
            content = bytes(system.cat_file(path, start=offset, end=offset + size)) if size else b""
        except Exception as error:
            raise self._failed(error) from None
        if len(content) < size:
            raise OSError(errno.EIO, f"only {len(content):,} of {size:,} bytes came from {self.name}")
        if len(content) > size:
            raise OSError(
                errno.EIO,
                f"{len(content):,} bytes came from {self.name} where {size:,} were asked for: its server sends no "
                "parts of files",
            )
        return content

    def _look_again(self) -> None:
        system, path = self._system()
        try:
            system.invalidate_cache()
            now = _version(system.info(path))
        except Exception as error:
            raise self._failed(error) from None
        if now != self.stamp:
            raise OSError(errno.EIO, f"{self.name} was changed since the run began")
        self.looked = time.monotonic()

    def _system(self) -> tuple[Any, str]:
        if not self.opened or self.opened[0] != os.getpid():  # connections do not survive a fork
            self.opened = (os.getpid(), *file_system(self.name))
        return self.opened[1:]

    def _failed(self, error: Exception) -> OSError:
        if isinstance(error, OSError) and error.errno:
            return error
        return OSError(errno.EIO, f"{self.name}: {' '.join(str(error).split())}")

    def _make_sure(self) -> None:
        """Make the copy where it is missing, or is not what it was."""
        copy = self.copy
        if self._is_right(recorded(copy)):
            return
        with only_one(copy.parent):
            if self._is_right(recorded(copy, reads=True)):  # another process was faster, or it was moved
                return
            if not may_fetch():
                raise OSError(errno.ENOENT, f"{self.name} is not on this machine, and nothing is downloaded now")
            remove_torn(copy.parent)
            digest = hashlib.sha256()
            with replacing(copy) as file:
                for place in range(0, self.size, BLOCK):
                    block = self._fetched(place, min(BLOCK, self.size - place))
                    file.write(block)
                    digest.update(block)
                self._look_again()
                if self.expected and digest.hexdigest() != self.expected:
                    raise OSError(
                        f"{self.name} is not what it was when its index was made, at the same size and version"
                    )
            record(copy, digest.hexdigest())

    def _is_right(self, facts: dict[str, Any] | None) -> bool:
        return bool(
            facts and facts["stamp"][0] == self.size and (not self.expected or facts["sha256"] == self.expected)
        )


def _version(facts: dict[str, Any]) -> list[Any]:
    """[bytes, what else changes when the file does], of fsspec's facts about a file."""
    versions = {
        key: str(value)
        for key, value in sorted(facts.items())
        if value is not None and re.sub(r"[-_]", "", key).lower() in VERSIONS
    }
    return [int(facts["size"]), versions]


def remote_shards(urls: Sequence[str], limit: float) -> list[Remote]:
    """The shards at `urls`, in this order; the first of them, up to `limit` bytes together, are kept on disk.

    Raises:
        ConfigError: one cannot be reached.
    """
    shards = [Remote(url, stays_open=stay_open(len(urls))) for url in urls]
    room = limit
    for shard in shards:
        room -= shard.size
        if room < 0:
            break
        shard.is_kept = True
    return shards


def notes_on(shards: Sequence[Remote]) -> list[str]:
    """A line where not all shards are kept, and `version_note`."""
    kept = sum(shard.size for shard in shards if shard.is_kept)
    whole = sum(shard.size for shard in shards)
    if kept == whole:
        return version_note(shards)
    return [
        f"{kept / 1e9:.1f} of {whole / 1e9:.1f} GB of shards are kept in {shown(data_root())}; images of the others "
        "are fetched one by one, which is slow: raise data.cache_gigabytes where the disk has room",
        *version_note(shards),
    ]


def version_note(shards: Sequence[Remote]) -> list[str]:
    """A line where a change of shards at the same size would not be noticed."""
    without = [shard.name for shard in shards if not shard.stamp[1]]
    if not without:
        return []
    return [
        f"{len(without)} of {len(shards)} files at URLs have no time, hash or version there, such as {without[0]}: one "
        "that is replaced by another of the same size is not noticed"
    ]
