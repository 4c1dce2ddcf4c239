"""The pixels themselves as features: for a first look, and where no network fits the images."""

import hashlib
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from dist_gan.metrics.features import FeatureNetwork, Features, Seen, colored


class PixelNetwork(FeatureNetwork):
    """Means of pixels over a grid of side x side fields, from 0 to 1."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side
        self.size = 3 * side * side
        self.sha256 = hashlib.sha256(f"pixels {side}".encode()).hexdigest()  # there are no weights

    def forward(self, images: Tensor) -> Seen:
        """[n, C, H, W] -> [n, 3 side^2]."""
        return Seen(adaptive_avg_pool2d(colored(images).float(), self.side).flatten(1) / 255)


class Pixels(Features):
    """Means of pixels: no network, nothing to download. They say little about what an image shows."""

    name: Literal["pixels"] = "pixels"
    side: int = Field(8, ge=1, le=64)
    """Means over side x side fields of each channel."""

    @property
    def resizing(self) -> str:
        return f"area{self.side}"

    def open(self, device: torch.device) -> FeatureNetwork:
        return PixelNetwork(self.side).to(device)
