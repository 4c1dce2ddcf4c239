"""DCGAN (Radford, Metz and Chintala 2016, "Unsupervised representation learning with deep convolutional GANs").

With `conditional`, a projection discriminator (Miyato and Koyama 2018, "cGANs with projection discriminator").
"""

import itertools
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from dist_gan.networks.base import Discriminator, Generator, Networks, Recipe
from dist_gan.networks.layers import GroupBatchNorm2d, beside, channels_last, weights_channels_last
from dist_gan.networks.weights import initialize
from dist_gan.randomness import Purpose
from dist_gan.shapes import DataShape, ImageShape

MOST_DOUBLINGS = 8


class DCGANGenerator(Generator):
    """Latents (and the class's embedding beside them) become a map of the size `start`, which transposed convolutions
    double until it has the image's size; tanh."""

    def __init__(self, shape: DataShape, recipe: "DCGAN") -> None:
        super().__init__(recipe.latent, shape.image)
        self.classes = shape.classes if recipe.conditional else 0
        first = recipe.latent + (recipe.embedding if self.classes else 0)
        doublings = recipe.doublings(shape.image)
        assert doublings is not None
        channels = [recipe.width * 2**k for k in reversed(range(doublings))]  # at 32: 4w, 2w, w
        layers: list[nn.Module] = [nn.ConvTranspose2d(first, channels[0], recipe.first_map, bias=False)]
        for a, b in itertools.pairwise(channels):
            layers += [GroupBatchNorm2d(a, recipe.group), nn.ReLU(True), nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False)]
        layers += [
            GroupBatchNorm2d(channels[-1], recipe.group),
            nn.ReLU(True),
            nn.ConvTranspose2d(channels[-1], shape.image.channels, 4, 2, 1, bias=False),
        ]
        self.layers = nn.Sequential(*layers)
        self.embedding = nn.Embedding(self.classes, recipe.embedding) if self.classes else None

    def forward(self, latents: Tensor, condition: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        """[N, Z] -> [N, C, H, W] in [-1, 1]."""
        return torch.tanh(self.layers(beside(latents, self.embedding, condition)[:, :, None, None]))


class DCGANDiscriminator(Discriminator):
    """The generator in reverse: strided convolutions, LeakyReLU 0.2, no batch normalization in the first layer.

    Conditional: logit + <embedding of the class, features summed over the last map>.
    """

    def __init__(self, shape: DataShape, recipe: "DCGAN") -> None:
        super().__init__()
        classes = shape.classes if recipe.conditional else 0
        doublings = recipe.doublings(shape.image)
        assert doublings is not None
        channels = [recipe.width * 2**k for k in range(doublings)]  # at 32: w, 2w, 4w
        layers: list[nn.Module] = [
            nn.Conv2d(shape.image.channels, channels[0], 4, 2, 1, bias=False),
            nn.LeakyReLU(0.2, True),
        ]
        for a, b in itertools.pairwise(channels):
            norm = [GroupBatchNorm2d(b, recipe.group)] if recipe.discriminator_norm else []
            layers += [nn.Conv2d(a, b, 4, 2, 1, bias=not norm), *norm, nn.LeakyReLU(0.2, True)]
        self.layers = nn.Sequential(*layers)
        self.last = nn.Conv2d(channels[-1], 1, recipe.first_map, bias=False)
        self.embedding = nn.Embedding(classes, channels[-1]) if classes else None

    def logits(self, images: Tensor, condition: Tensor | None, noise: Tensor | None) -> Tensor:
        """[N, C, H, W] -> [N]."""
        features = self.layers(channels_last(images))
        logits = self.last(features).flatten()
        if self.embedding is None:
            return logits
        return logits + (self.embedding(condition) * features.sum((2, 3))).sum(1)


class DCGAN(Recipe):
    """Convolutional generator and discriminator, for images whose sides are those of `start`, doubled."""

    can_be_conditional: ClassVar[bool] = True

    name: Literal["dcgan"] = "dcgan"
    latent: int = Field(100, ge=1)
    """Z, the length of a latent."""
    width: int = Field(64, ge=1)
    """Channels of the largest hidden map; each halving of the map doubles them."""
    group: int = Field(16, ge=2)
    """Batch normalization takes its statistics over this many consecutive samples, on any number of processes. The
    microbatch (or a process's part of the batch) must hold full groups."""
    discriminator_norm: bool = True
    """Batch normalization in D too. Without it (and with biases in its place) D's logit of an image does not depend on
    other images, as gradient penalties need."""
    start: str = Field("4x4", pattern=r"^[1-9]\d{0,2}x[1-9]\d{0,2}$")
    """Height x width of the smallest map. Images have this size doubled once or more: 4x4 makes 8x8 to 1024x1024, 5x3
    makes 80x48."""
    conditional: bool = False
    """G is given an embedding of the class beside the latent, and D projects its features onto another one."""
    embedding: int = Field(16, ge=1)
    """Length of a class's embedding beside the latent, where `conditional`."""

    @property
    def first_map(self) -> tuple[int, int]:
        """Height and width of the smallest map."""
        height, width = map(int, self.start.split("x"))
        return height, width

    @property
    def batch_multiple(self) -> int:
        return self.group

    @property
    def mixes_samples(self) -> bool:
        return self.discriminator_norm

    def doublings(self, image: ImageShape) -> int | None:
        """How often the smallest map is doubled until it has the size of `image`; None if it never has."""
        sizes = [(self.first_map[0] << k, self.first_map[1] << k) for k in range(1, MOST_DOUBLINGS + 1)]
        return sizes.index((image.height, image.width)) + 1 if (image.height, image.width) in sizes else None

    def mistakes(self, shape: ImageShape) -> list[str]:
        if self.doublings(shape) is not None:
            return []
        height, width = self.first_map
        sizes = [(height << k, width << k) for k in range(1, MOST_DOUBLINGS + 1)]
        near = sorted(sizes, key=lambda size: abs(size[0] - shape.height) + abs(size[1] - shape.width))[:2]
        other = _start_for(shape)
        return [
            f"networks: dcgan with start={self.start} makes images of {' or '.join(f'{h}x{w}' for h, w in near)} (the "
            f"nearest sizes), and the data gives {shape.height}x{shape.width}. Set data.size to one of these"
            + (f", or networks.start={other}" if other else "")
            + ", or networks.name=mlp, which takes any size"
        ]

    def build(self, shape: DataShape, seed: int) -> Networks:
        """Both networks, in float32 on the CPU, channels last, weights from N(0, 0.02), batch norm's N(1, 0.02)."""
        networks = Networks(DCGANGenerator(shape, self), DCGANDiscriminator(shape, self))
        initialize(networks.generator, seed, Purpose.GENERATOR_WEIGHTS, _normal)
        initialize(networks.discriminator, seed, Purpose.DISCRIMINATOR_WEIGHTS, _normal)
        for network in networks:
            weights_channels_last(network)
        return networks


def _start_for(shape: ImageShape) -> str:
    """The start that makes `shape`, with sides of 3 to 7 where there is one; empty where there is none."""
    height, width = shape.height, shape.width
    while height % 2 == 0 and width % 2 == 0 and min(height, width) > 7:
        height, width = height // 2, width // 2
    return f"{height}x{width}" if (height, width) != (shape.height, shape.width) and max(height, width) <= 32 else ""


def _normal(name: str, parameter: Tensor, layer: nn.Module) -> tuple[str, float, float]:
    if isinstance(layer, GroupBatchNorm2d) or name == "bias":
        return "normal", *((1.0, 0.02) if name == "weight" else (0.0, 0.0))
    return "normal", 0.0, 0.02
