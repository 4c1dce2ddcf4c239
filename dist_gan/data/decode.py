"""From a file to pixels: 8 bits a channel, upright, without transparency, of the configured size.

How more than 8 bits a channel are read:
- Integers of 9 to 16 bits use all of their range from black to white: 0 is black, 65535 (of 16 bits) is white. 12 bits
  that are stored in 16 look like dark images of 16 bits, and are read as these.
- Floats go from 0 to 1, the usual convention, or from 0 to `white`. An image with other values or NaN is refused.
- Integers of 32 bits go from 0 to `white`. They have no usual range: without `white` they are refused.
The rule never depends on the values of an image, so that two images of one set are never read in two ways.
"""

import io
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from dist_gan.data.jpegs import pixels

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
PLAIN = {"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"}
DEEP = {"I", "F"}
STEPS = {"La": "LA", "LAB": "RGB"}  # Pillow cannot convert these into every mode at once
ALPHA = {"LA", "La", "PA", "RGBA", "RGBa"}
NAMED_COLORS = {"white": (255, 255, 255), "black": (0, 0, 0)}
ORIENTATION, BITS, PHOTOMETRIC, SAMPLE_FORMAT = 0x0112, 258, 262, 339  # tags of EXIF and TIFF
WHITE_IS_ZERO, UNSIGNED = 0, 1
AT_ONCE = {(1, 1), (3, 3), (1, 3)}  # channels of a plain file, and channels that come out, where nothing is computed
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Broken(ValueError):
    """The file is not an image, or only a part of one."""


class Unclear(ValueError):
    """The image can be read, but it is not clear what its values mean."""


@dataclass(frozen=True)
class Look:
    """What `decode` makes of a file."""

    channels: int
    """1, 3, or 4: RGBA."""
    height: int
    width: int
    fit: str = "crop"
    resample: str = "lanczos"
    background: str = "white"
    white: float = 0


def decode(content: bytes, look: Look) -> tuple[Tensor, bool]:
    """The image in a file's `content`.

    Returns:
        uint8 [C, H, W], and whether the image has an alpha channel or transparent colors.

    Raises:
        Broken, Unclear: it cannot be used, and why.
    """
    found = pixels(content)
    if found is not None:
        if tuple(found.shape[1:]) == (look.height, look.width) and (len(found), look.channels) in AT_ONCE:
            return found.expand(look.channels, -1, -1).contiguous(), False
        plain = found[0] if len(found) == 1 else found.permute(1, 2, 0).contiguous()
        return _scaled(_flat(Image.fromarray(plain.numpy()), look), look), False
    with _opened(io.BytesIO(content)) as opened:
        has_alpha = _has_alpha(opened)
        return _scaled(_flat(_upright(opened, look), look), look), has_alpha


def _scaled(image: Image.Image, look: Look) -> Tensor:
    """uint8 [C, H, W] of the size of `look`."""
    size = (look.width, look.height)
    if image.size != size:
        resample = Image.Resampling[look.resample.upper()]
        if look.fit == "crop":
            image = ImageOps.fit(image, size, resample)
        elif look.fit == "pad":
            image = ImageOps.pad(image, size, resample, _surroundings(look))
        else:
            image = image.resize(size, resample)
    raw = bytearray(image.tobytes())
    shape = (look.height, look.width, look.channels)
    return torch.frombuffer(raw, dtype=torch.uint8).view(shape).permute(2, 0, 1).contiguous()


def whole(content: bytes, white: float = 0) -> tuple[Image.Image, bool]:
    """The image in a file's `content`, of its own size: upright, 8 bits a channel, in mode L, RGB or RGBA.

    Returns:
        The image, and whether it has an alpha channel or transparent colors: these are RGBA.

    Raises:
        Broken, Unclear: as for `decode`.
    """
    with _opened(io.BytesIO(content)) as opened:
        has_alpha = _has_alpha(opened)
        image = _upright(opened, Look(4, 0, 0, white=white))
        if _has_alpha(image):
            return image.convert("RGBA"), has_alpha
        return image.convert("L" if image.mode in ("1", "L") else "RGB"), has_alpha


def examine(file: IO[bytes], look: Look, thoroughly: bool = False) -> bool:
    """Check the beginning and the end of a file; decode all of it only where one of them is not as expected.

    Args:
        file: open for reading.
        look: as for `decode`.
        thoroughly: also check the values of an image whose values may be out of range.

    Returns:
        Whether the image has an alpha channel or transparent colors.

    Raises:
        Broken, Unclear: it cannot be used, and why.
        OSError: with an error number: the file cannot be read.
    """
    with _opened(file) as image:
        has_alpha = _has_alpha(image)
        is_clear = image.mode in PLAIN | ALPHA or image.mode.startswith("I;16")
        if (is_clear or (image.mode in DEEP and look.white and not thoroughly)) and _has_end(file, image.format):
            return has_alpha
    file.seek(0)
    decode(file.read(), look)
    return has_alpha


def _has_end(file: IO[bytes], kind: str | None) -> bool:
    """Whether the file has the mark with which its image ends. A copy that was cut short does not.

    Formats without such a mark pass.
    """
    file.seek(0, io.SEEK_END)
    size = file.tell()
    file.seek(max(0, size - 12))
    end = file.read(12)
    if kind == "PNG":
        return end[4:8] == b"IEND"
    if kind in ("JPEG", "MPO"):
        return end.endswith(b"\xff\xd9")
    if kind == "GIF":
        return end.endswith(b";")
    if kind in ("WEBP", "BMP"):
        file.seek(4 if kind == "WEBP" else 2)
        return int.from_bytes(file.read(4), "little") + (8 if kind == "WEBP" else 0) <= size
    return True


class _opened:
    """An image whose content may be anything: whatever Pillow raises becomes Broken."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file

    def __enter__(self) -> Image.Image:
        try:
            self.image = Image.open(self.file)
        except Exception as error:
            self.__exit__(type(error), error, None)
            raise
        return self.image

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        known = isinstance(error, Broken | Unclear | MemoryError)
        if isinstance(error, Exception) and not known and not getattr(error, "errno", None):
            text = " ".join(str(error).split()) or type(error).__name__
            if isinstance(error, UnidentifiedImageError):
                text = "not an image of a known kind"
            raise Broken(text) from None


def _has_alpha(image: Image.Image) -> bool:
    palette = image.palette.mode if image.mode == "P" and image.palette is not None else ""
    return image.mode in ALPHA or "transparency" in image.info or palette.endswith("A")


def _upright(image: Image.Image, look: Look) -> Image.Image:
    """The image with 8 bits a channel, turned as EXIF says, where EXIF can be read."""
    tile = getattr(image, "tile", None)
    packing = str(tile[0][3]) if tile else ""
    image.load()
    try:
        turn = TURNS.get(image.getexif().get(ORIENTATION, 1))
    except Exception:  # tags of odd types raise many kinds of errors
        turn = None
    image = _eight_bits(image, packing, look.white)
    return image if turn is None else image.transpose(turn)


def _eight_bits(image: Image.Image, packing: str, white: float) -> Image.Image:
    """`packing`: Pillow's name for the form of the pixels in the file."""
    clear = image.info.get("transparency")
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return _from_integers(image, clear)
    if image.mode in DEEP:
        return _from_range(image, white)
    if image.mode in STEPS:
        return image.convert(STEPS[image.mode])
    if image.mode not in PLAIN | ALPHA:
        raise Unclear(f"its colors are of the kind {image.mode}. Save it as RGB or gray")
    if image.mode == "L" and isinstance(clear, int):  # in a PNG this value has the file's number of bits
        image.info["transparency"] = clear * {"L;2": 85, "L;4": 17}.get(packing, 1) & 255
    if image.mode == "RGB" and isinstance(clear, tuple) and packing.startswith("RGB;16"):
        image.info["transparency"] = tuple(value >> 8 for value in clear)
    return image


def _from_integers(image: Image.Image, clear: Any) -> Image.Image:
    """From integers of up to 16 bits, black to white over all of their range."""
    tags = getattr(image, "tag_v2", {})
    top = (1 << min(16, int(tags.get(BITS, (16,))[0]))) - 1
    values = np.asarray(image).astype(np.uint32)
    gray = ((values.clip(0, top) * 255 + top // 2) // top).astype(np.uint8)
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        gray = 255 - gray
    result = Image.fromarray(gray)
    if isinstance(clear, int):
        result.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return result


def _from_range(image: Image.Image, white: float) -> Image.Image:
    """From floats or integers of 32 bits, black to white from 0 to `white`."""
    tags = getattr(image, "tag_v2", {})
    values = np.asarray(image)
    if image.mode == "I" and int(tags.get(BITS, (0,))[0]) == 32 and tags.get(SAMPLE_FORMAT, (UNSIGNED,))[0] == UNSIGNED:
        values = values.view(np.uint32)
    if not white and image.mode == "I":
        raise Unclear(
            f"integers of 32 bits (here {values.min()} to {values.max()}) have no usual white. Set data.white to the "
            "value that is white, or save it with 16 bits"
        )
    white = white or 1.0
    scaled = values.astype(np.float64) * (255 / white)
    if not (scaled.min() >= -0.5 and scaled.max() <= 255.5):  # also where there is NaN
        kind = "floats" if image.mode == "F" else "values"
        raise Unclear(
            f"its {kind} go from {values.min():g} to {values.max():g}, expected 0 (black) to {white:g} (white). Set "
            "data.white to the value that is white in all such images, or save it with 8 or 16 bits"
        )
    gray = np.rint(scaled.clip(0, 255)).astype(np.uint8)
    return Image.fromarray(255 - gray if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else gray)


def _flat(image: Image.Image, look: Look) -> Image.Image:
    """The image in the mode of `look`, without colors that transparency hides: nothing should be learnt from these."""
    mode = MODES[look.channels]
    if not _has_alpha(image):
        return image.convert(mode)
    seen = image.convert("RGBA")
    ground = Image.new("RGBA", seen.size, (*color(look.background), 255))
    if mode == "RGBA":
        ground.putalpha(0)
        return Image.composite(seen, ground, seen.getchannel("A").point(lambda alpha: 255 if alpha else 0))
    return Image.alpha_composite(ground, seen).convert("RGB").convert(mode)


def _surroundings(look: Look) -> int | tuple[int, ...]:
    """The color around padded images, in the mode of `look`."""
    if look.channels == 4:
        return (0, 0, 0, 0)
    ground = Image.new("RGB", (1, 1), color(look.background)).convert(MODES[look.channels]).getpixel((0, 0))
    return tuple(int(value) for value in ground) if isinstance(ground, tuple) else int(ground or 0)


def color(text: str) -> tuple[int, ...]:
    """`white`, `black` or `#rrggbb` as three numbers."""
    return NAMED_COLORS.get(text) or tuple(bytes.fromhex(text.removeprefix("#")))
