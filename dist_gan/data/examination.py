"""What the images of a folder are like: one pass over all files, decoded as training decodes them."""

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageStat

from dist_gan.data.alike import HEIGHT, WIDTH, Bytes, almost_same, difference_hashes, same
from dist_gan.data.decode import Broken, Unclear, whole
from dist_gan.data.files import AWAY, Found, find, read, shown
from dist_gan.data.folder import classes_of
from dist_gan.data.source import READING, Reading
from dist_gan.data.survey import each
from dist_gan.errors import ConfigError

NEUTRAL = 8
"""Levels by which red, green and blue may differ in a gray picture: JPEG rounds."""
DIGEST = 16  # bytes


class _Seen(NamedTuple):
    """What was seen of one image."""

    size: tuple[int, int] = (0, 0)
    is_gray: bool = False
    is_clear: bool = False
    brightness: float = 0.0
    digest: bytes = bytes(DIGEST)
    thumbnail: Bytes = np.zeros((HEIGHT, WIDTH), np.uint8)
    reason: str = ""


@dataclass(frozen=True)
class Examined:
    """What was found. Arrays have one entry for each of the M images that can be read."""

    root: str
    count: int
    """How many files there are, with the broken ones, and those that were not looked at."""
    looked_at: int
    """How many of them were looked at: all, or evenly spaced ones."""
    broken: dict[str, str]
    """Files that cannot be used, by name, and why."""
    heights: npt.NDArray[np.int64]
    widths: npt.NDArray[np.int64]
    """[M] as seen, turned as EXIF says."""
    gray: npt.NDArray[np.bool_]
    """[M]: red, green and blue are equal, however the file stores them."""
    clear: npt.NDArray[np.bool_]
    """[M]: something can be seen through it. An alpha channel that hides nothing does not count."""
    brightness: npt.NDArray[np.float64]
    """[M]: mean from 0, black, to 1, white, of what is not transparent."""
    copies: int
    """Images that are the same as an earlier one, pixel by pixel."""
    alike: int
    """Images that are almost the same as an earlier one; `copies` are not among them."""
    pairs: tuple[tuple[str, str], ...]
    """The first few of both kinds, each with the image that it repeats."""
    classes: dict[str, int]
    """How many images each sub-folder has; empty where some are in none."""
    asymmetry: float
    """How much the left differs from the right in the same way in all images: 0 not at all; 1: as much as one image
    differs from another."""

    @property
    def usable(self) -> int:
        """M: images that can be read."""
        return len(self.heights)

    @property
    def distinct(self) -> int:
        """Usable images, each copy counted once."""
        return self.usable - self.copies


def examine(path: Path, white: float = 0, reading: Reading = READING, most: int = 0) -> Examined:
    """Look at every image below `path`.

    Args:
        path: the folder.
        white: as `data.white`.
        reading: how to read, and where progress goes.
        most: look at no more than this many, evenly spaced; 0: all.

    Raises:
        ConfigError: there are no images, none can be read, or it is unclear what the values of one mean.
    """
    found = find(path, reading.patience)
    places = range(0, len(found.names), max(1, -(-len(found.names) // most)) if most else 1)
    seen = _Arrays(places)

    def look(index: int) -> _Seen:
        if index in found.lost:
            return _Seen(reason=found.lost[index])
        try:
            return _seen(read(found.path(index), reading.patience, AWAY), white)
        except Broken as error:
            return _Seen(reason=str(error))
        except Unclear as error:
            text = str(error).replace("data.white", "white")
            raise ConfigError(f"{shown(found.path(index))}: {text}") from None
        except OSError as error:
            return _Seen(reason=error.strerror or str(error))

    for index, one in enumerate(each(look, places, "looking at images", reading.progress)):
        seen.put(index, one)
    return _examined(found, seen)


class _Arrays:
    """What was seen, 110 bytes an image."""

    def __init__(self, places: range) -> None:
        """`places`: the indices of the files that are looked at."""
        count = len(places)
        self.places = places
        self.sizes = np.zeros((count, 2), np.int64)
        self.gray = np.zeros(count, bool)
        self.clear = np.zeros(count, bool)
        self.brightness = np.zeros(count)
        self.digests = np.zeros((count, DIGEST), np.uint8)
        self.thumbnails = np.zeros((count, HEIGHT, WIDTH), np.uint8)
        self.broken: dict[int, str] = {}

    def put(self, index: int, one: _Seen) -> None:
        if one.reason:
            self.broken[index] = one.reason
        self.sizes[index] = one.size
        self.gray[index], self.clear[index], self.brightness[index] = one.is_gray, one.is_clear, one.brightness
        self.digests[index] = np.frombuffer(one.digest, np.uint8)
        self.thumbnails[index] = one.thumbnail


def _seen(content: bytes, white: float) -> _Seen:
    image, _ = whole(content, white)
    alpha = image.getchannel("A") if image.mode == "RGBA" else None
    is_clear = alpha is not None and alpha.getextrema()[0] < 255  # type: ignore[operator]  # one band: two numbers
    if alpha is not None:
        ground = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(ground, image).convert("RGB")
    gray = image.convert("L")
    visible = alpha.point(lambda value: 255 if value else 0) if alpha is not None and is_clear else None
    mean = ImageStat.Stat(gray, visible).mean[0] if visible is None or visible.getbbox() else 255.0
    digest = hashlib.blake2b(f"{image.size}".encode(), digest_size=DIGEST)
    is_gray = image.mode == "L" or _is_neutral(image)
    digest.update(image.convert("RGB").tobytes())
    small = gray.resize((WIDTH, HEIGHT), Image.Resampling.BOX)
    return _Seen(image.size, is_gray, is_clear, mean / 255, digest.digest(), np.asarray(small))


def _is_neutral(image: Image.Image) -> bool:
    """Whether the channels of an RGB image are equal, but for the rounding of JPEG."""
    red, green, blue = image.split()
    pairs = ((red, green), (green, blue), (red, blue))
    return all(ImageChops.difference(a, b).getextrema()[1] <= NEUTRAL for a, b in pairs)  # type: ignore[operator]


def _examined(found: Found, seen: _Arrays) -> Examined:
    count = len(seen.places)
    names = [found.names[place] for place in seen.places]
    kept = np.array([index for index in range(count) if index not in seen.broken], np.int64)
    broken = {shown(names[index]): reason for index, reason in seen.broken.items()}
    if not len(kept):
        name, reason = next(iter(broken.items()))
        raise ConfigError(f"{shown(found.root)}: none of {count:,} images can be read; the first is {name} ({reason})")
    first = same(seen.digests[kept])
    is_copy = first != np.arange(len(kept))
    single = kept[~is_copy]
    thumbnails = seen.thumbnails[single]
    leader = almost_same(difference_hashes(thumbnails), thumbnails)
    is_alike = leader != np.arange(len(single))
    pairs = [*zip(kept[is_copy], kept[first[is_copy]], strict=True)][:3]
    pairs += [*zip(single[is_alike], single[leader[is_alike]], strict=True)][:3]
    return Examined(
        root=found.root,
        count=len(found.names),
        looked_at=count,
        broken=broken,
        heights=seen.sizes[kept, 1],
        widths=seen.sizes[kept, 0],
        gray=seen.gray[kept],
        clear=seen.clear[kept],
        brightness=seen.brightness[kept],
        copies=int(is_copy.sum()),
        alike=int(is_alike.sum()),
        pairs=tuple((shown(names[a]), shown(names[b])) for a, b in pairs),
        classes=_classes(found),
        asymmetry=_asymmetry(seen.thumbnails[kept]),
    )


def _classes(found: Found) -> dict[str, int]:
    try:
        names, labels = classes_of(found)
    except ConfigError:
        return {}
    counts = Counter(labels)
    return {name: counts[number] for number, name in enumerate(names)}


def _asymmetry(thumbnails: Bytes) -> float:
    """Of each pixel minus the one in its mirror: the mean over images, in standard deviations over images; the root of
    the mean square over pixels, less what as many images would have by chance."""
    count = len(thumbnails)
    if count < 2:
        return 0.0
    half = thumbnails[:, :, : WIDTH // 2].astype(np.float32)
    difference = half - thumbnails[:, :, : -(WIDTH // 2) - 1 : -1]
    deviation = np.maximum(difference.std(0), 1.0)
    effect = np.square(difference.mean(0) / deviation).mean() - 1 / count
    return float(np.sqrt(max(0.0, effect)))
