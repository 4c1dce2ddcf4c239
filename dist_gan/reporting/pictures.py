"""Pictures within the page: as they are where there is room, else smaller, in a limited number of bytes."""

import base64
import io
import os
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from dist_gan.formatting import plural

LARGEST_FACTOR = 64
"""By which a grid of small images may have been enlarged."""
TRIED = 5
"""Pictures from which the size of all of them is guessed, about."""
MARGIN = 1.05
"""All of them may be this much larger than the guess."""


class Level(NamedTuple):
    """How a picture is written."""

    quality: int
    """Of WebP; 0: without loss."""
    side: int = 0
    """The longer side has at most this many pixels; 0: as many as it has."""


LEVELS = (
    Level(0),
    Level(92),
    Level(85),
    Level(85, 1024),
    Level(75, 1024),
    Level(75, 768),
    Level(70, 640),
    Level(65, 512),
    Level(55, 384),
    Level(45, 256),
    Level(30, 128),
)
"""From the best to the smallest. All grids of a page have the same, so that time alone changes them."""


@dataclass
class Encoded:
    """Pictures as text for a page."""

    urls: list[str]
    """`data:` URLs; empty where a picture cannot be read."""
    level: Level
    size: int
    """Bytes of all of them."""
    enlarged: bool
    """Whether each pixel should be shown as a square: the pictures are smaller than their files, without loss."""

    @property
    def note(self) -> str:
        """What was done to the pictures, for people; empty where nothing was."""
        if not self.level.quality:
            return ""
        smaller = f" and at most {self.level.side} pixels wide or high" if self.level.side else ""
        return f"recompressed as WebP of quality {self.level.quality}{smaller}; the files in samples/ are exact"


def encoded(pictures: Sequence[Path | Image.Image], budget: int) -> Encoded:
    """All of them in about `budget` bytes, at the best level at which they fit."""
    step = max(1, len(pictures) // TRIED)
    tried = [image for picture in pictures[step // 2 :: step] if (image := _opened(picture)) is not None]
    factor = min(map(_factor, tried), default=1)

    def fits(level: Level) -> bool:
        guess = sum(len(_written(image, factor, level)) for image in tried) / max(1, len(tried)) * len(pictures)
        return guess * MARGIN <= budget

    first = min(bisect_left(LEVELS, True, key=fits), len(LEVELS) - 1)
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as threads:
        for level in LEVELS[first:]:
            files = list(threads.map(lambda picture, level=level: _file(picture, factor, level), pictures))
            if sum(map(len, files)) <= budget:
                break
    return Encoded([_url(content) for content in files], level, sum(map(len, files)), factor > 1)


def _file(picture: Path | Image.Image, factor: int, level: Level) -> bytes:
    """Opened for a moment, since all pictures at once may not fit into memory; empty where it cannot be read."""
    image = _opened(picture)
    return b"" if image is None else _written(image, factor, level)


def spaced(count: int, most: int) -> list[int]:
    """At most `most` (2 or more) of the numbers 0 to count - 1, evenly spaced, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]


def tiles(images: Iterable[np.ndarray], columns: int) -> Image.Image:
    """Images uint8 [H, W, 1 or 3] row by row, one transparent-free pixel between them."""
    arrays = [np.repeat(image, 3, 2) if image.shape[2] == 1 else image for image in images]
    height, width = arrays[0].shape[:2]
    rows = -(-len(arrays) // columns)
    sheet = np.zeros((rows * (height + 1) - 1, columns * (width + 1) - 1, 3), np.uint8)
    for i, image in enumerate(arrays):
        top, left = i // columns * (height + 1), i % columns * (width + 1)
        sheet[top : top + height, left : left + width] = image
    return Image.fromarray(sheet)


def about(number: int, total: int, thing: str) -> str:
    """`200 of 1,000 grids`, or `11 grids` where all are there."""
    return plural(total, thing) if number == total else f"{number:,} of {plural(total, thing)}"


def _opened(picture: Path | Image.Image) -> Image.Image | None:
    """In RGB; None where the file is no picture, or damaged."""
    try:
        if isinstance(picture, Image.Image):
            return picture.convert("RGB")
        with Image.open(picture) as image:
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _factor(image: Image.Image) -> int:
    """By which integer it was enlarged, pixel by pixel; 1 where it was not."""
    return next((factor for factor in range(LARGEST_FACTOR, 1, -1) if _was_enlarged(np.asarray(image), factor)), 1)


def _was_enlarged(pixels: np.ndarray, factor: int) -> bool:
    height, width = pixels.shape[:2]
    if height % factor or width % factor:
        return False
    middle = height // 2 // factor * factor  # in most pictures, these few rows are enough to see that it was not
    return all(
        (part == part[::factor, ::factor].repeat(factor, 0).repeat(factor, 1)).all()
        for part in (pixels[middle : middle + factor], pixels)
    )


def _written(image: Image.Image, factor: int, level: Level) -> bytes:
    content = io.BytesIO()
    if factor > 1 and _was_enlarged(np.asarray(image), factor):
        image = Image.fromarray(np.asarray(image)[::factor, ::factor])
    if level.side and max(image.size) > level.side:
        image = image.copy()
        image.thumbnail((level.side, level.side), Image.Resampling.LANCZOS)
    options = {"quality": level.quality} if level.quality else {"lossless": True}
    image.save(content, "WEBP", **options)
    return content.getvalue()


def _url(content: bytes) -> str:
    return f"data:image/webp;base64,{base64.b64encode(content).decode()}" if content else ""
