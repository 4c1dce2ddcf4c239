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
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as Indexed

from dist_gan.errors import DataError, WorkerDied
from dist_gan.part import Part
from dist_gan.shapes import ImageShape


class Batch(NamedTuple):
    """Samples on the device; `ordinals` says which ones."""

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
            yield self.images[index], self.labels[index] if len(self.labels) else self.labels

    def labels_of(self, ordinals: range, order: Order, choose: Choose) -> Tensor:
        return self.labels[order(ordinals)] if len(self.labels) else self.labels


class Item(NamedTuple):
    """One image of streamed data."""

    image: Tensor
    """uint8 [C, H, W]"""
    label: int
    """Negative where there are none."""
    broken: tuple[int, ...] = ()
    """Indices of the images that could not be used and that this one replaces."""


class Streamed(Dataset):
    """Data that is read by worker processes, ahead of need, in the order of the ordinals."""

    def __init__(
        self,
        items: Indexed[Item],
        count: int,
        shape: ImageShape,
        workers: int,
        fingerprint: str,
        classes: tuple[str, ...] = (),
        notes: tuple[str, ...] = (),
        broken: Iterable[int] = (),
        labels: Tensor | None = None,
    ) -> None:
        """`items[i]` raises DataError where image `i` cannot be read; `broken` are known to be replaced already;
        `labels` int64 [M], where they are known without reading the images."""
        self.labels = labels
        self.items = _Caught(items)
        self.count = count
        self.shape = shape
        self.workers = workers
        self.fingerprint = fingerprint
        self.classes = classes
        self.notes = notes
        self.broken = set(broken)
        """Indices of the images that were replaced by others, as far as this process knows."""

    def __len__(self) -> int:
        return self.count

    def batches(self, ranges: Iterable[range], order: Order, choose: Choose) -> Iterator[tuple[Tensor, Tensor]]:
        """Read by the workers; with `workers` 0 in this process.

        Raises:
            DataError: an image cannot be read, or too many were replaced.
        """
        options: dict[str, Any] = {"prefetch_factor": 4} if self.workers else {}
        loader = DataLoader(
            self.items,
            batch_sampler=_Indices(ranges, order),
            num_workers=self.workers,
            collate_fn=_collate,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # its seed for the workers, which draw nothing, not from the global generator
            **options,
        )
        for read in _handed_over(loader) if self.workers else loader:
            if isinstance(read, str):
                raise DataError(read)
            images, labels, broken = read
            self.broken.update(broken)
            if len(self.broken) > most_broken(self.count):
                raise DataError(
                    f"data: {len(self.broken)} of {self.count:,} images are broken, more than data.skip_broken "
                    f"replaces ({most_broken(self.count)}). Repair or remove them"
                )
            yield images, labels if labels[0] >= 0 else labels[:0]

    def labels_of(self, ordinals: range, order: Order, choose: Choose) -> Tensor:
        if not self.classes:
            return torch.empty(0, dtype=torch.int64)
        return super().labels_of(ordinals, order, choose) if self.labels is None else self.labels[order(ordinals).cpu()]


def _handed_over(loader: Iterable[Any]) -> Iterator[Any]:
    """What the workers read. One that dies while it hands over a batch is a connection that ends, and is no worker's
    failure to torch yet."""
    try:
        yield from loader
    except (OSError, EOFError) as error:
        if "in DataLoader worker process" in str(error):  # raised there, by a dataset of the user's own
            raise
        raise _worker_died(str(error) or type(error).__name__) from error


class _Caught(Indexed[Item]):
    """Batches of items, or the text of a DataError: an error of a worker would come with the tracebacks of two
    processes."""

    def __init__(self, items: Indexed[Item]) -> None:
        self.items = items

    def __getitems__(self, indices: list[int]) -> list[Item] | str:
        """Called by the DataLoader. Ends at the first error, for which it may have waited long."""
        try:
            return [self.items[index] for index in indices]
        except DataError as error:
            return str(error)


def _collate(items: list[Item] | str) -> tuple[Tensor, Tensor, list[int]] | str:
    if isinstance(items, str):
        return items
    images, labels, broken = zip(*items, strict=True)
    return torch.stack(images), torch.tensor(labels), [index for indices in broken for index in indices]


def most_broken(count: int) -> int:
    """How many of `count` images may be broken where broken ones are replaced."""
    return max(10, count // 100)


def worker_died(error: BaseException) -> WorkerDied | None:
    """What `error` means where torch found that a worker process died, which it raises anywhere; None otherwise."""
    text = str(error).partition("\n")[0]
    signs = ("DataLoader worker", "shared memory(shm)", "shared memory object")
    if isinstance(error, WorkerDied):
        return error
    return _worker_died(text) if isinstance(error, RuntimeError) and any(sign in text for sign in signs) else None


def _worker_died(text: str) -> WorkerDied:
    return WorkerDied(
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
