"""The quick way to decode a JPEG: the same bytes as Pillow's, and Pillow for everything unusual or damaged."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dist_gan.data import Folder, jpegs
from dist_gan.data.decode import Look, decode
from dist_gan.data.jpegs import TRIAL, differs, pixels
from tests.data.pictures import encoded, picture
from tests.data.streams import CPU

NAMES = {"simplejpeg": jpegs.by_simplejpeg, "torchvision": jpegs.by_torchvision}


@pytest.fixture(params=NAMES)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Each decoder, where it is installed and decodes as Pillow does."""
    monkeypatch.setattr(jpegs, "WAYS", [NAMES[request.param]])
    jpegs._decoder.cache_clear()
    if jpegs._decoder() is None:
        pytest.skip(f"{request.param} is not here, or decodes as Pillow does not")
    yield request.param
    jpegs._decoder.cache_clear()


def by_pillow(content: bytes) -> np.ndarray[Any, Any]:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 20, "subsampling": 1}])
@pytest.mark.parametrize("gray", [False, True])
def test_the_same_bytes(way: str, options: dict[str, Any], gray: bool) -> None:
    for number, (width, height) in enumerate([(48, 48), (33, 17), (8, 9)]):
        image = picture(number, width, height)
        content = encoded(image.convert("L") if gray else image, "JPEG", **options)
        found = pixels(content)
        assert found is not None
        assert found.shape == (1 if gray else 3, height, width)
        assert np.array_equal(found.expand(3, -1, -1).permute(1, 2, 0).numpy(), by_pillow(content))


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("fit", ["crop", "stretch", "pad"])
@pytest.mark.parametrize("size", [(40, 40), (24, 16)])
def test_both_ways_lead_to_the_same(
    way: str, channels: int, fit: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for image in (picture(0, 40, 40), picture(1, 40, 40).convert("L")):
        content = encoded(image, "JPEG")
        look = Look(channels, *size, fit)
        quick = decode(content, look)
        with monkeypatch.context() as patch:
            patch.setattr("dist_gan.data.decode.pixels", lambda content: None)
            slow = decode(content, look)
        assert torch.equal(quick[0], slow[0])
        assert quick[0].is_contiguous()
        assert quick[1] == slow[1]


def test_what_is_unusual_is_left_to_pillow(way: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = picture(0)
    for content in (
        encoded(image, "JPEG", exif=exif),
        encoded(image.convert("CMYK"), "JPEG"),
        encoded(image, "JPEG")[:-2],
        encoded(image, "PNG"),
        encoded(image, "WEBP"),
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xc0\xff\xd9",
        b"",
    ):
        assert pixels(content) is None


def test_damage_is_seen_as_pillow_sees_it(way: str) -> None:
    """Where both decode a file, they see the same; where Pillow refuses it, so does the quick way."""
    random = np.random.default_rng(0)
    same = 0
    for number in range(400):
        content = bytearray(encoded(picture(number, 24, 24), "JPEG", progressive=bool(number % 2)))
        for _ in range(random.integers(1, 4)):
            content[random.integers(len(content))] = random.integers(256)
        if number % 3 == 0:
            cut = random.integers(len(content) // 2, len(content) - 2)
            content[cut:] = b"\xff\xd9"
        found = pixels(bytes(content))
        if found is not None:
            assert np.array_equal(found.expand(3, -1, -1).permute(1, 2, 0).numpy(), by_pillow(bytes(content)))
            same += 1
    assert same > 50


def test_a_decoder_with_other_bytes_is_not_used(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = NAMES[way]()
    monkeypatch.setattr(jpegs, "WAYS", [lambda: lambda content, channels: right(content, channels) ^ 1])
    jpegs._decoder.cache_clear()
    assert pixels(TRIAL) is None


def test_other_bytes_are_another_fingerprint(folder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert differs() == []  # else this machine decodes JPEGs as no other that was seen
    before = Folder(path=str(folder), size=16).open(CPU).fingerprint
    monkeypatch.setattr(jpegs, "KNOWN", "")
    assert len(differs()) == 1
    assert Folder(path=str(folder), size=16).open(CPU).fingerprint != before
