"""The fully-connected GAN of MNIST tutorials, with its logits left unsquashed."""

import itertools
import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from dist_gan.data.source import ImageShape
from dist_gan.networks.layers import Discriminator, Generator, Networks, initialise
from dist_gan.networks.recipe import Recipe
from dist_gan.randomness import Purpose, keep

SLOPE = 0.2


class _Tower(nn.Module):
    """Linear layers; LeakyReLU 0.2 and dropout after each but the last. The dropout masks are read from `noise`."""

    def __init__(self, sizes: list[int], dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        self.dropout = dropout
        self.hidden = sizes[1:-1]
        self.noise_bits = sum(self.hidden) if dropout else 0

    def forward(self, x: Tensor, noise: Tensor | None) -> Tensor:
        """[N, first size] -> [N, last size]."""
        masks = None
        if noise is not None and self.noise_bits:
            masks = keep(noise, self.dropout, x.dtype).split(self.hidden, dim=1)
        *hidden, last = self.layers
        for i, layer in enumerate(hidden):
            x = F.leaky_relu(layer(x), SLOPE)
            if masks is not None:
                x = x * masks[i]
        return last(x)


class MLPGenerator(Generator):
    """z -> h -> 2h -> 4h -> C * H * W, tanh."""

    def __init__(self, shape: ImageShape, latent: int, width: int, dropout: float) -> None:
        super().__init__(latent, shape)
        self.tower = _Tower([latent, width, 2 * width, 4 * width, math.prod(shape)], dropout)
        self.noise_bits = self.tower.noise_bits

    def forward(self, latents: Tensor, noise: Tensor | None = None) -> Tensor:
        """[N, Z] -> [N, C, H, W] in [-1, 1]."""
        return torch.tanh(self.tower(latents, noise)).view(-1, *self.shape)


class MLPDiscriminator(Discriminator):
    """C * H * W -> 4h -> 2h -> h -> 1."""

    def __init__(self, shape: ImageShape, width: int, dropout: float) -> None:
        super().__init__()
        self.tower = _Tower([math.prod(shape), 4 * width, 2 * width, width, 1], dropout)
        self.noise_bits = self.tower.noise_bits

    def logits(self, images: Tensor, noise: Tensor | None) -> Tensor:
        """[N, C, H, W] -> [N]."""
        return self.tower(images.flatten(1), noise).squeeze(1)


class MLP(Recipe):
    """Fully-connected generator and discriminator, for any image shape."""

    name: Literal["mlp"] = "mlp"
    latent: int = Field(100, ge=1)
    """Z, the length of a latent."""
    width: int = Field(32, ge=1)
    """h: hidden layers have h, 2h and 4h units."""
    dropout: float = Field(0.3, ge=0, lt=1)
    """Probability of dropping a hidden unit, in both networks; kept ones are scaled up; rounded to 2^-16."""

    def build(self, shape: ImageShape, seed: int) -> Networks:
        """Both networks, in float32 on the CPU, with PyTorch's usual weights for linear layers."""
        networks = Networks(
            MLPGenerator(shape, self.latent, self.width, self.dropout),
            MLPDiscriminator(shape, self.width, self.dropout),
        )
        initialise(networks.generator, seed, Purpose.GENERATOR_WEIGHTS, _uniform)
        initialise(networks.discriminator, seed, Purpose.DISCRIMINATOR_WEIGHTS, _uniform)
        return networks


def _uniform(name: str, parameter: Tensor, layer: nn.Module) -> tuple[str, float, float]:
    """Within 1 / sqrt(fan in), as torch.nn.Linear."""
    assert isinstance(layer, nn.Linear)
    bound = 1 / math.sqrt(layer.in_features)
    return "uniform", -bound, bound
