"""JPEG files of the usual kind, decoded without what Pillow does around it: the same bytes, in a third of the time.

Pillow, simplejpeg and torchvision all have libjpeg-turbo; Pillow needs 0.2 ms for what surrounds it, which is most of
the time of a small image. simplejpeg is used where it is installed (the extra `data`), else torchvision's decoder,
which its authors will remove, else Pillow. What is less usual (EXIF, CMYK, 12 bits, damage) is left to Pillow, and so
are all other formats: torchvision's PNG decoder ends the process on damaged files. Before the first use, a picture is
decoded here by both: where they differ, Pillow decodes everything.
"""

import base64
import hashlib
import io
import warnings
from collections.abc import Callable
from functools import lru_cache

import torch
from PIL import Image
from torch import Tensor

START, END = b"\xff\xd8\xff", b"\xff\xd9"
UNUSUAL = {0xE1, 0xEE}
"""Segments that change what is seen: EXIF and XMP (orientation), Adobe (colors)."""
FRAMES = {0xC0, 0xC1, 0xC2}
"""Baseline, extended and progressive Huffman."""
TRIAL = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdBRkxO"
    "UlNSMj5aYVpQYEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09P"
    "T09PT09PT0//wAARCAAYABgDASIAAhEBAxEB/8QAFwABAQEBAAAAAAAAAAAAAAAAAAYFAv/EACIQAAEEAgIBBQAAAAAAAAAAAAEA"
    "AgMEBSERMRQSIjJRcf/EABcBAAMBAAAAAAAAAAAAAAAAAAECBAX/xAAfEQACAgICAwEAAAAAAAAAAAABAgMEAAURIRITMTL/2gAM"
    "AwEAAhEDEQA/AKa/kG1I/cO1Oz491yTywdHa2Mpex9uMhpBKmpchK+Txap/AptfXkSERp0wPJJ+EYWWtYcMv7GbFOqS3tExbbFWP"
    "i1on7RT2povafId4suxjVyDkoz1Rn5Ha28ZQbC8XOz2iLc3rmGtGI+uTjJEqxM4HfGcZrNyOmDWjjhERbVXWVZIVZkBJwVasU0Qd"
    "xyTn/9k="
)
"""A picture of 24x24 with halved colors."""
KNOWN = "46b23428b86126016ac1afa2a716a8a567371c48efa17c2ee5d93833e1fd15cc"
"""The SHA-256 of its pixels, and of those scaled to 10x10, on every machine that was seen."""

Decoder = Callable[[bytes, int], Tensor]
"""(a JPEG, its channels: 1 or 3) -> uint8 [C, H, W]; raises RuntimeError or ValueError."""


def pixels(content: bytes) -> Tensor | None:
    """uint8 [1 or 3, H, W] of a usual JPEG; None for anything else, and where it is damaged."""
    count = channels(content)
    decoder = _decoder() if count else None
    if decoder is None:
        return None
    try:
        return decoder(content, count)
    except (RuntimeError, ValueError):
        return None


def differs() -> list[str]:
    """Empty where this machine decodes and scales images as others do; else what identifies how. For fingerprints."""
    with Image.open(io.BytesIO(TRIAL)) as image:
        plain = image.convert("RGB")
        small = plain.resize((10, 10), Image.Resampling.LANCZOS)
    digest = hashlib.sha256(plain.tobytes() + small.tobytes()).hexdigest()
    return [] if digest == KNOWN else [f"decoder {digest}"]


def channels(content: bytes) -> int:
    """Of a JPEG, gray or in three colors of 8 bits, that has an end and nothing that says how to look at it; else 0."""
    if not content.startswith(START) or not content.endswith(END):
        return 0
    place, size = 2, len(content)
    while place + 9 < size and content[place] == 0xFF:
        marker = content[place + 1]
        if marker in UNUSUAL:
            return 0
        if marker in FRAMES:
            return content[place + 9] if content[place + 4] == 8 and content[place + 9] in (1, 3) else 0
        place += 2 + int.from_bytes(content[place + 2 : place + 4])
    return 0


def by_simplejpeg() -> Decoder:
    """Raises ImportError."""
    from simplejpeg import decode_jpeg

    def decode(content: bytes, channels: int) -> Tensor:
        array = decode_jpeg(content, "GRAY" if channels == 1 else "RGB")  # [H, W, C]; damage is a ValueError
        return torch.from_numpy(array).permute(2, 0, 1)

    return decode


def by_torchvision() -> Decoder:
    """Raises ImportError."""
    from torchvision.io import ImageReadMode, decode_jpeg

    def decode(content: bytes, channels: int) -> Tensor:
        return decode_jpeg(torch.frombuffer(bytearray(content), dtype=torch.uint8), ImageReadMode.UNCHANGED)

    return decode


WAYS = (by_simplejpeg, by_torchvision)


@lru_cache(maxsize=1)
def _decoder() -> Decoder | None:
    """The first that is there and does here as Pillow does."""
    with Image.open(io.BytesIO(TRIAL)) as image:
        raw = image.convert("RGB").tobytes()
    warnings.filterwarnings("ignore", "The image decoding and encoding capabilities of TorchVision", DeprecationWarning)
    for way in WAYS:
        try:
            decoder = way()
            if decoder(TRIAL, 3).permute(1, 2, 0).contiguous().numpy().tobytes() == raw:
                return decoder
        except (ImportError, RuntimeError, ValueError, AttributeError):  # not there, or built without its operators
            continue
    return None
