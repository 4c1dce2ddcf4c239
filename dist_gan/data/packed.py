"""A pack: images that are decoded and scaled once, and read at the speed of memory ever after.

    images.npy    uint8 [M, C, H, W]
    labels.npy    int32 [M], where there are classes
    pack.json     count, shape, classes, the SHA-256 of every block of both; written last

`python -m dist_gan.data pack FOLDER out=PACK` makes one from any source, under another name until it is complete.
"""

import hashlib
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import torch

from dist_gan.data.durable import BLOCK, read_json
from dist_gan.data.files import expanded, shown
from dist_gan.data.mapped import MappedSource, check_shape, mapped_array, opened, shared
from dist_gan.data.source import READING, Dataset, Reading, fingerprint, throttled
from dist_gan.errors import ConfigError
from dist_gan.part import free
from dist_gan.shapes import ImageShape

FACTS, IMAGES, LABELS = "pack.json", "images.npy", "labels.npy"
FORMAT = 1
PART = 1 << 18  # bytes
SAMPLED = 16
"""How many blocks are checked each time a pack is opened: the first, the last, and evenly spaced ones."""


class Packed(MappedSource):
    """What `python -m dist_gan.data pack` made: images as they are trained on, mapped into memory.

    The fingerprint is of the content of all images and labels, and was computed when the pack was made. Each start
    checks the sizes of its files and 16 blocks of 16 MB; `python -m dist_gan.data verify PACK` checks every byte.
    """

    name: Literal["packed"] = "packed"
    path: str = free(...)
    """The pack's folder. It may move between starts."""
    labels: bool = False
    """Whether the classes in the pack are used."""

    def open(self, device: torch.device, reading: Reading = READING) -> Dataset:
        path = expanded(self.path)
        facts = _facts(path)
        shape = ImageShape(*facts["shape"])
        check_shape(shape, self.shape, path, ", or pack the images again")
        verify(path, reading, SAMPLED)
        images = shared(_array(path / IMAGES))
        labels, classes = None, tuple(facts["classes"])
        if self.labels:
            if not classes:
                raise ConfigError(f"data.labels: {shown(path)} has no classes. Pack the images again with labels=true")
            labels = shared(_array(path / LABELS))
        mark = fingerprint("packed", facts["count"], facts["shape"], *facts["blocks"].items(), *classes)
        return opened(images, labels, device, self.resident_megabytes, mark, classes if self.labels else ())


def _array(path: Path) -> np.ndarray[Any, Any]:
    return mapped_array(path, "data.path")


def _facts(path: Path) -> dict[str, Any]:
    facts = read_json(path / FACTS)
    if not isinstance(facts, dict) or facts.get("format") != FORMAT or not isinstance(facts.get("blocks"), dict):
        raise ConfigError(
            f"data.path: {shown(path)} is no pack (it has no {FACTS} of format {FORMAT}). Make one: python -m "
            "dist_gan.data pack FOLDER out=PACK"
        )
    return facts


def verify(path: Path, reading: Reading = READING, most: int = 0) -> int:
    """Check the sizes of a pack's files, and their content.

    Args:
        path: the pack's folder.
        reading: where progress goes.
        most: check no more than this many blocks of each file, evenly spaced; 0: all.

    Returns:
        how many images it has.

    Raises:
        ConfigError: it is no pack, or it was cut short or changed.
    """
    facts = _facts(path)
    report = throttled(reading.progress)
    for name, blocks in facts["blocks"].items():
        size, places = facts["bytes"][name], _spread(len(blocks), most)
        try:
            found = (path / name).stat().st_size
            if found != size:
                raise _damaged(path / name, f"it has {found:,} bytes, and had {size:,}")
            with open(path / name, "rb") as file:
                for done, place in enumerate(places, start=1):
                    if _sha256(file, place * BLOCK) != blocks[place]:
                        raise _damaged(path / name, f"the bytes from {place * BLOCK:,} on are others")
                    report("checking blocks", done, len(places))
        except OSError as error:
            raise _damaged(path / name, error.strerror or str(error)) from None
    return int(facts["count"])


def _sha256(file: IO[bytes], start: int) -> str:
    """Of the block that starts there; read in small parts, which leave no large hole in the process's memory."""
    file.seek(start)
    digest = hashlib.sha256()
    for part in range(0, BLOCK, PART):
        digest.update(file.read(min(PART, BLOCK - part)))
    return digest.hexdigest()


def _spread(count: int, most: int) -> list[int]:
    """At most `most` of the numbers from 0 to `count` - 1, with the first and the last; all where `most` is 0."""
    if not most or count <= most:
        return list(range(count))
    return [place * (count - 1) // (most - 1) for place in range(most)]


def _damaged(path: Path, reason: str) -> ConfigError:
    return ConfigError(
        f"data.path: {shown(path)} is not as it was packed: {reason}. Copy it again from where it is whole, or pack "
        "the images again"
    )
