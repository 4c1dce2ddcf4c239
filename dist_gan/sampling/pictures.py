"""Images to files."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image
from torch import Tensor

SMALLEST = 512
"""Pixels that the longer side of a grid has at least: small images are enlarged by an integer factor."""
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
"""The ending of a file's name -> how it is written."""


def save_grid(images: Tensor, path: Path, columns: int | None = None) -> None:
    """images uint8 [N, C, H, W] -> one picture, row by row; about square by default. See `save_image`."""
    save_image(enlarged(grid(images, columns)), path)


def grid(images: Tensor, columns: int | None = None) -> Tensor:
    """images uint8 [N, C, H, W] -> one picture [1 or 3, H', W'], row by row; about square by default."""
    from torchvision.utils import make_grid

    return make_grid(visible(images), nrow=columns or max(1, round(len(images) ** 0.5)))


def enlarged(image: Tensor) -> Tensor:
    """[C, H, W], each pixel repeated until the longer side has `SMALLEST` pixels or more."""
    factor = -(-SMALLEST // max(image.shape[1:]))
    return image.repeat_interleave(factor, 1).repeat_interleave(factor, 2)


def save_image(image: Tensor, path: Path) -> None:
    """uint8 [C, H, W] -> a file in the format of its ending, published by one rename.

    Of more than three channels the first three are shown, and of two the first one. On an OSError nothing is left.
    """
    pixels = visible(image[None])[0].permute(1, 2, 0)
    picture = Image.fromarray((pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).numpy())
    options = {"quality": 95} if path.suffix.lower() != ".png" else {}
    publish(path, lambda file: picture.save(file, format=FORMATS[path.suffix.lower()], **options))


def save_array(batches: Iterable[Tensor], count: int, path: Path) -> None:
    """Batches uint8 [n, C, H, W], `count` images in all -> a NumPy file with one array uint8 [count, H, W, C].

    Memory does not grow with the count. On an OSError nothing is left.
    """

    def write(file: IO[bytes]) -> None:
        begun = False
        for batch in batches:
            pixels = batch.permute(0, 2, 3, 1).contiguous().numpy()
            if not begun:
                header = {"descr": "|u1", "fortran_order": False, "shape": (count, *pixels.shape[1:])}
                np.lib.format.write_array_header_1_0(file, header)
                begun = True
            file.write(pixels.tobytes())

    publish(path, write)


def visible(images: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, 1 or 3, H, W]"""
    channels = images.shape[1]
    return images[:, : 3 if channels >= 3 else 1]


def publish(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """A file that `write` writes, under a temporary name until it is complete. On any error nothing is left."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            write(file)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
