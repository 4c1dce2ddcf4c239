"""Each rule about the images themselves."""

from typing import Any

import pytest

from dist_gan.advising.pictures import Pictures, pictures
from dist_gan.data.examination import Examined
from tests.advising.seen import seen, shapes


def advised(examined: Examined, most: int = 256, **options: Any) -> Pictures:
    return pictures(examined, "photos", most, "256 is enough", **{"rectangles": False, **options})


def value(examined: Examined, key: str, most: int = 256, **options: Any) -> Any:
    values = {choice.key: choice.value for choice in advised(examined, most, **options).choices}
    return values.get(f"data.{key}")


def reason(examined: Examined, key: str, most: int = 256, **options: Any) -> str:
    return {choice.key: choice.reason for choice in advised(examined, most, **options).choices}[f"data.{key}"]


@pytest.mark.parametrize(
    ("side", "size"), [(5, 8), (12, 8), (13, 16), (28, 32), (51, 32), (52, 64), (64, 64), (102, 64), (300, 256)]
)
def test_size_is_what_images_reach(side: int, size: int) -> None:
    """Enlarged by a quarter at most; at least 8."""
    assert value(seen(width=side, height=side), "size") == size


def test_nine_tenths_must_reach_the_size() -> None:
    assert value(seen(**shapes((90, 128, 128), (10, 20, 20))), "size") == 128
    assert value(seen(**shapes((89, 128, 128), (11, 20, 20))), "size") == 16
    assert "At 128, 90% of them are enlarged by a quarter at most; at 256 it would be less than 90%." in reason(
        seen(**shapes((90, 128, 128), (10, 20, 20))), "size"
    )


def test_the_most_that_is_advised_has_its_reason() -> None:
    large = seen(width=1000, height=1000)
    assert value(large, "size") == 256
    assert reason(large, "size").endswith("They would do for 1024; 256 is enough.")


def test_squares_are_cut_where_little_is_lost() -> None:
    for width in (300, 330, 400):
        assert value(seen(width=width, height=300), "fit") == "crop"
    assert "75% of a typical image" in reason(seen(width=400, height=300), "fit")
    assert reason(seen(), "fit") == "The images are square."


def test_one_long_shape_is_squeezed_or_learnt_as_it_is() -> None:
    wide = seen(width=160, height=90)
    assert value(wide, "fit") == "stretch"
    assert "back to 1.78 : 1" in reason(wide, "fit")
    assert value(wide, "size") == 64, "of the shorter side"
    own = advised(wide, 32, rectangles=True)
    assert (own.start, own.shape) == ("4x7", (3, 32, 56))
    assert value(wide, "size", 32, rectangles=True) == "32x56"
    tall = seen(width=60, height=90)
    assert value(tall, "size", 32, rectangles=True) == "48x32"
    assert advised(tall, 32, rectangles=True).start == "6x4"
    assert value(seen(width=600, height=90), "fit", rectangles=True) == "stretch", "6.7 : 1 is too long"


def test_shapes_that_differ_are_cut_or_padded() -> None:
    mixed = seen(**shapes((50, 300, 200), (50, 200, 300)))
    assert value(mixed, "fit") == "crop"
    assert "fit: pad keeps all of it" in reason(mixed, "fit")
    long = seen(**shapes((50, 300, 100), (50, 100, 300)), brightness=seen(100).brightness)
    assert value(long, "fit") == "pad"
    assert value(long, "size") == 256, "of the longer side"
    assert value(long, "background") == "white"


def test_gray_is_one_channel_only_where_all_are() -> None:
    assert value(seen(100, gray=100), "channels") == 1
    assert value(seen(100, gray=99), "channels") == 3
    assert "99 of 100 images are gray" in reason(seen(100, gray=99), "channels")
    assert advised(seen(100, gray=100)).shape.channels == 1


def test_what_is_seen_through_transparency() -> None:
    assert value(seen(), "background") is None
    assert value(seen(100, clear=30), "background") == "white"
    bright = seen(100, clear=30, brightness=seen(100).brightness + 0.4)
    assert value(bright, "background") == "black"
    assert "30 of 100 images are transparent somewhere" in reason(bright, "background")
    assert value(bright, "channels") == 3


def test_images_that_are_not_symmetric_are_not_mirrored() -> None:
    assert value(seen(asymmetry=0.14), "flip") is True
    assert "set false where left and right differ" in reason(seen(asymmetry=0.14), "flip")
    assert value(seen(asymmetry=0.15), "flip") is False
    assert value(seen(99, asymmetry=0.5), "flip") is True, "too few to know"


@pytest.mark.parametrize(
    ("classes", "labels", "why"),
    [
        ({}, False, ""),
        ({"cats": 1000}, False, ""),
        ({"cats": 1000, "dogs": 900}, True, "2 sub-folders of 900 to 1,000 images, taken for classes"),
        ({"cats": 99, "dogs": 99}, False, "half have fewer than 100"),
        ({"00000": 1000, "01000": 1000}, False, "portions and no classes"),
        ({"train": 1000, "test": 500}, False, "portions and no classes"),
        ({"part1": 1000, "part_2": 1000}, False, "portions and no classes"),
        ({"0": 1000, "1": 1000}, True, "taken for classes"),
        ({f"n{i:08}": 100 for i in range(1001)}, False, "more than 1,000 classes"),
    ],
)
def test_sub_folders_are_classes_where_they_look_like_it(classes: dict[str, int], labels: bool, why: str) -> None:
    examined = seen(classes=classes)
    assert advised(examined).labels is labels
    assert value(examined, "labels") is labels
    assert why in reason(examined, "labels")


def test_damaged_files_are_replaced_as_far_as_the_run_does_it() -> None:
    assert value(seen(), "skip_broken") is None
    few = seen(100, broken={"a.png": "cut"})
    assert value(few, "skip_broken") is True
    assert "a.png cannot be read" in reason(few, "skip_broken")
    many = seen(100, broken={f"{i}.png": "cut" for i in range(11)})
    assert "more than the 10 that are replaced: the run is refused" in reason(many, "skip_broken")


def test_white_is_handed_on() -> None:
    assert value(seen(), "white") is None
    assert value(seen(), "white", white=4095) == 4095
