"""Where each image of shards is: its shard, first byte, length and class, in 16 bytes. Built once, by one process of a
machine, and kept; used again as long as no shard changes.

    indexes/KEY.npy     M entries, mapped into memory: all processes of a machine share them
    indexes/KEY.json    the shards' sizes, times and SHA-256, classes, broken images, the SHA-256 of the entries;
                        written last
"""

import errno
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from dist_gan.data.decode import Broken, Unclear, whole
from dist_gan.data.durable import read_json, remove_torn, replacing, write_json
from dist_gan.data.fetch import data_root, only_one
from dist_gan.data.files import shown, skipped_note
from dist_gan.data.jpegs import pixels
from dist_gan.data.source import Reading, throttled
from dist_gan.errors import ConfigError

FORMAT = 2
ENTRY = np.dtype([("offset", "<u8"), ("size", "<u4"), ("label", "<i4")])
CHUNK = 256  # images that threads decode at once
HELD = 64 << 20  # bytes of them
FULL = {errno.ENOSPC, errno.EDQUOT}
"""Errors that only writing has."""
MOST_CLASSES = 1 << 20

Array = np.ndarray[Any, Any]


class Shard(Protocol):
    """A file that has many images."""

    name: str
    """Its full path or URL."""
    stamp: list[Any]
    """[bytes, ...], which changes when the file does."""
    expected: str
    """The SHA-256 that it must have where it is fetched again; empty where that is not known."""

    def read(self, offset: int, size: int) -> bytes:
        """That many bytes from `offset` on. Raises OSError."""


class Scanned(NamedTuple):
    """An image that was found in a shard."""

    name: str
    offset: int
    """Of its first byte, where the index shall point to."""
    size: int
    """Bytes from there on."""
    content: bytes
    label: int | str | None = None
    reason: str = ""
    """Why it cannot be used, where that was found already."""


Scan = Callable[[Shard, Counter[str]], Generator[Scanned, None, str]]
"""All images of a shard in order; returns the SHA-256 of the shard. What it skips is counted, by reason."""


@dataclass
class Index:
    """Where M images are."""

    path: Path
    """Of the entries."""
    firsts: list[int]
    """The first image of each shard, and M."""
    sha256: list[str]
    """Of each shard."""
    classes: tuple[str, ...]
    broken: dict[int, str]
    """Images that cannot be used, and why."""
    transparent: int
    """How many images have an alpha channel or transparent colors."""
    skipped: dict[str, int]
    entries: Array = field(repr=False)
    """[M] of ENTRY."""

    def __len__(self) -> int:
        return self.firsts[-1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "entries": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.entries = np.load(self.path, mmap_mode="r")


def index_of(
    kind: str, shards: Sequence[Shard], options: dict[str, Any], scan: Scan, white: float, reading: Reading
) -> Index:
    """The index of `shards`, built if there is none that fits them.

    Args:
        kind: of the source.
        shards: in the order of their images.
        options: what `scan` depends on.
        scan: finds the images of a shard.
        white: as `data.white`.
        reading: where progress goes.

    Raises:
        ConfigError: a shard cannot be used, or the index cannot be written.
    """
    stamps = [list(shard.stamp) for shard in shards]
    what = json.dumps([FORMAT, kind, [shard.name for shard in shards], stamps, options, white])
    folder = data_root() / "indexes"
    path = folder / f"{hashlib.sha256(what.encode(errors='surrogateescape')).hexdigest()[:32]}.npy"
    if found := _load(path):
        return found
    try:
        with only_one(folder):
            remove_torn(folder)
            if not (found := _load(path)):  # another process was faster
                _build(path, shards, stamps, scan, white, reading)
                found = _load(path)
    except OSError as error:
        raise ConfigError(
            f"data: the index of the images cannot be made in {shown(folder)} ({error.strerror or error}). Set "
            "DIST_GAN_DATA to a folder with room"
        ) from None
    if not found:
        raise ConfigError(
            f"data: what was written to {shown(folder)} cannot be read again. Look for errors of the disk"
        )
    return found


def _load(path: Path) -> Index | None:
    """The index at `path`; None where there is none, or it is damaged."""
    facts = read_json(path.with_suffix(".json"))
    if not isinstance(facts, dict):
        return None
    try:
        entries = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if entries.dtype != ENTRY or _sha256(entries) != facts["entries"]:
        return None
    broken = {int(index): reason for index, reason in facts["broken"].items()}
    return Index(
        path,
        facts["firsts"],
        facts["sha256"],
        tuple(facts["classes"]),
        broken,
        facts["transparent"],
        facts["skipped"],
        entries,
    )


def _sha256(entries: Array) -> str:
    return hashlib.sha256(entries.view(np.uint8)).hexdigest()  # type: ignore[arg-type]  # it is a buffer


class _Labels:
    """Classes by number, or by name; not both."""

    def __init__(self) -> None:
        self.numbers: dict[int | str, int] = {}

    def add(self, label: int | str, name: str) -> int:
        """The number of a class, for now."""
        if isinstance(label, int) and not 0 <= label < MOST_CLASSES:
            raise ConfigError(f"data.labels: {name} has the class {label}, expected 0 to {MOST_CLASSES - 1:,}")
        if self.numbers and type(label) is not type(next(iter(self.numbers))):
            raise ConfigError(
                f"data.labels: {name} has the class {label!r}, and others have ones like "
                f"{next(iter(self.numbers))!r}. Give all of them numbers from 0 on, or all of them names"
            )
        return self.numbers.setdefault(label, len(self.numbers))

    def names(self) -> tuple[str, ...]:
        """Of the classes, in their final order."""
        if all(isinstance(label, int) for label in self.numbers):
            return tuple(str(number) for number in range(1 + max(map(int, self.numbers), default=-1)))
        return tuple(sorted(map(str, self.numbers), key=lambda name: name.encode(errors="surrogateescape")))

    def final(self) -> Array:
        """int32: the number for now -> the final number."""
        place = {name: number for number, name in enumerate(self.names())}
        return np.array([place[str(label)] for label in self.numbers], np.int32)


def _chunks(shard: Shard, scan: Scan, skipped: Counter[str], hashes: list[str]) -> Iterator[list[Scanned]]:
    """What `scan` finds, some at once; at the end, the shard's SHA-256 is added to `hashes`.

    Raises:
        ConfigError: the shard cannot be read, or used.
        OSError: what is copied of it cannot be written.
    """

    def scanned() -> Iterator[Scanned]:
        hashes.append((yield from scan(shard, skipped)))

    chunk, held = list[Scanned](), 0
    try:
        for one in scanned():
            chunk.append(one)
            held += len(one.content)
            if len(chunk) == CHUNK or held > HELD:
                yield chunk
                chunk, held = [], 0
    except OSError as error:
        written = Path(str(error.filename or "")).absolute()
        if error.errno in FULL or (written.is_relative_to(data_root().absolute()) and str(written) != shard.name):
            raise
        reason, name = error.strerror or str(error), shown(shard.name)
        raise ConfigError(f"data.path: {reason if name in reason else f'{name} cannot be read ({reason})'}") from None
    yield chunk


def _look_at(one: Scanned, white: float) -> tuple[bool, str, str]:
    """Whether an image has an alpha channel or transparent colors; why it cannot be used; and what is unclear.

    All of it is decoded: training in many processes must not find that another image is broken."""
    try:
        if one.reason or pixels(one.content) is not None:
            return False, one.reason, ""
        return whole(one.content, white)[1], "", ""
    except Broken as error:
        return False, str(error), ""
    except Unclear as error:
        return False, "", str(error)


def _build(
    path: Path, shards: Sequence[Shard], stamps: list[list[Any]], scan: Scan, white: float, reading: Reading
) -> None:
    report = throttled(reading.progress)
    broken: dict[int, str] = {}
    skipped: Counter[str] = Counter()
    labels = _Labels()
    parts: list[Array] = []
    firsts, hashes = [0], list[str]()
    transparent = count = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for number, shard in enumerate(shards):
            for chunk in _chunks(shard, scan, skipped, hashes):
                part = np.full(len(chunk), -1, ENTRY)
                for place, (one, seen) in enumerate(zip(chunk, pool.map(_look_at, chunk, repeat(white)), strict=False)):
                    has_alpha, reason, unclear = seen
                    where = f"{shown(one.name)} in {shown(shard.name)}"
                    if unclear:
                        raise ConfigError(f"data.path: {where}: {unclear}")
                    if reason:
                        broken[count + place] = reason
                    transparent += has_alpha
                    part[place] = one.offset, one.size, -1 if one.label is None else labels.add(one.label, where)
                parts.append(part)
                count += len(chunk)
            firsts.append(count)
            report("indexing shards", number + 1, len(shards))
    entries = np.concatenate(parts)
    if labels.numbers:
        entries["label"] = labels.final()[entries["label"]]
    if not count:
        others = " and others" if len(shards) > 1 else ""
        note = f". {note}" if (note := skipped_note(skipped)) else ""
        raise ConfigError(f"data.path: there is no image in {shown(shards[0].name)}{others}{note}")
    with replacing(path) as file:
        np.save(file, entries)
    write_json(
        path.with_suffix(".json"),
        {
            "format": FORMAT,
            "shards": [shown(shard.name) for shard in shards],
            "stamps": stamps,
            "sha256": hashes,
            "firsts": firsts,
            "classes": labels.names(),
            "broken": broken,
            "transparent": transparent,
            "skipped": skipped,
            "entries": _sha256(entries),
        },
    )
