"""JPEG files of the usual kind, decoded by torchvision: the same bytes as Pillow's, in a third of the time.

Both have libjpeg-turbo; Pillow needs 0.2 ms for what surrounds it, which is most of the time of a small image. What is
less usual (EXIF, CMYK, 12 bits, a missing end) is left to Pillow, and so are all other formats: torchvision's PNG
decoder ends the process on damaged files. Before the first use, one picture is decoded by both here: where they differ,
Pillow decodes everything.
"""

import base64
import hashlib
import io
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
"""The SHA-256 of its pixels, and of those scaled to 10x10, as every libjpeg-turbo and Pillow that were seen have them."""

Decoder = Callable[[Tensor], Tensor]


def pixels(content: bytes) -> Tensor | None:
    """uint8 [1 or 3, H, W] of a usual JPEG; None for anything else, and where it is damaged."""
    if not _is_usual(content):
        return None
    decoder = _decoder()
    if decoder is None:
        return None
    try:
        return decoder(torch.frombuffer(bytearray(content), dtype=torch.uint8))
    except RuntimeError:
        return None


def differs() -> list[str]:
    """Empty where this machine decodes and scales images as others do; else what identifies how. For fingerprints."""
    with Image.open(io.BytesIO(TRIAL)) as image:
        plain = image.convert("RGB")
        small = plain.resize((10, 10), Image.Resampling.LANCZOS)
    digest = hashlib.sha256(plain.tobytes() + small.tobytes()).hexdigest()
    return [] if digest == KNOWN else [f"decoder {digest}"]


def _is_usual(content: bytes) -> bool:
    """Whether it is a JPEG, gray or in three colors of 8 bits, that has an end and nothing that says how to look at
    it."""
    if not content.startswith(START) or not content.endswith(END):
        return False
    place, size = 2, len(content)
    while place + 9 < size and content[place] == 0xFF:
        marker = content[place + 1]
        if marker in UNUSUAL:
            return False
        if marker in FRAMES:
            return content[place + 4] == 8 and content[place + 9] in (1, 3)
        place += 2 + int.from_bytes(content[place + 2 : place + 4])
    return False


@lru_cache(maxsize=1)
def _decoder() -> Decoder | None:
    """torchvision's, where it is there and does here as Pillow does."""
    try:
        from torchvision.io import ImageReadMode, decode_jpeg

        def decode(content: Tensor) -> Tensor:
            return decode_jpeg(content, ImageReadMode.UNCHANGED)

        found = decode(torch.frombuffer(bytearray(TRIAL), dtype=torch.uint8))
    except (ImportError, RuntimeError, AttributeError):  # built without its own operators
        return None
    with Image.open(io.BytesIO(TRIAL)) as image:
        raw = image.convert("RGB").tobytes()
    return decode if found.permute(1, 2, 0).contiguous().numpy().tobytes() == raw else None
