"""Images of any shape, of 1 to 4 channels: a whole tiny run, its picture, its checkpoint, its samples."""

from pathlib import Path

import pytest
from PIL import Image

from tests.support.commands import sample, train
from tests.support.runs import SMALL, newest

TINY = [*SMALL[2:], "images=128", "sample.count=4"]
SHAPES = {
    "mlp": ("data={name: generated, size: 10x7, channels: %d}", "networks={name: mlp, width: 4}"),
    "dcgan": (
        "data={name: generated, size: 20x12, channels: %d}",
        "networks={name: dcgan, width: 4, start: 5x3}",
    ),
}


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("name", SHAPES)
def test_a_run_on_images_of_any_shape(name: str, channels: int, tmp_path: Path) -> None:
    data, networks = SHAPES[name]
    run = [*TINY, data % channels, networks, f"run={tmp_path}/a"]
    assert train.main(run) == 0
    assert newest(tmp_path / "a").state["image_shape"] == [channels, *((10, 7) if name == "mlp" else (20, 12))]
    for picture in ("real.png", "000000000128.png"):
        with Image.open(tmp_path / "a" / "samples" / picture) as image:
            assert image.mode == "RGB"  # of four channels the first three
    assert train.main([*run, "images=256"]) == 0
    assert sample.main([str(tmp_path / "a"), f"out={tmp_path}/x.png", "count=4"]) == 0
    with Image.open(tmp_path / "x.png") as image:
        assert image.mode == "RGB"


def test_a_group_that_does_not_divide_512(tmp_path: Path) -> None:
    run = [*SMALL[2:], "data={name: generated, size: 16}", "networks={name: dcgan, width: 4, group: 10}"]
    assert train.main([*run, "batch_size=20", "images=40", f"run={tmp_path}/a"]) == 0
