"""Any folder of images."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from PIL import Image, ImageOps
from pydantic import Field
from torch import Tensor
from torch.utils.data import Dataset as Indexed

from dist_gan.data.source import Dataset, Resident, Source, Streamed, fingerprint
from dist_gan.errors import ConfigError
from dist_gan.part import free
from dist_gan.shapes import ImageShape

T = TypeVar("T")
ENDINGS = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
MODES = {1: "L", 3: "RGB"}


class Folder(Source):
    """All images below a folder, sub-folders included, in the order of their paths."""

    name: Literal["folder"] = "folder"
    path: str = free(...)
    """The folder. It may move between starts; its files may not change."""
    size: int = Field(64, ge=4)
    """Side in pixels of the square images that come out."""
    channels: Literal[1, 3] = 3
    """1 is grey, 3 is RGB."""
    fit: Literal["crop", "stretch"] = "crop"
    """How an image becomes a square: cut its middle out of the image scaled to the shorter side, or scale each side."""
    resample: Literal["box", "bilinear", "bicubic", "lanczos"] = "lanczos"
    """Filter of the scaling (Pillow's, which do not alias)."""
    labels: bool = False
    """Whether an image's first sub-folder is its class (numbered in alphabetical order)."""
    workers: int = free(2, ge=0)
    """Processes that read images ahead, where the data does not fit `resident_megabytes`; for each training process."""
    resident_megabytes: int = free(1024, ge=0)
    """Data that is smaller than this, decoded, is read once and stays on the device."""

    @property
    def shape(self) -> ImageShape:
        """A square."""
        return ImageShape(self.channels, self.size, self.size)

    def open(self, device: torch.device) -> Dataset:
        """Look at every file's header, and read all of them where they are few."""
        root = Path(self.path).expanduser()
        files = _files(root)
        classes = _classes(root, files) if self.labels else None
        identity = fingerprint(*(f"{file.relative_to(root).as_posix()} {file.stat().st_size}" for file in files))
        items = _Files(files, classes, self)
        if len(files) * self.channels * self.size**2 <= self.resident_megabytes << 20:
            images, labels = zip(*_each(items.__getitem__, range(len(files))), strict=True)
            return Resident(torch.stack(images), torch.tensor(labels) if classes else None, device, identity)
        _each(_check_header, files)
        return Streamed(items, len(files), self.shape, self.workers, identity)


class _Files(Indexed[tuple[Tensor, int]]):
    def __init__(self, files: list[Path], classes: list[int] | None, source: Folder) -> None:
        self.files = files
        self.classes = classes
        self.source = source

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return _decode(self.files[index], self.source), self.classes[index] if self.classes else -1


def _files(root: Path) -> list[Path]:
    if not root.is_dir():
        raise ConfigError(f"data.path: {root} is not a folder. Give a folder of images ({', '.join(sorted(ENDINGS))})")
    found = [
        Path(folder) / name
        for folder, _, names in os.walk(root, followlinks=True)
        for name in names
        if Path(name).suffix.lower() in ENDINGS
    ]
    if not found:
        raise ConfigError(f"data.path: no image below {root}. Looked for files ending in {', '.join(sorted(ENDINGS))}")
    return sorted(found, key=lambda file: file.relative_to(root).as_posix())


def _classes(root: Path, files: list[Path]) -> list[int]:
    names = [file.relative_to(root).parts[0] if file.parent != root else "" for file in files]
    if "" in names:
        stray = files[names.index("")]
        raise ConfigError(f"data.labels: {stray} is in no sub-folder of {root}, so it has no class. Move it into one")
    number = {name: i for i, name in enumerate(sorted(set(names)))}
    return [number[name] for name in names]


def _decode(file: Path, source: Folder) -> Tensor:
    """uint8 [C, size, size]."""
    size = (source.size, source.size)
    resample = Image.Resampling[source.resample.upper()]
    try:
        with Image.open(file) as image:
            upright = ImageOps.exif_transpose(image).convert(MODES[source.channels])
            square = ImageOps.fit(upright, size, resample) if source.fit == "crop" else upright.resize(size, resample)
            raw = bytearray(square.tobytes())
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(file, error) from None
    return torch.frombuffer(raw, dtype=torch.uint8).view(*size, source.channels).permute(2, 0, 1).contiguous()


def _check_header(file: Path) -> None:
    try:
        Image.open(file).close()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(file, error) from None


def _unreadable(file: Path, error: Exception) -> ConfigError:
    return ConfigError(f"data.path: {file} is no image that can be read ({error}). Mend the file or take it away")


def _each(function: Callable[[Any], T], items: Iterable[Any]) -> list[T]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(function, items))
