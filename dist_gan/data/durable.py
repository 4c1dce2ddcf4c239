"""Files that are there completely or not at all: written under another name, synchronized, then renamed. And copies of
what is elsewhere, with their time and SHA-256 beside them.

    NAME         the copy
    NAME.json    {"stamp": [bytes, time], "sha256": of its content, ...}; written last
"""

import contextlib
import hashlib
import json
import os
import platform
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

BLOCK = 16 << 20
"""Bytes that are hashed at once."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to, which becomes `path` at the end; after an error, nothing is left. Raises OSError."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:50]}{_machine()}")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # noqa: PTH101
        os.replace(temporary, path)
        synchronize(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise


def remove_torn(folder: Path) -> None:
    """Remove what `replacing` left in `folder` in processes of this machine that were killed. Only for one that has the
    lock without which nothing is written there: `only_one`."""
    for file in folder.glob(f".*{_machine()}*"):
        file.unlink(missing_ok=True)


def _machine() -> str:
    """A part of the names of unfinished files: a lock may say nothing about the processes of other machines."""
    return f"-{zlib.crc32(platform.node().encode()):08x}-"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def synchronize(folder: Path) -> None:
    """Make renames inside `folder` outlast a power failure, where the file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by `value` as JSON. Raises OSError."""
    with replacing(path) as file:
        file.write(json.dumps(value, indent=1).encode())


def read_json(path: Path) -> Any:
    """What `write_json` wrote; None where it is not there, or is no JSON."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def stamp(path: Path | str) -> list[int]:
    """[bytes, nanoseconds since 1970 of the last change], which changes when the file is written. Raises OSError."""
    status = Path(path).stat()
    return [status.st_size, status.st_mtime_ns]


def record(copy: Path, sha256: str, **facts: Any) -> None:
    """Say beside a copy that it is complete, with other facts about it. Raises OSError."""
    write_json(_beside(copy), {**facts, "stamp": stamp(copy), "sha256": sha256})


def recorded(copy: Path, reads: bool = False) -> dict[str, Any] | None:
    """What `record` wrote beside a copy; None where the copy is not what it was then.

    One that has another time (it was moved, or changed) is read where `reads`, and its content decides; that is for a
    process that may write there. Raises OSError.
    """
    facts = read_json(_beside(copy))
    try:
        now = stamp(copy)
        if not isinstance(facts, dict) or now[0] != facts["stamp"][0]:
            return None
        if now == facts["stamp"]:
            return facts
        if not reads:
            return None
        with open(copy, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != facts["sha256"]:
                return None
    except (FileNotFoundError, KeyError):
        return None
    facts["stamp"] = now
    write_json(_beside(copy), facts)
    return facts


def _beside(copy: Path) -> Path:
    return copy.with_name(f"{copy.name}.json")


def block_hashes(path: Path) -> Iterator[tuple[int, str]]:
    """(bytes, SHA-256) of each `BLOCK` of a file, in order. Raises OSError."""
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            yield len(block), hashlib.sha256(block).hexdigest()
