"""Folders of made-up pictures, for tests of what is seen in them."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def picture(number: int, width: int = 48, height: int = 48, coarse: int = 6) -> Image.Image:
    """Smooth colors, another picture for each number, with nothing that makes left and right differ for all."""
    cells = np.random.default_rng(number).integers(0, 256, (coarse, coarse, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC)


def save(folder: Path, name: str, image: Image.Image, **options: Any) -> Path:
    """The file's path; folders are made."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def damaged(folder: Path, name: str) -> Path:
    """A file that was cut short."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = encoded(picture(0))
    path.write_bytes(whole[: len(whole) // 2])
    return path
