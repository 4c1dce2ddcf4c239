"""What the sources of image files have in common, wherever the files are: in a folder, a zip, tar shards or a table."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor
from torch.utils.data import Dataset as Indexed

from dist_gan.data.decode import Broken, Look, Unclear, decode
from dist_gan.data.source import Dataset, Resident, Size, Source, sides
from dist_gan.data.streamed import Item, Streamed, most_broken
from dist_gan.errors import ConfigError, DataError
from dist_gan.part import free
from dist_gan.shapes import ImageShape

SEVERAL = 5  # files named in one message


def _background(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch("white|black|#[0-9a-fA-F]{6}", value):
        return value.lower()
    raise ValueError("white, black or '#rrggbb' (in quotes, as # begins a comment in YAML)")


class FromFiles(Source):
    """A source whose images are files in the formats of images, decoded and scaled by dist_gan."""

    size: Size = 64
    """Side in pixels of the square images that come out, or height x width: 48x64."""
    channels: Literal[1, 3, 4] = 3
    """1 is gray, 3 is RGB, 4 is RGB with an alpha channel that is learnt too."""
    fit: Literal["crop", "stretch", "pad"] = "crop"
    """How an image gets this shape: cut its middle out of the image scaled to cover it; scale each side; or scale it to
    fit inside, with `background` around it."""
    resample: Literal["box", "bilinear", "bicubic", "lanczos"] = "lanczos"
    """Filter of the scaling (Pillow's, which do not alias)."""
    background: Annotated[str, BeforeValidator(_background)] = "white"
    """What is seen through transparent images and around padded ones, with 1 or 3 channels: white, black or '#rrggbb'.
    With 4, the surroundings are transparent."""
    white: float = Field(0, ge=0)
    """The value that is white in images of floats or 32-bit integers (0 is black); 0: 1 for floats, and 32-bit integers
    are refused."""
    labels: bool = False
    """Whether images have classes."""
    skip_broken: bool = False
    """Replace a broken image by the next one (at most 10 images, or 1% of them), instead of ending the run."""
    workers: int = free(2, ge=0)
    """Processes that read images ahead, where the data does not fit `resident_megabytes`; for each training process."""
    resident_megabytes: int = free(1024, ge=0)
    """Images that need less memory than this are read once and stay on the device."""

    @property
    def shape(self) -> ImageShape:
        return ImageShape(self.channels, *sides(self.size))

    @property
    def has_labels(self) -> bool:
        return self.labels

    @property
    def look(self) -> Look:
        """How a file becomes pixels."""
        return Look(*self.shape, self.fit, self.resample, self.background, self.white)

    def room(self, count: int) -> Tensor | None:
        """Memory for `count` images, uint8 [count, C, H, W], where they may stay on the device; else None."""
        if count * torch.Size(self.shape).numel() > self.resident_megabytes << 20:
            return None
        return torch.empty(count, *self.shape, dtype=torch.uint8)


class ImageFiles(Indexed[Item], ABC):
    """Image files that are read when they are needed."""

    def __init__(self, source: FromFiles, count: int, labels: Tensor | None, broken: Mapping[int, str]) -> None:
        """`labels`: integers [count] or None; `broken`: indices of files that cannot be used, and why."""
        self.look = source.look
        self.skips = source.skip_broken
        self.count = count
        self.labels = labels
        self.broken = dict(broken)

    @abstractmethod
    def content(self, index: int) -> bytes:
        """Of file `index`. Raises OSError."""

    @abstractmethod
    def where(self, index: int) -> str:
        """What to call file `index` in a message."""

    def __getitem__(self, index: int) -> Item:
        """Image `index`, or the next one that is not broken.

        Only what is in a file decides whether it is broken: every process and every start of a run must see the same.
        A file that cannot be reached is therefore never replaced here.

        Raises:
            DataError: it cannot be read.
        """
        broken: list[int] = []
        place = index
        for _ in range(self.count):
            try:
                if place not in self.broken:
                    image, _ = decode(self.content(place), self.look)
                    return Item(image, -1 if self.labels is None else int(self.labels[place]), tuple(broken))
            except Broken as error:
                if not self.skips:
                    raise self.error(place, str(error)) from None
            except (OSError, Unclear) as error:
                raise self.error(place, getattr(error, "strerror", "") or str(error)) from None
            broken.append(place)
            place = (place + 1) % self.count
        raise DataError(f"data: no image can be read any more; the first is {self.where(index)}")

    def error(self, index: int, reason: str) -> DataError:
        """The error where a file that was there at the start cannot be used."""
        return DataError(
            f"data: {self.where(index)} cannot be used ({reason}). Put it back as it was, and "
            "the same command goes on. Or begin a new run: repair or remove it first, or set data.skip_broken=true, "
            "which replaces a broken image by the next one"
        )

    def replacement(self, index: int) -> int:
        """The first index after `index`, in a circle, that is not broken."""
        around = (place % self.count for place in range(index, index + self.count))
        return next(place for place in around if place not in self.broken)


def dataset_of(
    files: ImageFiles,
    source: FromFiles,
    images: Tensor | None,
    device: torch.device,
    fingerprint: str,
    classes: tuple[str, ...],
    notes: tuple[str, ...],
) -> Dataset:
    """The opened data: `images`, uint8 [M, C, H, W], on the device, or where that is None, read by workers.

    Images of broken files, and their labels, are replaced by those that follow them."""
    labels = files.labels
    if labels is not None and files.broken:
        labels = labels.clone()
        for index in files.broken:
            labels[index] = files.labels[files.replacement(index)]  # type: ignore[index]  # they are there
    if images is None:
        return Streamed(
            files, files.count, source.shape, source.workers, fingerprint, classes, notes, files.broken, labels
        )
    for index in files.broken:
        images[index] = images[files.replacement(index)]
    return Resident(images, None if labels is None else labels.long(), device, fingerprint, classes, notes)


def broken_note(names: Sequence[str]) -> str:
    """One line about the files of these names, which are replaced."""
    one, more = len(names) == 1, ", ..." if len(names) > SEVERAL else ""
    return (
        f"{len(names)} {'file' if one else 'files'} could not be read and {'is' if one else 'are'} "
        f"replaced: {', '.join(names[:SEVERAL])}{more}"
    )


def transparent_note(transparent: int, count: int, source: FromFiles) -> str:
    """One line about how many images have transparency."""
    how = "alpha is learnt too" if source.channels == 4 else f"shown on data.background={source.background}"
    return f"{transparent:,} of {count:,} images have transparency: {how}"


def check_broken(broken: Mapping[int, str], count: int, skips: bool, files: ImageFiles) -> None:
    """Whether no more files are broken than may be replaced, and one at least is not.

    Raises:
        ConfigError: files cannot be used; it names them.
    """
    limit = most_broken(count) if skips else 0
    if len(broken) <= limit and len(broken) < count:
        return
    named = [f"{files.where(index)} ({reason})" for index, reason in list(broken.items())[:SEVERAL]]
    more = ["and others"] if len(broken) > SEVERAL else []
    listed = f"data.path: {named[0]}" if len(broken) == 1 else "data.path:\n  - " + "\n  - ".join(named + more) + "\n"
    if skips:
        raise ConfigError(
            f"{listed} cannot be used. More than {min(most_broken(count), count - 1)} of {count:,} images are broken, "
            "and data.skip_broken replaces no more. Repair or remove them"
        )
    raise ConfigError(
        f"{listed} cannot be used. Repair or remove what is named, or set data.skip_broken=true, which replaces broken "
        "images by others"
    )
