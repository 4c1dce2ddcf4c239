"""What is advised about the images: size, shape, channels, transparency, mirroring, classes, damaged files."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dist_gan.advising.draft import Choice
from dist_gan.data.examination import Examined
from dist_gan.data.streamed import most_broken
from dist_gan.formatting import plural
from dist_gan.shapes import ImageShape

SMALLEST = 8
"""The smallest size that is advised."""
REACHED = 0.8
"""An image whose side is this part of a size reaches it: it is enlarged by a quarter at most. So 28x28 reaches 32."""
MOST_IMAGES = 0.9
"""The part of the images that must reach the size."""
KEPT, KEPT_AT_LEAST = 0.75, 0.5
"""Parts of a typical image that its middle square keeps: where it is cut without further thought, and where at all."""
SAME_SHAPE = math.log(1.1)
"""Shapes are alike whose ratios of width and height differ by less than a tenth."""
ASYMMETRIC = 0.15
"""Images are not mirrored from this asymmetry on (digits: 0.21, clothes and shoes: 0.38)."""
FEW = 100
"""Images from which on the asymmetry means anything, and of a class, so that classes are learnt."""
MOST_CLASSES = 1000
BRIGHT = 0.75
"""What is seen through transparent images that are brighter than this is black."""
PORTION = re.compile(
    r"(?i)^(?:\d{4,}|(?:part|batch|shard|chunk|split|set|group|folder|images?|imgs?|train(?:ing)?|val(?:id(?:ation)?)?|"
    r"test(?:ing)?|dev)[-_ ]?\d*)$"
)
"""Names of sub-folders that hold a portion of the images, and no class."""


@dataclass(frozen=True)
class Pictures:
    """How the images are learnt."""

    shape: ImageShape
    start: str
    """The smallest map of networks that make rectangles; 4x4 for squares."""
    labels: bool
    flip: bool
    choices: list[Choice]


def pictures(examined: Examined, path: str, most: int, why: str, *, rectangles: bool, white: float = 0) -> Pictures:
    """The block `data`.

    Args:
        examined: what was seen.
        path: as `data.path`.
        most: the largest side that is advised.
        why: why that is so, the end of a sentence.
        rectangles: whether the networks make other shapes than squares.
        white: as `data.white`.
    """
    fit, start, fit_reason = _fit(examined, rectangles=rectangles)
    (height, width), size_reason = _size(examined, fit, start, most, why)
    channels, color_reason = _channels(examined)
    labels, label_reason = _labels(examined)
    flip, flip_reason = _flip(examined)
    choices = [
        Choice("data.name", "folder"),
        Choice("data.path", path),
        Choice("data.size", height if height == width else f"{height}x{width}", size_reason),
        Choice("data.fit", fit, fit_reason),
        Choice("data.channels", channels, color_reason),
        *_background(examined, fit),
        Choice("data.flip", flip, flip_reason),
        Choice("data.labels", labels, label_reason),
        *_broken(examined),
    ]
    if white:
        choices.append(Choice("data.white", white, "As given: the value that is white in floats and 32-bit integers."))
    return Pictures(ImageShape(channels, height, width), start, labels, flip, choices)


def _fit(examined: Examined, *, rectangles: bool) -> tuple[str, str, str]:
    """(fit, start, why)"""
    ratios = examined.widths / examined.heights
    kept = float(np.median(np.minimum(ratios, 1 / ratios)))
    typical = float(np.median(ratios))
    alike = float((np.abs(np.log(ratios / typical)) < SAME_SHAPE).mean()) >= MOST_IMAGES
    if kept >= 0.995 and alike:
        return "crop", "4x4", "The images are square."
    if kept >= KEPT:
        return "crop", "4x4", f"The middle square keeps {kept:.0%} of a typical image."
    shape = f"Nearly all images have one shape, {_ratio(typical)} (width : height)"
    start = _start(typical) if rectangles and alike else ""
    if start:
        return "crop", start, f"{shape}, and these networks make it. Its middle is cut where an image differs."
    if alike:
        return (
            "stretch",
            "4x4",
            f"{shape}: each is squeezed into a square, which loses nothing of it. Stretch the samples back to "
            f"{_ratio(typical)} (stylegan3#72). fit: crop would keep {kept:.0%} of an image, undistorted.",
        )
    if kept >= KEPT_AT_LEAST:
        return (
            "crop",
            "4x4",
            f"Shapes differ. The middle square keeps {kept:.0%} of a typical image; fit: pad keeps all of it, and the "
            "borders around it are learnt too (stylegan3#118).",
        )
    return (
        "pad",
        "4x4",
        f"Shapes differ, and the middle square would keep only {kept:.0%} of a typical image: images are scaled to fit "
        "inside, and the borders around them are learnt too (stylegan3#118).",
    )


def _ratio(ratio: float) -> str:
    return f"{ratio:.2f} : 1" if ratio >= 1 else f"1 : {1 / ratio:.2f}"


def _start(ratio: float) -> str:
    """The smallest map, HEIGHTxWIDTH, of networks whose images have this width / height; empty where it is too long."""
    long = max(ratio, 1 / ratio)
    starts = [(short, side) for short in (4, 3, 5) for side in range(short, 9)]  # of equals the first
    short, side = min(starts, key=lambda each: abs(math.log(each[1] / each[0] / long)))
    if abs(math.log(side / short / long)) > SAME_SHAPE:
        return ""
    return f"{short}x{side}" if ratio >= 1 else f"{side}x{short}"


def _size(examined: Examined, fit: str, start: str, most: int, why: str) -> tuple[tuple[int, int], str]:
    """((height, width), why)"""
    shorter = np.minimum(examined.heights, examined.widths)
    sides = np.maximum(examined.heights, examined.widths) if fit == "pad" else shorter
    height, width = map(int, start.split("x"))
    first = min(height, width)
    # Sides are `first`, doubled: as often as images reach, and as often as is advised.
    possible = _doubled(first, lambda side: float((sides >= REACHED * side).mean()) >= MOST_IMAGES)
    doubled = _doubled(first, lambda side: side <= min(possible, most * 1.25))
    which = "longer" if fit == "pad" else "shorter"
    low, high = int(sides.min()), int(sides.max())
    seen = f"The {which} side of the images has {low:,}" + (f" to {high:,} pixels" if high > low else " pixels")
    share = float((sides >= REACHED * possible).mean())
    if doubled < possible:
        text = f"{seen}. They would do for {possible}; {why}."
    elif share < MOST_IMAGES:
        text = f"{seen}: they are enlarged, as this is the smallest size that is advised."
    else:
        text = (
            f"{seen}. At {possible}, {share:.0%} of them are enlarged by a quarter at most; at {2 * possible} it would "
            f"be less than {MOST_IMAGES:.0%}."
        )
    factor = doubled // first
    return (height * factor, width * factor), text


def _doubled(side: int, fits: Callable[[int], bool]) -> int:
    """`side`, doubled while the result fits, until it is at least the smallest size anyway."""
    while side < SMALLEST or fits(2 * side):
        side *= 2
    return side


def _channels(examined: Examined) -> tuple[int, str]:
    gray, usable = int(examined.gray.sum()), examined.usable
    if gray == usable:
        return 1, "All images are gray, however their files store them: one channel."
    if gray:
        return 3, f"{gray:,} of {usable:,} images are gray: they are learnt as gray pictures among colored ones."
    return 3, ""


def _background(examined: Examined, fit: str) -> list[Choice]:
    clear = int(examined.clear.sum())
    bright = examined.brightness[examined.clear if clear else slice(None)]
    ground = "black" if float(np.median(bright)) > BRIGHT else "white"
    if clear:
        reason = (
            f"{clear:,} of {examined.usable:,} images are transparent somewhere. What is seen through them is learnt "
            f"as a part of them: {ground}, as they are {'bright' if ground == 'black' else 'not bright'}. "
            "channels: 4 learns transparency itself."
        )
    elif fit == "pad":
        reason = f"The borders. {ground.capitalize()}, as the images are {'' if ground == 'black' else 'not '}bright."
    else:
        return []
    return [Choice("data.background", ground, reason)]


def _flip(examined: Examined) -> tuple[bool, str]:
    if examined.asymmetry >= ASYMMETRIC and examined.usable >= FEW:
        return False, (
            f"Left and right differ in the same way in all images (asymmetry {examined.asymmetry:.2f}; from "
            f"{ASYMMETRIC} on they are not mirrored): mirrored ones would not belong to this set."
        )
    return True, (
        "Mirrored images double the set (StyleGAN2-ADA: often beneficial, even with ADA). Whether they belong to it "
        "cannot be seen: set false where left and right differ, as in text, digits, maps, medical images."
    )


def _labels(examined: Examined) -> tuple[bool, str]:
    counts = examined.classes
    if len(counts) < 2:
        return False, ""
    smallest, largest = min(counts.values()), max(counts.values())
    sizes = f"{smallest:,}" + (f" to {largest:,}" if largest > smallest else "")
    there = f"There are {plural(len(counts), 'sub-folder')} of {sizes} images"
    if all(PORTION.match(name) for name in counts):
        return False, f"{there}, by their names portions and no classes. If they are: true, and networks.conditional."
    if len(counts) > MOST_CLASSES:
        return False, f"{there}: more than {MOST_CLASSES:,} classes are too many to be learnt from this."
    median = float(np.median(list(counts.values())))
    if median < FEW:
        return False, (
            f"{there}. If they are classes, half have fewer than {FEW}: with so few, conditional GANs collapse earlier "
            "than others (Shahbazi et al. 2022). With true, set networks.conditional too."
        )
    return True, f"{there}, taken for classes. If they are none: false here and for networks.conditional."


def _broken(examined: Examined) -> list[Choice]:
    count = len(examined.broken)
    if not count:
        return []
    name = next(iter(examined.broken))
    which = f"{name} cannot" if count == 1 else f"{count:,} files cannot"
    most = most_broken(examined.count)
    text = f"{which} be read, and others take their place. Better: repair or remove them."
    if count > most:
        text = f"{which} be read, more than the {most} that are replaced: the run is refused until they are removed."
    return [Choice("data.skip_broken", True, text)]
