"""The networks of dist_gan as a person would write them, of plain torch.nn.

Parameters come in the same order as dist_gan's, so that weights can be copied one by one.
"""

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dist_gan.config.schema import Config
from dist_gan.networks import DCGAN, MLP, Networks
from dist_gan.shapes import ImageShape


class Pair(NamedTuple):
    """The two players."""

    generator: nn.Module
    discriminator: nn.Module


class HalvesBatchNorm2d(nn.BatchNorm2d):
    """For real and fake images in one call: each `batch` samples have their own statistics."""

    def __init__(self, channels: int, batch: int) -> None:
        super().__init__(channels)
        self.batch = batch

    def forward(self, x: Tensor) -> Tensor:
        """[batch or 2 * batch, C, H, W] -> the same."""
        if len(x) == self.batch:
            return super().forward(x)
        return torch.cat([super(HalvesBatchNorm2d, self).forward(half) for half in x.split(self.batch)])


def build(config: Config, shape: ImageShape, networks: Networks, *, channels_last: bool) -> Pair:
    """The plain twin of `networks`, which `config.networks` made: the same weights, device and type."""
    recipe = config.networks
    if isinstance(recipe, MLP):
        pair = _mlp(shape, recipe.latent, recipe.width, recipe.dropout)
    else:
        assert isinstance(recipe, DCGAN)
        pair = _dcgan(shape, recipe.latent, recipe.width, config.batch_size)
    with torch.no_grad():
        for twin, network in zip(pair, networks, strict=True):
            one = next(network.parameters())
            twin.to(one.device, one.dtype)
            for mine, theirs in zip(twin.parameters(), network.parameters(), strict=True):
                mine.copy_(theirs)
            if channels_last and isinstance(recipe, DCGAN):
                twin.to(memory_format=torch.channels_last)
    return pair


def _mlp(shape: ImageShape, latent: int, width: int, dropout: float) -> Pair:
    pixels = math.prod(shape)
    up, down = (latent, width, 2 * width, 4 * width, pixels), (pixels, 4 * width, 2 * width, width, 1)
    return Pair(
        nn.Sequential(*_tower(up, dropout), nn.Tanh(), nn.Unflatten(1, tuple(shape))),
        nn.Sequential(nn.Flatten(1), *_tower(down, dropout), nn.Flatten(0)),
    )


def _tower(sizes: tuple[int, ...], dropout: float) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), nn.LeakyReLU(0.2, True)]
        if dropout:
            layers.append(nn.Dropout(dropout))
    return layers[: -2 if dropout else -1]


def _dcgan(shape: ImageShape, latent: int, width: int, batch: int) -> Pair:
    down = [width * 2**k for k in range((shape.height // 4).bit_length() - 1)]
    up = down[::-1]
    G: list[nn.Module] = [nn.Unflatten(1, (latent, 1, 1)), nn.ConvTranspose2d(latent, up[0], 4, bias=False)]
    for a, b in zip(up, [*up[1:], shape.channels], strict=True):
        G += [nn.BatchNorm2d(a), nn.ReLU(True), nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False)]
    D: list[nn.Module] = [nn.Conv2d(shape.channels, down[0], 4, 2, 1, bias=False), nn.LeakyReLU(0.2, True)]
    for a, b in pairwise(down):
        D += [nn.Conv2d(a, b, 4, 2, 1, bias=False), HalvesBatchNorm2d(b, batch), nn.LeakyReLU(0.2, True)]
    D += [nn.Conv2d(down[-1], 1, 4, bias=False), nn.Flatten(0)]
    return Pair(nn.Sequential(*G, nn.Tanh()), nn.Sequential(*D))
