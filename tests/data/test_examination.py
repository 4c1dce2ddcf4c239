"""What is seen in a folder of images: sizes, colors, transparency, copies, classes, damage."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from dist_gan.data.alike import almost_same, difference_hashes, same
from dist_gan.data.examination import examine
from dist_gan.data.source import Reading
from dist_gan.errors import ConfigError
from tests.data.pictures import damaged, picture, save


def test_sizes_are_as_they_are_seen(tmp_path: Path) -> None:
    save(tmp_path, "a.png", picture(0, 30, 20))
    turned = Image.Exif()
    turned[0x0112] = 6
    save(tmp_path, "b.jpg", picture(1, 30, 20), exif=turned)
    found = examine(tmp_path)
    assert (found.widths.tolist(), found.heights.tolist()) == ([30, 20], [20, 30])
    assert (found.count, found.usable, found.distinct, found.looked_at) == (2, 2, 2, 2)


def test_gray_is_seen_however_it_is_saved(tmp_path: Path) -> None:
    gray = picture(0).convert("L")
    save(tmp_path, "0.png", gray)
    save(tmp_path, "1.png", gray.convert("RGB"))
    save(tmp_path, "2.jpg", gray.convert("RGB"), quality=40)
    save(tmp_path, "3.png", gray.convert("LA"))
    save(tmp_path, "4.tif", Image.fromarray(np.asarray(gray).astype("u2") * 257))
    save(tmp_path, "5.png", picture(0))
    one_spot = gray.convert("RGB")
    one_spot.putpixel((9, 9), (200, 100, 100))
    save(tmp_path, "6.png", one_spot)
    assert examine(tmp_path).gray.tolist() == [True] * 5 + [False] * 2


def test_only_what_hides_nothing_is_not_transparent(tmp_path: Path) -> None:
    save(tmp_path, "0.png", picture(0))
    save(tmp_path, "1.png", picture(1).convert("RGBA"))
    hidden = picture(2).convert("RGBA")
    hidden.putalpha(Image.new("L", hidden.size, 0))
    save(tmp_path, "2.png", hidden)
    half = Image.new("RGBA", (48, 48), (0, 0, 0, 0))
    half.paste((0, 0, 0, 255), (0, 0, 24, 48))
    save(tmp_path, "3.png", half)
    save(tmp_path, "4.gif", picture(4).convert("P"), transparency=3)
    found = examine(tmp_path)
    assert found.clear.tolist()[:4] == [False, False, True, True]
    assert found.brightness[3] == 0, "the hidden half is not seen"


def test_brightness(tmp_path: Path) -> None:
    for number, level in enumerate((0, 51, 255)):
        save(tmp_path, f"{number}.png", Image.new("L", (20, 20), level))
    assert np.allclose(examine(tmp_path).brightness, [0, 0.2, 1])


def test_copies_are_found_by_their_pixels(tmp_path: Path) -> None:
    save(tmp_path, "a.png", picture(0))
    save(tmp_path, "b.bmp", picture(0))
    save(tmp_path, "c.png", picture(1))
    save(tmp_path, "d.png", picture(0).convert("RGBA"))
    save(tmp_path, "e.png", picture(0).resize((24, 24)))
    found = examine(tmp_path)
    assert (found.copies, found.alike, found.distinct) == (2, 1, 3)
    assert found.pairs == (("b.bmp", "a.png"), ("d.png", "a.png"), ("e.png", "a.png"))


def test_a_gray_copy_may_be_saved_in_color(tmp_path: Path) -> None:
    save(tmp_path, "a.png", picture(0).convert("L"))
    save(tmp_path, "b.png", picture(0).convert("L").convert("RGB"))
    assert examine(tmp_path).copies == 1


@pytest.mark.parametrize(
    ("change", "is_alike"),
    [
        (lambda image: image.resize((100, 70)), True),
        (lambda image: image.crop((3, 3, 253, 253)), True),
        (lambda image: ImageEnhance.Brightness(image).enhance(1.03), True),
        (lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), False),
        (lambda image: image.crop((60, 60, 250, 250)), False),
        (lambda image: ImageEnhance.Brightness(image).enhance(0.5), False),
    ],
    ids=["scaled", "cut a little", "brighter", "mirrored", "cut", "dark"],
)
def test_almost_the_same(tmp_path: Path, change: object, is_alike: bool) -> None:
    for number in range(20):
        save(tmp_path, f"{number:02d}.png", picture(number, 256, 256))
    save(tmp_path, "x.jpg", change(picture(7, 256, 256)), quality=70)
    assert examine(tmp_path).alike == is_alike


def test_flat_pictures_of_other_colors_are_not_alike(tmp_path: Path) -> None:
    """All have one dHash: 0."""
    for level in range(0, 250, 10):
        save(tmp_path, f"{level:03d}.png", Image.new("L", (20, 20), level))
    found = examine(tmp_path)
    assert (found.copies, found.alike) == (0, 0)


def test_the_index_misses_no_pair() -> None:
    """Against a comparison of all pairs, for hashes with up to 6 bits changed; and in bands that are all equal."""
    random = np.random.default_rng(0)
    hashes = random.integers(0, 2**63, 300, dtype=np.uint64)
    for number in range(150, 300):
        changed = random.choice(64, random.integers(0, 7), replace=False)
        hashes[number] = hashes[number - 150] ^ np.bitwise_or.reduce(np.uint64(1) << changed.astype(np.uint64))
    hashes[:40] &= np.uint64(0xFFFF)
    thumbnails = np.zeros((300, 8, 9), np.uint8)
    expected = list(range(300))
    for second in range(300):
        for first in range(second):
            if int(hashes[first] ^ hashes[second]).bit_count() <= 4:
                a, b = sorted((expected[first], expected[second]))
                expected = [a if leader == b else leader for leader in expected]
    assert len(set(expected)) < 220
    assert almost_same(hashes, thumbnails).tolist() == expected


def test_hashes_and_copies_of_none_and_one() -> None:
    assert same(np.zeros((0, 16), np.uint8)).tolist() == []
    assert almost_same(np.zeros(1, np.uint64), np.zeros((1, 8, 9), np.uint8)).tolist() == [0]
    ramp = np.tile(np.arange(9, dtype=np.uint8)[::-1], (1, 8, 1))
    assert difference_hashes(ramp).tolist() == [2**64 - 1]
    assert difference_hashes(ramp[:, :, ::-1]).tolist() == [0]


def test_damaged_files_are_named_and_end_nothing(tmp_path: Path) -> None:
    save(tmp_path, "a.png", picture(0))
    damaged(tmp_path, "b.png")
    (tmp_path / "c.jpg").write_text("no image")
    (tmp_path / "d.png").symlink_to(tmp_path / "gone.png")
    found = examine(tmp_path)
    assert (found.count, found.usable, list(found.broken)) == (4, 1, ["b.png", "c.jpg", "d.png"])
    assert found.broken["c.jpg"] == "not an image of a known kind"
    (tmp_path / "a.png").unlink()
    with pytest.raises(ConfigError, match=r"none of 3 images can be read; the first is b.png \("):
        examine(tmp_path)


def test_values_without_a_known_white(tmp_path: Path) -> None:
    save(tmp_path, "a.tif", Image.fromarray(np.full((16, 16), 128, "f4")))
    with pytest.raises(ConfigError, match=r"a.tif: its floats go from 128 to 128, .* Set white to the value"):
        examine(tmp_path)
    assert examine(tmp_path, white=256).brightness[0] == pytest.approx(0.5, abs=0.01)


def test_classes_are_the_sub_folders(folder: Path) -> None:
    assert examine(folder).classes == {"cats": 20, "dogs": 20}
    save(folder, "stray.png", picture(0))
    assert examine(folder).classes == {}


def test_what_is_on_the_left_of_all(tmp_path: Path) -> None:
    for number in range(200):
        save(tmp_path, f"none/{number}.png", picture(number))
        image = picture(number)
        image.paste((255, 255, 255), (0, 0, 10, 48))
        save(tmp_path, f"left/{number}.png", image)
    assert examine(tmp_path / "none").asymmetry < 0.05
    assert examine(tmp_path / "left").asymmetry > 0.3


def test_no_more_than_asked_are_looked_at_and_progress_is_heard(tmp_path: Path) -> None:
    for number in range(25):
        save(tmp_path, f"{number:02d}.png", picture(number, 20 + number, 20))
    heard: list[tuple[str, int, int]] = []
    found = examine(tmp_path, reading=Reading(progress=lambda *report: heard.append(report)), most=10)
    assert (found.count, found.looked_at) == (25, 9)
    assert found.widths.tolist() == list(range(20, 45, 3))
    assert heard[-1] == ("looking at images", 9, 9)
