"""Images that a Python program already has (an array, a tensor or a `torch.utils.data.Dataset`) as a source:
`Config(data=given(images, labels, class_names=("cat", "dog")))`."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import Field, PrivateAttr, model_validator
from torch import Tensor

from dist_gan.data.items import SMALLEST, Items, class_names_of, class_numbers, stack
from dist_gan.data.source import READING, Choose, Dataset, Order, Progress, Reading, Resident, Source, throttled
from dist_gan.data.streamed import Streamed
from dist_gan.errors import ConfigError
from dist_gan.shapes import ImageShape

LIMIT = 1 << 30
"""Bytes of images. The images of a larger Dataset are not kept, but read when they are needed; a larger array stays in
main memory, whatever the device."""
SAMPLED = 64
"""How many items of a Dataset above the limit its fingerprint reads."""


class Given(Source):
    """Images given by a Python program, which must give them again when the run goes on: made by `given(...)`."""

    name: Literal["given"] = "given"
    channels: int = Field(..., ge=1)
    """Channels of an image."""
    height: int = Field(..., ge=SMALLEST)
    """Rows of an image."""
    width: int = Field(..., ge=SMALLEST)
    """Columns of an image."""
    count: int = Field(..., ge=1)
    """How many images there are."""
    labels: bool = False
    """Whether each has a class."""
    class_names: tuple[str, ...] = ()
    """The names of the classes, in the order of their numbers."""
    fingerprint: str
    """Of the images and labels."""

    _held: "_Held | None" = PrivateAttr(None)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.labels != bool(self.class_names):
            raise ValueError("class_names where labels is true, and only there")
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Given) and self.identity() == other.identity()

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    @property
    def shape(self) -> ImageShape:
        return ImageShape(self.channels, self.height, self.width)

    @property
    def has_labels(self) -> bool:
        return self.labels

    def open(self, device: torch.device, reading: Reading = READING) -> Dataset:
        """On the device up to 1 GB; see LIMIT."""
        held = self._held
        if held is None:
            raise ConfigError(
                f"data: this run's {self.count:,} images were given by a Python program, and a configuration does not "
                "hold them. Give the array again: train(config, data=...)"
            )
        if held.images is None:
            assert held.items is not None
            return Streamed(held.items, self.count, self.shape, 0, self.fingerprint, self.class_names)
        if held.images.nbytes <= LIMIT:
            images = held.images.contiguous()
            return Resident(images, held.labels, device, self.fingerprint, self.class_names)
        return _OnHost(held.images, held.labels, torch.device("cpu"), self.fingerprint, self.class_names)


class _Held:
    """The images of a `Given`. Compared by identity: tensors cannot be compared like other fields."""

    def __init__(self, images: Tensor | None, labels: Tensor | None, items: Items | None) -> None:
        """Either images uint8 [M, C, H, W] with labels int64 [M] or None, or items."""
        self.images = images
        self.labels = labels
        self.items = items


class _OnHost(Resident):
    """Images that stay in main memory; batches go to the device."""

    def batches(self, ranges: Iterable[range], order: Order, choose: Choose) -> Iterator[tuple[Tensor, Tensor]]:
        """Looked up in main memory, on whichever device `order` works."""
        return super().batches(ranges, lambda ordinals: order(ordinals).cpu(), choose)


def given(
    data: Any,
    labels: Any = None,
    class_names: Sequence[str] | None = None,
    flip: bool = False,
    progress: Progress = READING.progress,
) -> Given:
    """A source of images that are in memory, or that a Dataset reads.

    Args:
        data: uint8 images as a NumPy array or tensor [M, H, W], [M, H, W, C] or [M, C, H, W], where C is 1, 3 or 4; it
            is not copied and must not change while it is used. Or a `torch.utils.data.Dataset` (anything with a length
            and items by number) of images, or of (image, label): uint8 arrays or tensors [H, W], [H, W, C] or
            [C, H, W], or Pillow images. Its items must be the same each time they are read.
        labels: M class numbers from 0 on. None: those of the Dataset's items. False: none.
        class_names: of the classes. None: the Dataset's `classes`, or the numbers as text.
        flip: mirror each image left to right with probability 1/2.
        progress: called with how far the reading of a Dataset is.

    Returns:
        a Source; its fingerprint is the SHA-256 of all images and labels. Of a Dataset of 1 GB or more, it is of the
        number of items and of 64 of them.

    Raises:
        ConfigError: the data cannot be used as images.
    """
    if isinstance(data, np.ndarray | Tensor):
        images = stack(data)
        numbers = None if labels is None or labels is False else class_numbers(labels, len(images))
        return _made(_Held(images, numbers, None), images.shape, class_names_of(class_names, numbers), flip, progress)
    items = Items(data, labels)
    shape = torch.Size([len(items), *items.shape])
    if shape.numel() < LIMIT:
        images, numbers = _read(items, progress)
        names = class_names_of(class_names or items.names, numbers)
        return _made(_Held(images, numbers, None), shape, names, flip, progress)
    if items.has_labels and items.numbers is None and not (class_names or items.names):
        raise ConfigError("data: a large Dataset with labels needs class_names, as not all its labels are read at once")
    names = tuple(class_names or items.names) if items.numbers is None else class_names_of(class_names, items.numbers)
    items.names = names if items.has_labels else ()
    return _made(_Held(None, None, items), shape, items.names, flip, progress)


def _made(held: _Held, shape: torch.Size, names: tuple[str, ...], flip: bool, progress: Progress) -> Given:
    count, channels, height, width = shape
    source = Given(
        channels=channels,
        height=height,
        width=width,
        count=count,
        labels=bool(names),
        class_names=names,
        fingerprint=_fingerprint(held, shape, progress),
        flip=flip,
    )
    source._held = held
    return source


def _fingerprint(held: _Held, shape: torch.Size, progress: Progress) -> str:
    digest = hashlib.sha256(f"{tuple(shape)}".encode())
    report = throttled(progress)
    if held.images is None:
        assert held.items is not None
        for done in range(SAMPLED):
            item = held.items[done * len(held.items) // SAMPLED]
            digest.update(item.image.numpy().tobytes() + str(item.label).encode())
            report("fingerprinting", done + 1, SAMPLED)
    else:
        step = max(1, (16 << 20) // shape[1:].numel())
        for start in range(0, len(held.images), step):
            block = held.images[start : start + step]
            digest.update(block.cpu().contiguous().numpy().tobytes())
            report("fingerprinting", start + len(block), len(held.images))
    labels = held.labels if held.items is None else held.items.numbers
    if labels is not None:
        digest.update(labels.numpy().tobytes())
    return digest.hexdigest()[:16]


def _read(items: Items, progress: Progress) -> tuple[Tensor, Tensor | None]:
    images = torch.empty(len(items), *items.shape, dtype=torch.uint8)
    labels = torch.empty(len(items), dtype=torch.int64)
    report = throttled(progress)
    for index in range(len(items)):
        images[index], labels[index], _ = items[index]
        report("reading images", index + 1, len(items))
    return images, labels if items.has_labels else None
