"""What data sources have in common: the batch that everything shares, image shapes, the configuration of a source and
the data sets that sources open."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as Indexed

from dist_gan.part import Part
from dist_gan.shapes import ImageShape


class Batch(NamedTuple):
    """Samples on the device; which ones is said by their ordinals."""

    images: Tensor
    """[N, C, H, W] floating point in [-1, 1]."""
    labels: Tensor
    """[N] int64; empty where the data has none."""
    ordinals: range
    """Which N consecutive samples of the run these are."""


Order = Callable[[range], Tensor]
"""Ordinals of the run -> int64 [n]: indices of the data set."""

Choose = Callable[[range, int], Tensor]
"""Ordinals of the run, k -> int64 [n, k]: k indices of the data set for each, drawn independently."""


class Dataset(ABC):
    """Opened data: `len()` uint8 images of one shape, in an order that never changes."""

    shape: ImageShape
    fingerprint: str
    """Of the content: a run refuses to go on with other data."""
    classes: tuple[str, ...] = ()
    """The classes' names, in the order of their numbers; empty where there are no labels."""
    notes: tuple[str, ...] = ()
    """What is worth saying once, at the start."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def batches(self, ranges: Iterable[range], order: Order, choose: Choose) -> Iterator[tuple[Tensor, Tensor]]:
        """For each range of ordinals: images uint8 [n, C, H, W], labels int64 [n] (or empty)."""


class Resident(Dataset):
    """Data that lies on the device as a whole."""

    def __init__(self, images: Tensor, labels: Tensor | None, device: torch.device, fingerprint: str) -> None:
        """images uint8 [M, C, H, W], labels int64 [M] or None."""
        self.images = images.to(device)
        self.labels = torch.empty(0, dtype=torch.int64, device=device) if labels is None else labels.to(device)
        self.shape = ImageShape(*images.shape[1:])
        self.fingerprint = fingerprint

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, ranges: Iterable[range], order: Order, choose: Choose) -> Iterator[tuple[Tensor, Tensor]]:
        """Looked up on the device."""
        for ordinals in ranges:
            index = order(ordinals)
            yield self.images[index], self.labels[index] if len(self.labels) else self.labels


class Streamed(Dataset):
    """Data that is read by worker processes, ahead of need, in the order of the ordinals."""

    def __init__(
        self, items: Indexed[tuple[Tensor, int]], count: int, shape: ImageShape, workers: int, fingerprint: str
    ) -> None:
        """items[i] -> uint8 [C, H, W], label (negative where there are none)."""
        self.items = items
        self.count = count
        self.shape = shape
        self.workers = workers
        self.fingerprint = fingerprint

    def __len__(self) -> int:
        return self.count

    def batches(self, ranges: Iterable[range], order: Order, choose: Choose) -> Iterator[tuple[Tensor, Tensor]]:
        """Read by the workers; with `workers` 0 in this process."""
        options: dict[str, Any] = {"prefetch_factor": 4} if self.workers else {}
        loader = DataLoader(
            self.items,
            batch_sampler=_Indices(ranges, order),
            num_workers=self.workers,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # its seed for the workers, which draw nothing, not from the global generator
            **options,
        )
        for images, labels in loader:
            yield images, labels if labels[0] >= 0 else labels[:0]


def worker_failure(error: BaseException) -> str:
    """What to tell where `error` says that a worker process died; empty where it does not. torch raises it anywhere."""
    text = str(error).partition("\n")[0]
    signs = ("DataLoader worker", "shared memory(shm)", "shared memory object")
    if not isinstance(error, RuntimeError) or not any(sign in text for sign in signs):
        return ""
    return (
        f"data: a process that reads images died ({text.rstrip('. ')}). Memory may have run out, or /dev/shm (`df -h "
        "/dev/shm`; containers give it 64 MB). Use fewer data.workers, or data.workers=0, which needs neither"
    )


class _Indices:
    """The endless batch sampler: a list of indices for each range of ordinals."""

    def __init__(self, ranges: Iterable[range], order: Order) -> None:
        self.ranges = ranges
        self.order = order

    def __iter__(self) -> Iterator[list[int]]:
        return (self.order(ordinals).tolist() for ordinals in self.ranges)


class Source(Part):
    """Where real images come from, as configuration."""

    flip: bool = False
    """Mirror each image left to right with probability 1/2."""

    @property
    @abstractmethod
    def shape(self) -> ImageShape:
        """Of its images, known before it is opened."""

    @abstractmethod
    def open(self, device: torch.device) -> Dataset:
        """Find (or fetch) the data and read what is small enough onto the device.

        Raises:
            ConfigError: the data is not there, or is not what it should be.
        """


def fingerprint(*parts: object) -> str:
    """16 hexadecimal digits that stand for `parts`."""
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:16]
