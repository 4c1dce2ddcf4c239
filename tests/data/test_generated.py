import hashlib

import pytest
import torch
from pydantic import ValidationError

from dist_gan.data import Generated
from dist_gan.randomness import Purpose, draw, uniform
from tests.data.streams import CPU


def test_square_images_follow_the_formula_for_squares() -> None:
    """The same bits as from the formula for squares alone."""
    side, count = 16, 150
    u = uniform(draw(0, {Purpose.GENERATED_DATA: 6}, range(count))[Purpose.GENERATED_DATA], torch.float64)
    x, y, radius = (u[:, i, None, None] for i in range(3))
    axis = (torch.arange(side, dtype=torch.float64) + 0.5) / side
    distance = ((axis[None, None, :] - x).square() + (axis[None, :, None] - y).square()).sqrt()
    edge = ((0.1 + 0.2 * radius - distance) * side).clamp(0, 1)
    expected = (edge[:, None] * (0.3 + 0.7 * u[:, 3:])[:, :, None, None] * 255).round().to(torch.uint8)
    dataset = Generated(size=side, channels=3, count=count).open(CPU)
    assert torch.equal(dataset.images, expected)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("size", "channels", "expected"),
    [(32, 1, "bea8ba3d6973904a"), ("24x40", 3, "f258d2edc6c059f0")],
)
def test_they_are_the_same_bytes_on_every_machine(size: int | str, channels: int, expected: str) -> None:
    """Of each size, 2 or 3 pixels were others where the square root was that of float32, which differs between CPUs."""
    images = Generated(size=size, channels=channels, count=1000).open(CPU).images  # type: ignore[attr-defined]
    assert hashlib.sha256(images.numpy().tobytes()).hexdigest()[:16] == expected


@pytest.mark.parametrize(("size", "height", "width"), [(24, 24, 24), ("24x48", 24, 48), ("40x16", 40, 16)])
def test_discs_are_round_and_their_classes_are_quadrants(size: int | str, height: int, width: int) -> None:
    source = Generated(size=size, channels=2, count=300)
    assert source.shape == (2, height, width)
    assert source.has_labels
    dataset = source.open(CPU)
    assert dataset.classes == ("top left", "top right", "bottom left", "bottom right")
    images, labels = dataset.images.double(), dataset.labels  # type: ignore[attr-defined]
    assert images.shape == (300, 2, height, width)
    mass = images.sum(1)
    rows, columns = torch.arange(height) + 0.5, torch.arange(width) + 0.5
    y = (mass.sum(2) * rows).sum(1) / mass.sum((1, 2))
    x = (mass.sum(1) * columns).sum(1) / mass.sum((1, 2))
    inside = mass[:, 0].sum(1) + mass[:, -1].sum(1) + mass[:, :, 0].sum(1) + mass[:, :, -1].sum(1) == 0
    for name, right, below in (("top left", 0, 0), ("top right", 1, 0), ("bottom left", 0, 1), ("bottom right", 1, 1)):
        mine = (labels == dataset.classes.index(name)) & inside
        assert mine.sum() > 3
        assert ((x[mine] > width / 2 - 0.5) if right else (x[mine] < width / 2 + 0.5)).all()
        assert ((y[mine] > height / 2 - 0.5) if below else (y[mine] < height / 2 + 0.5)).all()
    wide = (mass[inside] > 0).any(1).sum(1) - (mass[inside] > 0).any(2).sum(1)
    assert wide.abs().max() <= 1


def test_sizes_that_cannot_be() -> None:
    for wrong in (3, "2x8", "x"):
        with pytest.raises(ValidationError, match="a side of at least 4 pixels"):
            Generated(size=wrong)
