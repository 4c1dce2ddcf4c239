"""Where each image of shards is: its shard, first byte, length and class, in 16 bytes. Built once, by one process of a
machine, and kept; used again as long as no shard changes.

    indexes/KEY.npy     M entries, mapped into memory: all processes of a machine share them
    indexes/KEY.json    the shards' sizes, times and SHA-256, classes, broken images, the SHA-256 of the entries;
                        written last
"""

import errno
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from dist_gan.data.decode import Broken, Look, Unclear, examine
from dist_gan.data.durable import read_json, replacing, write_json
from dist_gan.data.fetch import data_root, only_one
from dist_gan.data.files import shown
from dist_gan.data.jpegs import channels
from dist_gan.data.source import Reading, throttled
from dist_gan.errors import ConfigError

FORMAT = 1
ENTRY = np.dtype([("offset", "<u8"), ("size", "<u4"), ("label", "<i4")])
AT_ONCE = 1 << 16  # entries that wait to be written
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
    what = json.dumps([FORMAT, kind, [shard.name for shard in shards], options, white])
    folder = data_root() / "indexes"
    path = folder / f"{hashlib.sha256(what.encode(errors='surrogateescape')).hexdigest()[:32]}.npy"
    stamps = [list(shard.stamp) for shard in shards]
    if found := _load(path, stamps):
        return found
    try:
        with only_one(folder):
            if not (found := _load(path, stamps)):  # another process was faster
                _build(path, shards, stamps, scan, white, reading)
                found = _load(path, stamps)
    except OSError as error:
        if error.errno == errno.EIO:
            raise ConfigError(f"data.path: {error.strerror}") from None
        raise ConfigError(
            f"data: the index of the images cannot be made in {shown(folder)} ({error.strerror or error}). Set "
            "DIST_GAN_DATA to a folder with room"
        ) from None
    if not found:
        raise ConfigError(
            f"data: what was written to {shown(folder)} cannot be read again. Look for errors of the disk"
        )
    return found


def _load(path: Path, stamps: list[list[Any]]) -> Index | None:
    """The index at `path`; None where there is none, it is of other shards, or it is damaged."""
    facts = read_json(path.with_suffix(".json"))
    if not isinstance(facts, dict) or facts.get("format") != FORMAT or facts.get("stamps") != stamps:
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


def _build(
    path: Path, shards: Sequence[Shard], stamps: list[list[Any]], scan: Scan, white: float, reading: Reading
) -> None:
    look = Look(3, 4, 4, white=white)
    report = throttled(reading.progress)
    broken: dict[int, str] = {}
    skipped: Counter[str] = Counter()
    labels = _Labels()
    parts: list[Array] = []
    waiting: list[tuple[int, int, int]] = []
    firsts, hashes = [0], []
    transparent = count = 0
    for number, shard in enumerate(shards):
        images = scan(shard, skipped)
        while True:
            try:
                one = next(images)
            except StopIteration as end:
                hashes.append(str(end.value))
                break
            try:
                if one.reason:
                    raise Broken(one.reason)
                if not channels(one.content):  # a usual JPEG needs no second look
                    transparent += examine(io.BytesIO(one.content), look, thoroughly=True)
            except Broken as error:
                broken[count] = str(error)
            except Unclear as error:
                raise ConfigError(f"data.path: {one.name} in {shown(shard.name)}: {error}") from None
            label = -1 if one.label is None else labels.add(one.label, f"{one.name} in {shown(shard.name)}")
            waiting.append((one.offset, one.size, label))
            count += 1
            if len(waiting) == AT_ONCE:
                parts.append(np.array(waiting, ENTRY))
                waiting.clear()
        firsts.append(count)
        report("indexing shards", number + 1, len(shards))
    entries = np.concatenate([*parts, np.array(waiting, ENTRY)])
    if labels.numbers:
        entries["label"] = labels.final()[entries["label"]]
    if not count:
        others = " and others" if len(shards) > 1 else ""
        raise ConfigError(f"data.path: there is no image in {shown(shards[0].name)}{others}")
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
