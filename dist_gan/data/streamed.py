"""Data that is read while it is needed, by worker processes."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as Indexed

from dist_gan.data.source import Choose, Dataset, Order
from dist_gan.errors import DataError, WorkerDied
from dist_gan.shapes import ImageShape


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
        `labels` integers [M], where they are known without reading the images."""
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
        if self.labels is None:
            return super().labels_of(ordinals, order, choose)
        return self.labels[order(ordinals).cpu()].long()


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
