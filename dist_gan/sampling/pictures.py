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
    from torchvision.utils import make_grid

    grid = make_grid(_visible(images), nrow=columns or max(1, round(len(images) ** 0.5)))
    factor = -(-SMALLEST // max(grid.shape[1:]))
    save_image(grid.repeat_interleave(factor, 1).repeat_interleave(factor, 2), path)


def save_image(image: Tensor, path: Path) -> None:
    """uint8 [C, H, W] -> a file in the format of its ending, published by one rename.

    Of more than three channels the first three are shown, and of two the first one. On an OSError nothing is left.
    """
    pixels = _visible(image[None])[0].permute(1, 2, 0)
    picture = Image.fromarray((pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).numpy())
    options = {"quality": 95} if path.suffix.lower() != ".png" else {}
    _publish(path, lambda file: picture.save(file, format=FORMATS[path.suffix.lower()], **options))


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

    _publish(path, write)


def _visible(images: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, 1 or 3, H, W]"""
    channels = images.shape[1]
    return images[:, : 3 if channels >= 3 else 1]


def _publish(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            write(file)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
