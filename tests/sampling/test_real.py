"""Real images in the columns of their classes."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dist_gan.data import Generated
from dist_gan.data.source import Resident
from dist_gan.sampling.real import SEARCHED, like
from tests.support.runs import run


def batches(labels: list[list[int]], read: list[int]) -> Iterator[tuple[Tensor, Tensor]]:
    """Images whose single pixel is 10 * label + the number of the batch."""
    for number, own in enumerate(labels):
        read.append(number)
        pixels = [10 * label + number for label in own]
        yield torch.tensor(pixels, dtype=torch.uint8).view(-1, 1, 1, 1), torch.tensor(own)


def test_the_first_of_each_class_are_taken() -> None:
    read: list[int] = []
    wanted = torch.tensor([0, 1, 2] * 2)
    images = like(wanted, 6, batches([[1, 1, 1, 0], [0, 0, 2], [1, 2, 0], [0, 1, 2]], read))
    assert images.flatten().tolist() == [0, 10, 21, 1, 10, 22]
    assert read == [0, 1, 2], "no more than needed"


def test_the_search_ends() -> None:
    read: list[int] = []
    images = like(torch.tensor([1, 7]), 2, batches([[1] * 256] * 9, read))
    assert images.flatten().tolist() == [10, 0], "black where there is none"
    assert len(read) == SEARCHED // 256


def test_without_classes_the_first_are_taken() -> None:
    read: list[int] = []
    assert like(None, 2, batches([[4, 3, 2], [1]], read)).flatten().tolist() == [40, 30]
    assert read == [0]
    assert len(like(None, 9, batches([[4, 3, 2], [1]], read))) == 3


def test_a_run_shows_them_in_the_columns_of_its_grid(tmp_path: Path) -> None:
    """Generated data has four classes: discs of four places."""
    options = ["networks.conditional=true", "sample={every: 1280, count: 10}", "batch_size=8", "images=64"]
    assert run(tmp_path / "a", 64, *options) == 0
    with Image.open(tmp_path / "a" / "samples" / "real.png") as real:
        size = real.size
        pixels = np.asarray(real.convert("L"))[::13, ::13][2:, 2:]  # enlarged by 13, with a border of 2 pixels
    with Image.open(tmp_path / "a" / "samples" / "000000000000.png") as made:
        assert made.size == size
    data = Generated(size=8).open(torch.device("cpu"))
    assert isinstance(data, Resident)
    every = {image.numpy().tobytes(): int(label) for image, label in zip(data.images[:, 0], data.labels, strict=True)}
    shown = [pixels[10 * (i // 4) :, 10 * (i % 4) :][:8, :8] for i in range(10)]
    assert [every[np.ascontiguousarray(image).tobytes()] for image in shown] == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
