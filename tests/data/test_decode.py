import io
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from dist_gan.data import Folder, survey
from dist_gan.data.decode import Look, Unclear, _eight_bits, _flat, decode
from tests.data.streams import images, opened, refused

RAMP = np.tile(np.linspace(0, 255, 16).round(), (16, 1))


def saved(tmp_path: Path, name: str, pixels: Any, **options: Any) -> Path:
    folder = tmp_path / name.replace(".", "_")
    folder.mkdir()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(folder / name, **options)
    return folder


@pytest.mark.parametrize(
    ("name", "pixels", "options"),
    [
        ("a.png", RAMP.astype("u1"), {}),
        ("a.png", (RAMP * 257).astype("u2"), {}),
        ("a.tif", (RAMP * 257).astype("u2"), {}),
        ("a.tif", (RAMP * 257).astype(">u2"), {}),
        ("a.pgm", (RAMP * 257).astype("u2"), {}),
        ("a.tif", (RAMP / 255).astype("f4"), {}),
        ("a.tif", RAMP.astype("f4"), {"white": 255}),
        ("a.tif", (RAMP * 257).astype("f4"), {"white": 65535}),
        ("a.tif", (RAMP * 257).astype("i4"), {"white": 65535}),
    ],
)
def test_deep_pixels_are_scaled(tmp_path: Path, name: str, pixels: Any, options: dict[str, Any]) -> None:
    folder = saved(tmp_path, name, pixels)
    assert np.array_equal(images(folder, channels=1, **options)[0, 0].numpy(), RAMP)
    assert np.array_equal(images(folder, channels=3, **options)[0].numpy(), np.stack([RAMP] * 3))


@pytest.mark.parametrize("megabytes", [0, 100])
@pytest.mark.parametrize(
    ("pixels", "options", "expected"),
    [
        (RAMP.astype("f4"), {}, r"floats go from 0 to 255, expected 0 \(black\) to 1 \(white\). Set data.white"),
        (-RAMP.astype("f4") / 255, {}, "floats go from -1 to -?0, expected"),
        (np.full((16, 16), np.nan, "f4"), {}, "floats go from nan to nan"),
        ((RAMP * 257).astype("i4"), {}, r"integers of 32 bits \(here 0 to 65535\) have no usual white. Set data.white"),
        ((RAMP * 257).astype("i4"), {"white": 255}, "values go from 0 to 65535, expected 0"),
    ],
)
def test_unclear_pixels_are_refused_by_name(
    tmp_path: Path, pixels: Any, options: dict[str, Any], expected: str, megabytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved(tmp_path, "deep.tif", pixels)
    for limit in (survey.CONTENT_LIMIT, 10):
        monkeypatch.setattr(survey, "CONTENT_LIMIT", limit)
        # An option that replaces broken images does not hide that all of them are read wrongly.
        text = refused(folder, resident_megabytes=megabytes, skip_broken=True, **options)
        assert text.startswith(f"data.path: {folder / 'deep.tif'}: ")
        assert re.search(expected, text), text


def test_white_is_zero_and_12_bits(tmp_path: Path) -> None:
    """Made by hand: TIFFs whose tags say it."""

    def tiff(bits: int, photometric: int, data: bytes, width: int) -> bytes:
        tags = ((256, width), (257, 1), (258, bits), (259, 1), (262, photometric), (273, 8 + 2 + 9 * 12 + 4), (277, 1))
        tags = (*tags, (278, 1), (279, len(data)))
        body = b"".join(struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, value) for tag, value in tags)
        return b"II*\0" + struct.pack("<IH", 8, len(tags)) + body + bytes(4) + data

    look = Look(1, 4, 4, fit="stretch", resample="box")
    image, _ = decode(tiff(16, 0, struct.pack("<4H", 0, 257, 257 * 254, 65535), 4), look)
    assert image[0, 0].tolist() == [255, 254, 1, 0]
    packed = int("0007ff800fff", 16).to_bytes(6, "big")
    image, _ = decode(tiff(12, 1, packed, 4), look)
    assert image[0, 0].tolist() == [0, 127, 128, 255]


def mode_image(mode: str) -> Image.Image:
    red = Image.new("RGB", (8, 8), (200, 0, 0))
    if mode in ("LA", "La"):
        return Image.new("LA", (8, 8), (60, 255)).convert(mode)
    if mode in ("RGBA", "RGBa"):
        return Image.new("RGBA", (8, 8), (200, 0, 0, 255)).convert(mode)
    if mode in ("P", "PA"):
        return red.convert("P", palette=Image.Palette.ADAPTIVE).convert(mode)
    return red.convert(mode)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV", "LAB", "LA", "La", "PA", "RGBA", "RGBa"]
)
def test_modes(mode: str, channels: int) -> None:
    look = Look(channels, 8, 8)
    image = _flat(_eight_bits(mode_image(mode), "", 0), look)
    gray = {"1": None, "L": 60, "LA": 60, "La": 60}.get(mode, -1)
    expected = [200, 0, 0] if gray == -1 else [gray] * 3
    found = np.asarray(image.convert("RGBA")).reshape(-1, 4)
    assert (found[:, 3] == 255).all()
    assert image.mode == {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    if mode == "1":  # dithered by the conversion into it: black and white
        assert set(found[:, :3].flatten().tolist()) == {0, 255}
    elif channels == 1:
        assert abs(int(found[0, 0]) - 60) <= (5 if mode == "LAB" else 1)
    else:
        assert np.abs(found[0, :3].astype(int) - expected).max() <= (8 if mode == "LAB" else 2)


def test_an_unknown_mode_is_refused() -> None:
    image = mode_image("RGB")
    image._mode = "XYZ"
    with pytest.raises(Unclear, match=r"kind XYZ\. Save it as RGB or gray"):
        _eight_bits(image, "", 0)


def sprite() -> Image.Image:
    """An opaque red square in the middle of hidden noise."""
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 4)).astype("u1")
    pixels[..., 3] = 0
    pixels[8:24, 8:24] = 255, 0, 0, 255
    return Image.fromarray(pixels)


def palette() -> Image.Image:
    image = Image.new("P", (32, 32), 0)
    image.putpalette([9, 9, 9, 255, 0, 0])
    image.paste(1, (8, 8, 24, 24))
    return image


def keyed(mode: str, hidden: Any, shown: Any) -> Image.Image:
    image = Image.new(mode, (32, 32), hidden)
    image.paste(shown, (8, 8, 24, 24))
    return image


@pytest.mark.parametrize("background", ["white", "black", "#0080FF"])
@pytest.mark.parametrize(
    ("image", "name", "options"),
    [
        (sprite(), "a.png", {}),
        (sprite(), "a.tif", {}),
        (sprite(), "a.webp", {"lossless": True, "exact": True}),
        (sprite().convert("LA"), "a.png", {}),
        (palette(), "index.png", {"transparency": 0}),
        (palette(), "several.png", {"transparency": bytes([0, 255])}),
        (palette(), "a.gif", {"transparency": 0}),
        (keyed("RGB", (1, 2, 3), (255, 0, 0)), "a.png", {"transparency": (1, 2, 3)}),
        (keyed("L", 7, 76), "a.png", {"transparency": 7}),
        (keyed("I;16", 1799, 76 * 257), "a.png", {"transparency": 1799}),
        (keyed("1", 0, 1), "a.png", {"transparency": 0}),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "mode", ""),
)
def test_what_is_transparent_shows_the_background(
    tmp_path: Path, image: Image.Image, name: str, options: dict[str, Any], background: str
) -> None:
    folder = saved(tmp_path, name, image, **options)
    ground = {"white": [255] * 3, "black": [0] * 3, "#0080FF": [0, 128, 255]}[background]
    for megabytes in (0, 100):
        dataset = opened(folder, size=32, background=background, resident_megabytes=megabytes, workers=0)
        assert dataset.notes == (f"1 of 1 images have transparency: shown on data.background={background.lower()}",)
    seen = dataset.images[0]  # type: ignore[attr-defined]
    assert (seen[:, :8].flatten(1) == torch.tensor(ground)[:, None]).all()
    middle = {"RGBA": [255, 0, 0], "P": [255, 0, 0], "RGB": [255, 0, 0], "1": [255] * 3}.get(image.mode, [76] * 3)
    assert seen[:, 16, 16].tolist() == middle


def test_transparent_values_of_few_and_of_many_bits() -> None:
    """In a PNG they count in the file's bits: 2 bits of gray, 16 bits of each color."""

    def png(bits: int, kind: int, clear: bytes, row: bytes, width: int) -> bytes:
        def chunk(name: bytes, data: bytes) -> bytes:
            return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

        head = struct.pack(">IIBBBBB", width, 1, bits, kind, 0, 0, 0)
        parts = ((b"IHDR", head), (b"tRNS", clear), (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)

    look = Look(3, 4, 4, fit="stretch", resample="box", background="#010203")
    image, has_alpha = decode(png(2, 0, b"\0\2", bytes([0b00011011]), 4), look)
    assert has_alpha
    assert image[:, 0].T.tolist() == [[0] * 3, [85] * 3, [1, 2, 3], [255] * 3]
    colors = struct.pack(">12H", 0xFFFF, 0, 0, 0x1234, 0x5678, 0x9ABC, 0, 0xFFFF, 0, 0, 0, 0xFFFF)
    image, _ = decode(png(16, 2, struct.pack(">3H", 0x1234, 0x5678, 0x9ABC), colors, 4), look)
    assert image[:, 0].T.tolist() == [[255, 0, 0], [1, 2, 3], [0, 255, 0], [0, 0, 255]]


def test_alpha_can_be_learnt(tmp_path: Path) -> None:
    folder = saved(tmp_path, "a.png", sprite())
    Image.new("RGB", (32, 32), "blue").save(folder / "b.png")
    dataset = opened(folder, size=32, channels=4)
    assert dataset.shape == (4, 32, 32)
    assert dataset.notes == ("1 of 2 images have transparency: alpha is learnt too",)
    first, second = dataset.images  # type: ignore[attr-defined]
    assert first[:, 0, 0].tolist() == [255, 255, 255, 0]  # not the color that was hidden
    assert first[:, 16, 16].tolist() == [255, 0, 0, 255]
    assert second[:, 16, 16].tolist() == [0, 0, 255, 255]


def test_backgrounds_are_colors() -> None:
    for wrong in ("red", None, "#12345", 0):
        with pytest.raises(ValidationError, match="white, black or '#rrggbb'"):
            Folder(path="x", background=wrong)


ODD_TAGS = {
    "resolution as text": (0x011A, 2, 4, b"abc\0"),
    "an integer as a float": (0x0128, 11, 1, struct.pack("<f", 2.5)),
    "a text as a float": (0x010F, 11, 1, struct.pack("<f", 1.5)),
    "a long in a short's place": (0x0128, 4, 1, struct.pack("<I", 99999)),
}


def jpeg(*tags: tuple[int, int, int, bytes]) -> bytes:
    """White above black, with EXIF tags (number, type, count, four bytes)."""
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(tags))
    exif += b"".join(struct.pack("<HHI4s", *tag) for tag in sorted(tags)) + bytes(4)
    image = Image.new("L", (16, 16), 255)
    image.paste(0, (0, 8, 16, 16))
    file = io.BytesIO()
    image.save(file, "JPEG", exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("odd", ODD_TAGS)
def test_a_photo_with_an_odd_tag_is_turned(odd: str) -> None:
    image, _ = decode(jpeg((0x0112, 3, 1, struct.pack("<HH", 6, 0)), ODD_TAGS[odd]), Look(1, 16, 16))
    assert (image[0, :, 8:] > 200).all()  # turned by 90 degrees clockwise: what was above is right
    assert (image[0, :, :8] < 50).all()


@pytest.mark.parametrize(
    "value", [(2, 4, b"top\0"), (11, 1, struct.pack("<f", 2.5)), (3, 1, struct.pack("<HH", 99, 0))]
)
def test_a_photo_whose_orientation_means_nothing_stays_as_it_is(value: tuple[int, int, bytes]) -> None:
    image, _ = decode(jpeg((0x0112, *value)), Look(1, 16, 16))
    assert (image[0, :8] > 200).all()


def test_a_photo_whose_tags_cannot_be_read_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions of Pillow differ in what they raise."""

    def getexif(image: Image.Image) -> Any:
        raise struct.error("unpack requires a buffer of 2 bytes")

    monkeypatch.setattr(Image.Image, "getexif", getexif)
    image, _ = decode(jpeg((0x0112, 3, 1, struct.pack("<HH", 6, 0))), Look(1, 16, 16))
    assert (image[0, :8] > 200).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_images_are_turned_too(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    gray = np.arange(256).reshape(16, 16)
    for name, factor, kind in (("eight.png", 1, "u1"), ("deep.png", 257, "u2")):
        saved(tmp_path, name, (gray * factor).astype(kind), exif=exif)
    eight, deep = images(tmp_path / "eight_png", channels=1), images(tmp_path / "deep_png", channels=1)
    assert torch.equal(eight, deep)
    corner = {1: 0, 2: 15, 3: 255, 4: 240, 5: 0, 6: 240, 7: 255, 8: 15}[orientation]
    assert eight[0, 0, 0, 0] == corner
