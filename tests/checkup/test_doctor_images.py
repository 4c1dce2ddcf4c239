"""The doctor's line about the images of a folder."""

from pathlib import Path

import pytest
from PIL import Image

from dist_gan.checkup import Mark, images
from dist_gan.config.schema import Config
from dist_gan.data import Folder
from dist_gan.objective.augment import DiffAugment
from tests.data.pictures import picture, save


def line(path: Path, augment: bool = True, **options: object) -> tuple[Mark, str, str]:
    data = Folder(path=str(path), **options)
    found = images.images(Config(data=data, augment=DiffAugment()) if augment else Config(data=data), data)
    return found.mark, found.found, found.advice


def test_images_that_suit_the_config(tmp_path: Path) -> None:
    for number in range(30):
        save(tmp_path, f"{number}.png", picture(number, 40 + number, 70))
    save(tmp_path, "again.jpg", picture(3, 43, 70), quality=60)
    assert line(tmp_path, size=32) == (
        Mark.OK,
        "shorter side 40 to 69, half from 54 on; 1 almost the same as others",
        "",
    )


def test_images_that_do_not(tmp_path: Path) -> None:
    for number in range(20):
        save(tmp_path, f"{number}.png", picture(number).convert("L"))
    for number in range(5):
        save(tmp_path, f"again{number}.png", picture(0).convert("L"))
    mark, found, advice = line(tmp_path, size=64, augment=False)
    assert mark is Mark.ADVICE
    assert found == "shorter side 48; all gray; copies among them: 5"
    for text in (
        "data.size: 100% of the images are enlarged to 64",
        "data.channels: all images are gray, so 1 learns as much",
        "augment: 25 images are few",
        "5 copies among 25 images are learnt more often",
        f"`python -m dist_gan.advise {tmp_path}` looks at them all",
    ):
        assert text in advice
    assert "data.channels" not in line(tmp_path, size=64, channels=1)[2]
    assert "augment" not in line(tmp_path, size=64)[2]


def test_padded_images_are_enlarged_less(tmp_path: Path) -> None:
    for number in range(20):
        save(tmp_path, f"{number}.png", picture(number, 64, 20))
    assert "100% of the images are enlarged" in line(tmp_path, size=64)[2]
    assert line(tmp_path, size=64, fit="pad")[0] is Mark.OK


def test_only_some_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "LOOKED_AT", 10)
    for number in range(30):
        save(tmp_path, f"{number:02d}.png", Image.new("RGB", (64, 64), (8 * number, 0, 0)))
    assert line(tmp_path, size=64)[1].startswith("10 of 30 looked at: shorter side 64")
