"""Files that are there completely or not at all: written under another name, synchronized, then renamed."""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

BLOCK = 16 << 20
"""Bytes that are hashed at once."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to, which becomes `path` at the end; after an error, nothing is left. Raises OSError."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:60]}-")
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


def block_hashes(path: Path) -> Iterator[tuple[int, str]]:
    """(bytes, SHA-256) of each `BLOCK` of a file, in order. Raises OSError."""
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            yield len(block), hashlib.sha256(block).hexdigest()
