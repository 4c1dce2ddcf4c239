"""The small files of a run's folder: replaced as a whole, or grown line by line; a full disk ends nothing."""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dist_gan.distributed.timing import STATUS_SECONDS
from dist_gan.run.listing import unreadable


@contextlib.contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Inside, no other process is inside for this folder, where its file system has locks. Nobody is waited for long:
    whoever holds it may be stopped."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + STATUS_SECONDS
        while time.monotonic() < deadline:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.01)
            except OSError:  # a file system without such locks
                break
        yield
    finally:
        os.close(descriptor)


def text_of(path: Path) -> str:
    """The file's content; empty where there is none. Raises InputOutputError where it exists but cannot be read."""
    try:
        return path.read_text("utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise unreadable(path, error) from None


class RecordFile:
    """A file of records, one a line, each with the images that the run had seen."""

    def __init__(self, path: Path) -> None:
        """Does not touch the disk yet."""
        self.path = path
        self._unwritten: list[str] = []

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a line. If the disk is full, the line is kept and written before the next one."""
        self._unwritten.append(json.dumps(record) + "\n")
        text = "".join(self._unwritten).encode()
        with contextlib.suppress(OSError), open(self.path, "ab", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            if file.write(text) == len(text):
                self._unwritten.clear()
            else:  # no incomplete line
                file.truncate(end)

    def read(self) -> Iterator[dict[str, Any]]:
        """The records that are complete. Raises InputOutputError where the file cannot be read."""
        yield from (record for _, record in self._lines())

    def forget_after(self, images_seen: int) -> None:
        """Remove later records, and an incomplete last line."""
        kept = [line + "\n" for line, record in self._lines() if record["images"] <= images_seen]
        if kept or self.path.exists():
            replace(self.path, "".join(kept))

    def _lines(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for line in text_of(self.path).split("\n"):
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                if isinstance(record, dict) and isinstance(record.get("images"), int):
                    yield line, record


def replace(path: Path, text: str) -> None:
    """Write a file so that there is always the old or the new one. On an OSError nothing else is left."""
    # Ranks that fail at the same time both write: each has a temporary file of its own.
    temporary = path.with_name(f".{path.name}.{os.environ.get('RANK', '0')}.tmp")
    try:
        temporary.write_text(text)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
