"""Images made on the spot, without files: for tests, benchmarks and a first look at a machine."""

from typing import Literal

import torch
from pydantic import Field

from dist_gan.data.source import Dataset, Resident, Source, fingerprint
from dist_gan.randomness import Purpose, draw, uniform
from dist_gan.shapes import ImageShape


class Generated(Source):
    """Discs of random place, radius and colour on black; the label is the quadrant of the disc's middle."""

    name: Literal["generated"] = "generated"
    size: int = Field(32, ge=4)
    """Side in pixels."""
    channels: int = Field(1, ge=1)
    """Channels of an image."""
    count: int = Field(1024, ge=1)
    """How many different images there are."""

    @property
    def shape(self) -> ImageShape:
        """A square."""
        return ImageShape(self.channels, self.size, self.size)

    def open(self, device: torch.device) -> Dataset:
        """The same images on every machine and with every seed."""
        bits = draw(0, {Purpose.GENERATED_DATA: 3 + self.channels}, range(self.count))
        u = uniform(bits[Purpose.GENERATED_DATA])
        x, y, radius = (u[:, i, None, None] for i in range(3))
        axis = (torch.arange(self.size) + 0.5) / self.size
        distance = ((axis[None, None, :] - x).square() + (axis[None, :, None] - y).square()).sqrt()
        edge = ((0.1 + 0.2 * radius - distance) * self.size).clamp(0, 1)  # [M, H, W]: one soft pixel
        colour = (0.3 + 0.7 * u[:, 3:])[:, :, None, None]
        images = (edge[:, None] * colour * 255).round().to(torch.uint8)
        labels = (u[:, 0] > 0.5).long() + 2 * (u[:, 1] > 0.5).long()
        return Resident(images, labels, device, fingerprint("generated", *images.shape))
