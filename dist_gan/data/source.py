"""What data sources have in common: the batch, the configuration of a source, and the data sets that sources open."""

import hashlib
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import BeforeValidator
from torch import Tensor

from dist_gan.part import Part
from dist_gan.randomness import Ordinals
from dist_gan.shapes import ImageShape


class Batch(NamedTuple):
    """Samples on the device; `ordinals` says which ones."""

    images: Tensor
    """[N, C, H, W] floating point in [-1, 1]."""
    labels: Tensor
    """[N] int64; empty where the data has none."""
    ordinals: range | Ordinals
    """Which N consecutive samples of the run these are."""
    fresh: "Batch | None" = None
    """The real images of G's turn, where it has some of its own."""


Order = Callable[[range], Tensor]
"""Ordinals of the run -> int64 [n]: indices of the data set."""

Choose = Callable[[range, int], Tensor]
"""Ordinals of the run, k -> int64 [n, k]: k indices of the data set for each, drawn independently."""


Progress = Callable[[str, int, int], None]
"""(what is being done, how many are done, how many there are): called from one thread, at most ten times a second."""


def _silent(what: str, done: int, total: int) -> None:
    pass


def throttled(progress: Progress) -> Progress:
    """`progress`, called about ten times a second, and when everything is done."""
    heard = time.monotonic()

    def report(what: str, done: int, total: int) -> None:
        nonlocal heard
        now = time.monotonic()
        if done == total or now - heard >= 0.1:
            progress(what, done, total)
            heard = now

    return report


@dataclass(frozen=True)
class Reading:
    """How data is read. None of it changes what is read."""

    patience: float = 0
    """Seconds during which a file or a share that cannot be reached is tried again."""
    progress: Progress = _silent
    """Called with how far the reading of many files is."""


READING = Reading()


class Dataset(ABC):
    """Opened data: `len()` uint8 images of one shape, in an order that never changes."""

    shape: ImageShape
    fingerprint: str
    """Of the content: a run refuses to go on with other data."""
    classes: tuple[str, ...] = ()
    """The names of the classes: label `i` is `classes[i]`. Empty where there are no labels."""
    notes: tuple[str, ...] = ()
    """What the user should know about the data, one line each, reported once."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def batches(self, ranges: Iterable[range], order: Order, choose: Choose) -> Iterator[tuple[Tensor, Tensor]]:
        """For each range of ordinals: images uint8 [n, C, H, W], labels int64 [n] (or empty)."""

    def labels_of(self, ordinals: range, order: Order, choose: Choose) -> Tensor:
        """int64 [n]: the classes of these samples, as `batches` gives them with their images; empty where there are
        none."""
        return next(self.batches(iter([ordinals]), order, choose))[1]

    def class_counts(self) -> dict[str, int] | None:
        """The name of each class, in the order of their numbers -> how often it is in the data; None where only
        reading it would tell."""
        return None


class Resident(Dataset):
    """Data that is on the device completely."""

    def __init__(
        self,
        images: Tensor,
        labels: Tensor | None,
        device: torch.device,
        fingerprint: str,
        classes: tuple[str, ...] = (),
        notes: tuple[str, ...] = (),
    ) -> None:
        """images uint8 [M, C, H, W], labels int64 [M] or None."""
        self.images = images.to(device)
        self.labels = torch.empty(0, dtype=torch.int64, device=device) if labels is None else labels.to(device)
        self.shape = ImageShape(*images.shape[1:])
        self.fingerprint = fingerprint
        self.classes = classes
        self.notes = notes

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, ranges: Iterable[range], order: Order, choose: Choose) -> Iterator[tuple[Tensor, Tensor]]:
        for ordinals in ranges:
            index = order(ordinals)
            # index_select copies whole images: on a CPU, 8 times as fast as self.images[index]
            yield self.images.index_select(0, index), self.labels[index] if len(self.labels) else self.labels

    def labels_of(self, ordinals: range, order: Order, choose: Choose) -> Tensor:
        return self.labels[order(ordinals)] if len(self.labels) else self.labels

    def class_counts(self) -> dict[str, int] | None:
        if not len(self.labels):
            return None
        counts = torch.bincount(self.labels, minlength=len(self.classes)).tolist()
        return dict(zip(self.classes, counts, strict=True))


class Source(Part):
    """Where real images come from, as configuration."""

    flip: bool = False
    """Mirror each image left to right with probability 1/2."""

    @property
    @abstractmethod
    def shape(self) -> ImageShape:
        """The shape of its images, known before it is opened."""

    @property
    def has_labels(self) -> bool:
        """Whether its images have classes, known before it is opened."""
        return False

    @abstractmethod
    def open(self, device: torch.device, reading: Reading = READING) -> Dataset:
        """Find (or download) the data, and read what is small enough onto the device.

        Raises:
            ConfigError: the data is not there, or is not what it should be.
        """

    def mistakes(self, run: str) -> list[str]:
        """What cannot work when `run` is the run's folder; each says what to change."""
        return []


def _size(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    found = re.fullmatch(r"([0-9]{1,5})(?:x([0-9]{1,5}))?", value) if isinstance(value, str) else None
    if found is None or min(sides := [int(side) for side in found.groups() if side]) < 4:
        raise ValueError("a side of at least 4 pixels, such as 64, or height x width, such as 48x64")
    return sides[0] if len(set(sides)) == 1 else f"{sides[0]}x{sides[1]}"


Size = Annotated[int | str, BeforeValidator(_size)]
"""The side of square images, or `HEIGHTxWIDTH`."""


def sides(size: int | str) -> tuple[int, int]:
    """(height, width) of a valid `Size`."""
    height, _, width = str(size).partition("x")
    return int(height), int(width or height)


def fingerprint(*parts: object) -> str:
    """16 hexadecimal digits that identify `parts`, which may contain file names that are not UTF-8."""
    return hashlib.sha256("\n".join(map(str, parts)).encode(errors="surrogateescape")).hexdigest()[:16]
