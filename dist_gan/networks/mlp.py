"""The fully-connected GAN of MNIST tutorials, whose D returns logits instead of probabilities."""

import itertools
import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from dist_gan.networks.base import Discriminator, Generator, Networks, Recipe
from dist_gan.networks.layers import beside
from dist_gan.networks.weights import initialize
from dist_gan.randomness import Purpose, keep
from dist_gan.shapes import DataShape

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
    """z (and the class's embedding beside it) -> h -> 2h -> 4h -> C * H * W, tanh."""

    def __init__(self, shape: DataShape, recipe: "MLP") -> None:
        super().__init__(recipe.latent, shape.image)
        self.classes = shape.classes if recipe.conditional else 0
        width, first = recipe.width, recipe.latent + (recipe.embedding if self.classes else 0)
        self.tower = _Tower([first, width, 2 * width, 4 * width, math.prod(shape.image)], recipe.dropout)
        self.embedding = nn.Embedding(self.classes, recipe.embedding) if self.classes else None
        self.noise_bits = self.tower.noise_bits

    def forward(self, latents: Tensor, condition: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        """[N, Z] -> [N, C, H, W] in [-1, 1]."""
        latents = beside(latents, self.embedding, condition)
        return torch.tanh(self.tower(latents, noise)).view(-1, *self.shape)


class MLPDiscriminator(Discriminator):
    """C * H * W (and the class's embedding beside it) -> 4h -> 2h -> h -> 1."""

    def __init__(self, shape: DataShape, recipe: "MLP") -> None:
        super().__init__()
        classes = shape.classes if recipe.conditional else 0
        width, first = recipe.width, math.prod(shape.image) + (recipe.embedding if classes else 0)
        self.tower = _Tower([first, 4 * width, 2 * width, width, 1], recipe.dropout)
        self.embedding = nn.Embedding(classes, recipe.embedding) if classes else None
        self.noise_bits = self.tower.noise_bits

    def logits(self, images: Tensor, condition: Tensor | None, noise: Tensor | None) -> Tensor:
        """[N, C, H, W] -> [N]."""
        return self.tower(beside(images.flatten(1), self.embedding, condition), noise).squeeze(1)


class MLP(Recipe):
    """Fully-connected generator and discriminator, for any image shape."""

    can_be_conditional: ClassVar[bool] = True

    name: Literal["mlp"] = "mlp"
    latent: int = Field(100, ge=1)
    """Z, the length of a latent."""
    width: int = Field(32, ge=1)
    """h: hidden layers have h, 2h and 4h units."""
    dropout: float = Field(0.3, ge=0, lt=1)
    """Probability of dropping a hidden unit, in both networks; kept ones are scaled up; rounded to 2^-16."""
    conditional: bool = False
    """Both networks are given the class of each sample: as an embedding beside the latent, and beside the pixels."""
    embedding: int = Field(16, ge=1)
    """Length of a class's embedding, where `conditional`."""

    def build(self, shape: DataShape, seed: int) -> Networks:
        """Both networks, in float32 on the CPU, with PyTorch's usual weights for linear layers and embeddings."""
        networks = Networks(MLPGenerator(shape, self), MLPDiscriminator(shape, self))
        initialize(networks.generator, seed, Purpose.GENERATOR_WEIGHTS, _rule)
        initialize(networks.discriminator, seed, Purpose.DISCRIMINATOR_WEIGHTS, _rule)
        return networks


def _rule(name: str, parameter: Tensor, layer: nn.Module) -> tuple[str, float, float]:
    """Within 1 / sqrt(fan in), as torch.nn.Linear; N(0, 1), as torch.nn.Embedding."""
    if isinstance(layer, nn.Embedding):
        return "normal", 0.0, 1.0
    assert isinstance(layer, nn.Linear)
    bound = 1 / math.sqrt(layer.in_features)
    return "uniform", -bound, bound
