"""Images made on the spot, without files: for tests, benchmarks and a first look at a machine."""

from typing import Literal

import torch
from pydantic import Field

from dist_gan.data.source import READING, Dataset, Reading, Resident, Size, Source, fingerprint, sides
from dist_gan.randomness import Purpose, draw, uniform
from dist_gan.shapes import ImageShape

QUADRANTS = ("top left", "top right", "bottom left", "bottom right")


class Generated(Source):
    """Discs of random place, radius and color on black; the class is the quadrant of the disc's middle."""

    name: Literal["generated"] = "generated"
    size: Size = 32
    """Side in pixels, or height x width: 24x32."""
    channels: int = Field(1, ge=1)
    """Channels of an image."""
    count: int = Field(1024, ge=1)
    """How many different images there are."""

    @property
    def shape(self) -> ImageShape:
        return ImageShape(self.channels, *sides(self.size))

    @property
    def has_labels(self) -> bool:
        return True

    def open(self, device: torch.device, reading: Reading = READING) -> Dataset:
        """The same images on every machine and with every seed."""
        bits = draw(0, {Purpose.GENERATED_DATA: 3 + self.channels}, range(self.count))
        u = uniform(bits[Purpose.GENERATED_DATA], torch.float64)  # float32's square root differs between CPUs
        x, y, radius = (u[:, i, None, None] for i in range(3))
        height, width = sides(self.size)
        side = min(height, width)  # lengths are fractions of it, so that discs are round
        columns, rows = ((torch.arange(n, dtype=u.dtype) + 0.5) / side for n in (width, height))
        dx, dy = columns[None, None, :] - x * (width / side), rows[None, :, None] - y * (height / side)
        distance = (dx.square() + dy.square()).sqrt()
        edge = ((0.1 + 0.2 * radius - distance) * side).clamp(0, 1)  # [M, H, W]: one soft pixel
        color = (0.3 + 0.7 * u[:, 3:])[:, :, None, None]
        images = (edge[:, None] * color * 255).round().to(torch.uint8)
        labels = (u[:, 0] > 0.5).long() + 2 * (u[:, 1] > 0.5).long()
        return Resident(images, labels, device, fingerprint("generated in float64", *images.shape), QUADRANTS)
