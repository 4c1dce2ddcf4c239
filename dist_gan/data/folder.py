"""Any folder of images."""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, Field
from torch.utils.data import Dataset as Indexed

from dist_gan.data.decode import Broken, Look, Unclear, decode
from dist_gan.data.files import GONE, Found, expanded, find, is_skipped, read, shown, skipped_note
from dist_gan.data.source import READING, Dataset, Reading, Resident, Size, Source, sides
from dist_gan.data.streamed import Item, Streamed
from dist_gan.data.survey import SEVERAL, Survey, survey
from dist_gan.errors import ConfigError, DataError
from dist_gan.part import free
from dist_gan.shapes import ImageShape


def _background(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch("white|black|#[0-9a-fA-F]{6}", value):
        return value.lower()
    raise ValueError("white, black or '#rrggbb' (in quotes, as # begins a comment in YAML)")


class Folder(Source):
    """All images below a folder, sub-folders included, in the order of their paths.

    The fingerprint of the data is of every file's path below the folder and of every file's *content* (SHA-256), where
    the files have 256 MB or less together; above that, of the path, the size and the time of the last change of every
    file, as reading them all would take too long. The folder itself may move. A copy of a large one must keep the
    times (`cp -a`, `rsync -a`).

    Images of 16 bits, and floats from 0 to 1, are scaled to 8 bits; see `white` for others.
    """

    name: Literal["folder"] = "folder"
    path: str = free(...)
    """The folder. It may move between starts; its files must not change."""
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
    """Whether an image's first sub-folder is its class (numbered in alphabetical order)."""
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

    def open(self, device: torch.device, reading: Reading = READING) -> Dataset:
        """Check every file, and keep all images where they are small together.

        Of files that are read later, only the beginning and the end are checked.
        """
        found = find(expanded(self.path), reading.patience)
        names, labels = classes_of(found) if self.labels else ((), None)
        count = len(found.names)
        is_resident = count * torch.Size(self.shape).numel() <= self.resident_megabytes << 20
        images = torch.empty(count, *self.shape, dtype=torch.uint8) if is_resident else None
        seen = survey(found, self.look, self.skip_broken, images, reading)
        notes = _notes(found, self, seen)
        if images is None:
            items = _Files(found, labels, self, frozenset(seen.broken), reading.patience)
            places = [_next_to(i, seen.broken, count) if i in seen.broken else i for i in range(count)]
            known = torch.tensor([labels[place] for place in places]) if labels else None
            return Streamed(
                items, count, self.shape, self.workers, seen.fingerprint, names, notes, seen.broken, labels=known
            )
        for index in seen.broken:
            other = _next_to(index, seen.broken, count)
            images[index] = images[other]
            if labels:
                labels[index] = labels[other]
        numbers = torch.tensor(labels) if labels else None
        return Resident(images, numbers, device, seen.fingerprint, names, notes)

    def mistakes(self, run: str) -> list[str]:
        try:
            root, folder = expanded(self.path).resolve(), Path(run).expanduser().resolve()
        except ConfigError as error:
            return [str(error)]
        except (OSError, RuntimeError):
            return []
        if not folder.is_relative_to(root) or any(map(is_skipped, folder.relative_to(root).parts)):
            return []
        return [
            f"data.path: the run's folder {shown(folder)} is inside {shown(root)}: the run's own pictures would be "
            "taken for data. Set run to a folder outside of it"
        ]


def _notes(found: Found, source: Folder, seen: Survey) -> tuple[str, ...]:
    notes = [note] if (note := skipped_note(found.skipped)) else []
    if seen.transparent:
        how = "alpha is learnt too" if source.channels == 4 else f"shown on data.background={source.background}"
        notes.append(f"{seen.transparent:,} of {len(found.names):,} images have transparency: {how}")
    if seen.broken:
        files = [shown(found.names[index]) for index in list(seen.broken)[:SEVERAL]]
        more = ", ..." if len(seen.broken) > SEVERAL else ""
        one = len(seen.broken) == 1
        notes.append(
            f"{len(seen.broken)} {'file' if one else 'files'} could not be read and {'is' if one else 'are'} "
            f"replaced: {', '.join(files)}{more}"
        )
    return tuple(notes)


class _Files(Indexed[Item]):
    """Images that are read when they are needed."""

    def __init__(
        self, found: Found, labels: list[int] | None, source: Folder, broken: frozenset[int], patience: float
    ) -> None:
        self.found = found
        self.labels = labels
        self.look = source.look
        self.skips = source.skip_broken
        self.broken = broken
        self.patience = patience

    def __getitem__(self, index: int) -> Item:
        """Image `index`, or the next one that is not broken.

        Only what is in a file decides whether it is broken: every process and every start of a run must see the same.
        A file that cannot be reached is therefore never replaced here.

        Raises:
            DataError: it cannot be read.
        """
        broken: list[int] = []
        for place in [*range(index, len(self.found.names)), *range(index)]:
            try:
                if place not in self.broken:
                    content = read(self.found.path(place), self.patience, GONE)
                    image, _ = decode(content, self.look)
                    return Item(image, self.labels[place] if self.labels else -1, tuple(broken))
            except Broken as error:
                if not self.skips:
                    raise self.error(place, str(error)) from None
            except (OSError, Unclear) as error:
                raise self.error(place, getattr(error, "strerror", "") or str(error)) from None
            broken.append(place)
        raise DataError(f"data: no image below {shown(self.found.root)} can be read any more")

    def error(self, index: int, reason: str) -> DataError:
        """The error where a file that was there at the start cannot be used."""
        return DataError(
            f"data: {shown(self.found.path(index))} cannot be used ({reason}). Put it back as it was, and "
            "the same command goes on. Or begin a new run: repair or remove it first, or set data.skip_broken=true, "
            "which replaces a broken image by the next one"
        )


def _next_to(index: int, broken: dict[int, str], count: int) -> int:
    """The first index after `index`, in a circle, that is not broken."""
    return next(place % count for place in range(index, index + count) if place % count not in broken)


def classes_of(found: Found) -> tuple[tuple[str, ...], list[int]]:
    """The names of the classes, and each file's class.

    Raises:
        ConfigError: a file is in no sub-folder.
    """
    folders = []
    for name in found.names:
        folder, separator, _ = name.partition("/")
        if not separator:
            raise ConfigError(
                f"data.labels: {shown(os.path.join(found.root, name))} is in no sub-folder of {shown(found.root)}, so "
                "it has no class. Move it into one"
            )
        folders.append(folder)
    ordered = sorted(set(folders), key=os.fsencode)
    number = {folder: i for i, folder in enumerate(ordered)}
    return tuple(map(shown, ordered)), [number[folder] for folder in folders]
