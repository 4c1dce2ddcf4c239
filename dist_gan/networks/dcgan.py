"""DCGAN (Radford, Metz and Chintala 2016, "Unsupervised representation learning with deep convolutional GANs")."""

import itertools
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from dist_gan.data.source import ImageShape
from dist_gan.networks.layers import Discriminator, Generator, GroupBatchNorm2d, Networks, channels_last, initialise
from dist_gan.networks.recipe import Recipe
from dist_gan.randomness import Purpose

SIZES = (8, 16, 32, 64, 128, 256)


class DCGANGenerator(Generator):
    """Latents to a 4x4 map, doubled by transposed convolutions until it has the image's size; tanh."""

    def __init__(self, shape: ImageShape, latent: int, width: int, group: int) -> None:
        super().__init__(latent, shape)
        channels = [width * 2**k for k in reversed(range(_doublings(shape)))]  # at 32: 4w, 2w, w
        layers: list[nn.Module] = [nn.ConvTranspose2d(latent, channels[0], 4, bias=False)]
        for a, b in itertools.pairwise(channels):
            layers += [GroupBatchNorm2d(a, group), nn.ReLU(True), nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False)]
        layers += [
            GroupBatchNorm2d(channels[-1], group),
            nn.ReLU(True),
            nn.ConvTranspose2d(channels[-1], shape.channels, 4, 2, 1, bias=False),
        ]
        self.layers = nn.Sequential(*layers)

    def forward(self, latents: Tensor, noise: Tensor | None = None) -> Tensor:
        """[N, Z] -> [N, C, H, W] in [-1, 1]."""
        return torch.tanh(self.layers(latents[:, :, None, None]))


class DCGANDiscriminator(Discriminator):
    """The generator's mirror image: strided convolutions, LeakyReLU 0.2, no batch normalisation in the first layer."""

    def __init__(self, shape: ImageShape, width: int, group: int) -> None:
        super().__init__()
        channels = [width * 2**k for k in range(_doublings(shape))]  # at 32: w, 2w, 4w
        layers: list[nn.Module] = [
            nn.Conv2d(shape.channels, channels[0], 4, 2, 1, bias=False),
            nn.LeakyReLU(0.2, True),
        ]
        for a, b in itertools.pairwise(channels):
            layers += [nn.Conv2d(a, b, 4, 2, 1, bias=False), GroupBatchNorm2d(b, group), nn.LeakyReLU(0.2, True)]
        layers.append(nn.Conv2d(channels[-1], 1, 4, bias=False))
        self.layers = nn.Sequential(*layers)

    def logits(self, images: Tensor, noise: Tensor | None) -> Tensor:
        """[N, C, H, W] -> [N]."""
        return self.layers(channels_last(images)).flatten()


class DCGAN(Recipe):
    """Convolutional generator and discriminator for square images whose side is 4 times a power of two."""

    name: Literal["dcgan"] = "dcgan"
    latent: int = Field(100, ge=1)
    """Z, the length of a latent."""
    width: int = Field(64, ge=1)
    """Channels of the largest hidden map; each halving of the map doubles them."""
    group: int = Field(16, ge=2)
    """Batch normalisation takes its statistics over so many consecutive samples, whatever the number of processes.
    The piece (or a process's share of the batch) must hold whole groups."""

    @property
    def whole(self) -> int:
        """Pieces hold whole groups."""
        return self.group

    @property
    def mixes_samples(self) -> bool:
        """D has batch statistics."""
        return True

    def mistakes(self, shape: ImageShape) -> list[str]:
        """Sizes that it cannot make."""
        if shape.height == shape.width and shape.height in SIZES:
            return []
        sizes = ", ".join(map(str, SIZES))
        return [
            f"networks: dcgan makes square images of side {sizes}, and the data gives {shape.height}x{shape.width}. "
            "Set data.size to one of these (data.size=32 pads MNIST), or networks.name=mlp"
        ]

    def build(self, shape: ImageShape, seed: int) -> Networks:
        """Both networks, in float32 on the CPU, channels last, weights from N(0, 0.02), batch norm's N(1, 0.02)."""
        networks = Networks(
            DCGANGenerator(shape, self.latent, self.width, self.group),
            DCGANDiscriminator(shape, self.width, self.group),
        )
        initialise(networks.generator, seed, Purpose.GENERATOR_WEIGHTS, _normal)
        initialise(networks.discriminator, seed, Purpose.DISCRIMINATOR_WEIGHTS, _normal)
        for network in networks:
            for parameter in network.parameters():
                if parameter.dim() == 4 and parameter.shape[1] > 1:  # of one channel the layout would be ambiguous
                    # 14 to 21% less time for convolutions on a CPU
                    parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        return networks


def _doublings(shape: ImageShape) -> int:
    return (shape.height // 4).bit_length() - 1


def _normal(name: str, parameter: Tensor, layer: nn.Module) -> tuple[str, float, float]:
    if isinstance(layer, GroupBatchNorm2d):
        return "normal", *((1.0, 0.02) if name == "weight" else (0.0, 0.0))
    return "normal", 0.0, 0.02
