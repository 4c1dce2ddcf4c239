"""A checkpoint's manifest: the format, and the size and SHA-256 of each file. Reads the files and verifies them."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dist_gan.errors import ConfigError, InputOutputError

FORMAT = 2
MANIFEST = "manifest.json"
LARGEST_MANIFEST = 2**20
"""Bytes; the manifest limits the sizes of all other files."""
NOT_A_NAME = {"", ".", ".."}
OLD = (
    "was made by dist_gan 0.1, and this version cannot go on from it (the key piece is called microbatch now, and "
    "other things are saved). Use version 0.1 for it, or begin another run with run=..."
)
"""The message about a checkpoint of format 1."""


class Wrong(Exception):
    """The content of a checkpoint is not as its manifest says; the message names the file."""


def manifest_of(images_seen: int, files: Mapping[str, bytes]) -> bytes:
    """The manifest's content, for files by name."""
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "images_seen": images_seen,
        "files": {file: {"bytes": len(content), "sha256": _digest(content)} for file, content in files.items()},
    }
    manifest["sha256"] = _digest(_canonical(manifest))
    return json.dumps(manifest, indent=1).encode()


def read_files(path: Path) -> dict[str, bytes]:
    """All files that the manifest names, verified.

    Raises:
        Wrong: the content of one is wrong, or one is missing.
        InputOutputError: one cannot be read, so it is not known whether it is valid.
        ConfigError: another version made the checkpoint.
    """
    raw = _read_at_most(path / MANIFEST, LARGEST_MANIFEST)
    try:
        manifest = json.loads(raw)
        own = manifest.pop("sha256")
        if raw != json.dumps({**manifest, "sha256": own}, indent=1).encode() or own != _digest(_canonical(manifest)):
            raise ValueError("its content and its own SHA-256 differ")
        version = int(manifest["format"])
        files = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in manifest["files"].items()}
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise Wrong(f"{MANIFEST}: {error or type(error).__name__}") from None
    if version != FORMAT:
        newer = f"has format {version}, and this version of dist_gan reads format {FORMAT}: use the one that wrote it"
        raise ConfigError(f"{path} {OLD if version == 1 else newer}")
    for name in files:
        if name in NOT_A_NAME or Path(name).name != name:
            raise Wrong(f"{MANIFEST}: {name!r} leaves the folder")
    contents = {}
    for name, (size, digest) in files.items():
        content = _read_at_most(path / name, size)
        if len(content) != size:
            raise Wrong(f"{name}: {len(content)} bytes, expected {size}")
        if _digest(content) != digest:
            raise Wrong(f"{name}: SHA-256 differs from the manifest's")
        contents[name] = content
    return contents


def _read_at_most(path: Path, size: int) -> bytes:
    """The file's content. Raises Wrong, before it reads anything, where there is more than `size` bytes."""
    with _reading(path), open(path, "rb") as file:
        found = os.fstat(file.fileno()).st_size
        if found > size:
            raise Wrong(f"{path.name}: {found} bytes, expected {size} at most")
        return file.read(found)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """A file that does not exist is wrong; one that exists but cannot be read may be valid."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise Wrong(f"{path.name}: {error.strerror}") from None
    except OSError as error:
        raise InputOutputError(
            f"{path} cannot be read ({error.strerror}). Nothing was changed: give the same command again when it can. "
            f"If it never can, move {path.parent} away, and the checkpoint before it is used"
        ) from None


def _canonical(manifest: Mapping[str, Any]) -> bytes:
    return json.dumps(manifest, sort_keys=True).encode()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
