"""Images in a `.npy` file, mapped into memory: read at its speed, without workers, and held once by all processes of a
machine."""

import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from dist_gan.data.files import shown
from dist_gan.data.items import stack
from dist_gan.data.source import Choose, Dataset, Order, Resident, Size, Source, sides
from dist_gan.errors import ConfigError
from dist_gan.part import free
from dist_gan.shapes import ImageShape


class MappedSource(Source):
    """A source whose images are in a `.npy` file, and are used as they are."""

    size: Size = 64
    """The side in pixels that its images have, or height x width: 48x64."""
    channels: int = Field(3, ge=1, le=4)
    """The channels that its images have: 1, 3 or 4."""
    labels: bool = False
    """Whether images have classes."""
    resident_megabytes: int = free(1024, ge=0)
    """Images that need less memory than this stay on the device; others stay in the file, which is mapped."""

    @property
    def shape(self) -> ImageShape:
        return ImageShape(self.channels, *sides(self.size))

    @property
    def has_labels(self) -> bool:
        return self.labels


class Mapped(Dataset):
    """Images that stay in a file; the system keeps in memory what there is room for."""

    def __init__(
        self,
        images: Tensor,
        labels: Tensor | None,
        fingerprint: str,
        classes: tuple[str, ...] = (),
        notes: tuple[str, ...] = (),
    ) -> None:
        """images uint8 [M, C, H, W], whose memory may have its channels last; labels integers [M] or None."""
        self.is_channels_last = not images.is_contiguous()
        self.stored = images.permute(0, 2, 3, 1) if self.is_channels_last else images
        """As they are in the file."""
        self.labels = labels
        self.shape = ImageShape(*images.shape[1:])
        self.fingerprint = fingerprint
        self.classes = classes
        self.notes = notes

    def __len__(self) -> int:
        return len(self.stored)

    def batches(self, ranges: Iterable[range], order: Order, choose: Choose) -> Iterator[tuple[Tensor, Tensor]]:
        pinned = torch.cuda.is_available()
        for ordinals in ranges:
            index = order(ordinals).cpu()
            images = torch.empty(len(index), *self.stored.shape[1:], dtype=torch.uint8, pin_memory=pinned)
            torch.index_select(self.stored, 0, index, out=images)
            if self.is_channels_last:
                images = images.permute(0, 3, 1, 2).contiguous()
            yield images, self._labels(index)

    def labels_of(self, ordinals: range, order: Order, choose: Choose) -> Tensor:
        return self._labels(order(ordinals).cpu())

    def class_counts(self) -> dict[str, int] | None:
        if self.labels is None:
            return None
        counts = torch.bincount(self.labels, minlength=len(self.classes)).tolist()
        return dict(zip(self.classes, counts, strict=True))

    def _labels(self, index: Tensor) -> Tensor:
        return torch.empty(0, dtype=torch.int64) if self.labels is None else self.labels.index_select(0, index).long()


def opened(
    images: Tensor,
    labels: Tensor | None,
    device: torch.device,
    megabytes: int,
    fingerprint: str,
    classes: tuple[str, ...],
) -> Dataset:
    """The images on the device, where they are smaller than `megabytes`; else mapped."""
    if images.numel() <= megabytes << 20:
        resident = images.contiguous().clone()  # not the file's memory, which another program could change
        return Resident(resident, None if labels is None else labels.long(), device, fingerprint, classes)
    return Mapped(images, labels, fingerprint, classes)


def mapped_array(path: Path, what: str) -> np.ndarray[Any, Any]:
    """The array of a `.npy` file, not read yet.

    Raises:
        ConfigError: it is not there, is no such file, or is shorter than it says.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray):
            array.close()
            raise ValueError("it is an .npz file")
        return array
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise ConfigError(
            f"{what}: {shown(path)} cannot be used ({reason}). Expected a whole .npy file, as numpy.save writes it, "
            "without objects"
        ) from None


def mapped_images(path: Path) -> Tensor:
    """uint8 [M, C, H, W], a view of the file. Raises ConfigError."""
    array = mapped_array(path, "data.path")
    if not array.flags.c_contiguous:
        raise ConfigError(f"data.path: {shown(path)} is in Fortran's order. Save numpy.ascontiguousarray(images)")
    try:
        return stack(array)
    except ConfigError as error:
        raise ConfigError(f"data.path: {shown(path)}: {str(error).removeprefix('data: ')}") from None


def shared(array: np.ndarray[Any, Any]) -> Tensor:
    """A tensor of an array that is only read, without a copy."""
    with warnings.catch_warnings():  # nothing is written to it here
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(array)


def check_shape(found: ImageShape, wanted: ImageShape, path: Path, instead: str) -> None:
    """Raise ConfigError where the images of `path` are not of the shape that the config says."""
    if tuple(found) == tuple(wanted):
        return
    channels, height, width = found
    size = f"{height}" if height == width else f"{height}x{width}"
    raise ConfigError(
        f"data: the images of {shown(path)} have {channels} channels and {height}x{width} pixels, and the config "
        f"says {wanted[0]} channels and {wanted[1]}x{wanted[2]} pixels. Set data.channels={channels} data.size={size}"
        f"{instead}"
    )
