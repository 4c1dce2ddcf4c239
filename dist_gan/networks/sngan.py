"""SNGAN (Miyato et al. 2018, "Spectral normalization for generative adversarial networks"): residual networks, spectral
normalization in D. With `conditional`, the cGAN with a projection discriminator (Miyato and Koyama 2018).

The layouts are those of mimicry (Lee and Town 2020, "Mimicry: towards the reproducibility of GAN research").
"""

import functools
import itertools
import math
from typing import ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from dist_gan.networks.base import Discriminator, Generator, Networks, Recipe, square_mistakes
from dist_gan.networks.layers import GroupBatchNorm2d, SpectralNorm, channels_last, weights_channels_last
from dist_gan.networks.resnet import ClassBatchNorm2d, DiscriminatorBlock, GeneratorBlock, Interpolation
from dist_gan.networks.weights import initialize
from dist_gan.randomness import Purpose
from dist_gan.shapes import DataShape, ImageShape


class Layout(NamedTuple):
    """The networks for one size of image. Widths are in units of `width`."""

    start: int
    """Height and width of G's first map."""
    generator: tuple[int, ...]
    """Widths of G's first map, and of what each block makes of it, twice as large."""
    discriminator: tuple[int, ...]
    """Widths of what each block of D makes."""
    halvings: int
    """How many blocks of D, the first ones, halve the map."""


LAYOUTS = {
    8: Layout(4, (4, 4), (2, 2, 2, 2), 2),
    16: Layout(4, (4, 4, 4), (2, 2, 2, 2), 2),
    32: Layout(4, (4, 4, 4, 4), (2, 2, 2, 2), 2),
    48: Layout(6, (8, 4, 2, 1), (1, 2, 4, 8, 16), 4),
    64: Layout(4, (16, 8, 4, 2, 1), (1, 2, 4, 8, 16), 5),
    128: Layout(4, (16, 16, 8, 4, 2, 1), (1, 2, 4, 8, 16, 16), 5),
    256: Layout(4, (16, 16, 16, 8, 4, 2, 1), (1, 2, 4, 8, 16, 16, 16), 6),
}
"""By height and width of the image. Those of 32, 48, 64 and 128 are mimicry's; the others go on as they do."""


class SNGANGenerator(Generator):
    """A linear layer makes the first map, blocks double it; batch norm, ReLU, 3x3, tanh."""

    def __init__(self, shape: DataShape, recipe: "SNGAN") -> None:
        super().__init__(recipe.latent, shape.image)
        self.classes = shape.classes if recipe.conditional else 0
        layout = LAYOUTS[shape.image.height]
        widths = [recipe.width * factor for factor in layout.generator]
        self.start = layout.start
        self.first = nn.Linear(recipe.latent, widths[0] * layout.start**2)
        self.blocks = nn.ModuleList(
            GeneratorBlock(a, b, layout.start << k, recipe.upsample, recipe.group, self.classes)
            for k, (a, b) in enumerate(itertools.pairwise(widths))
        )
        self.norm = GroupBatchNorm2d(widths[-1], recipe.group)
        self.last = nn.Conv2d(widths[-1], shape.image.channels, 3, padding=1)

    def forward(self, latents: Tensor, condition: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        """[N, Z] -> [N, C, H, W] in [-1, 1]."""
        x = channels_last(self.first(latents).unflatten(1, (-1, self.start, self.start)))
        for block in self.blocks:
            x = block(x, condition)
        return torch.tanh(self.last(F.relu(self.norm(x), inplace=True)))


class SNGANDiscriminator(Discriminator):
    """Blocks, ReLU, the sum over the last map, a linear layer; spectral normalization in every layer.

    Conditional: logit + <embedding of the class, features summed over the last map>.
    """

    def __init__(self, shape: DataShape, recipe: "SNGAN") -> None:
        super().__init__()
        classes = shape.classes if recipe.conditional else 0
        layout = LAYOUTS[shape.image.height]
        widths = [shape.image.channels, *(recipe.width * factor for factor in layout.discriminator)]
        self.blocks = nn.ModuleList(
            DiscriminatorBlock(a, b, down=k < layout.halvings, first=k == 0)
            for k, (a, b) in enumerate(itertools.pairwise(widths))
        )
        self.last = SpectralNorm(nn.Linear(widths[-1], 1))
        self.embedding = SpectralNorm(nn.Embedding(classes, widths[-1])) if classes else None

    def logits(self, images: Tensor, condition: Tensor | None, noise: Tensor | None) -> Tensor:
        """[N, C, H, W] -> [N]."""
        x = channels_last(images)
        for block in self.blocks:
            x = block(x)
        features = F.relu(x).sum((2, 3))
        logits = self.last(features).squeeze(1)
        return logits if self.embedding is None else logits + (self.embedding(condition) * features).sum(1)


class SNGAN(Recipe):
    """Residual generator and discriminator with spectral normalization, for square images of 8 to 256 pixels."""

    can_be_conditional: ClassVar[bool] = True

    name: Literal["sngan"] = "sngan"
    latent: int = Field(128, ge=1)
    """Z, the length of a latent."""
    width: int = Field(64, ge=1)
    """Unit of all widths: at 32x32 G has 4 times as many channels and D twice as many; from 48x48 on, this many at the
    full size, twice as many after each halving, and 16 times as many at most."""
    group: int = Field(16, ge=2)
    """G's batch normalization takes its statistics over this many consecutive samples, on any number of processes. The
    microbatch (or a process's part of the batch) must hold full groups."""
    upsample: Interpolation = "bilinear"
    """How G doubles a map. The papers repeat each pixel (nearest); mimicry's is bilinear."""
    conditional: bool = False
    """G's batch normalization scales and shifts by the class, and D projects its features onto the class's embedding.
    """

    @property
    def batch_multiple(self) -> int:
        return self.group

    def mistakes(self, shape: ImageShape) -> list[str]:
        return square_mistakes("sngan", LAYOUTS, shape)

    def build(self, shape: DataShape, seed: int) -> Networks:
        """Both networks, in float32 on the CPU, channels last."""
        G, D = SNGANGenerator(shape, self), SNGANDiscriminator(shape, self)
        initialize(G, seed, Purpose.GENERATOR_WEIGHTS, functools.partial(_rule, G.last))
        initialize(D, seed, Purpose.DISCRIMINATOR_WEIGHTS, functools.partial(_rule, D.last))
        for network in (G, D):
            weights_channels_last(network)
        return Networks(G, D)


def _rule(last: nn.Module, name: str, parameter: Tensor, layer: nn.Module) -> tuple[str, float, float]:
    """Xavier's uniform (Glorot and Bengio 2010), with twice the variance for 3x3 convolutions in blocks, as mimicry has
    it; biases as torch has them; scales of classes N(1, 0.02). `last`: the network's last layer."""
    if isinstance(layer, GroupBatchNorm2d):
        return "normal", float(name == "weight"), 0.0
    if isinstance(layer, ClassBatchNorm2d):
        return "normal", *((1.0, 0.02) if name == "scale" else (0.0, 0.0))
    weight = layer.weight
    assert isinstance(weight, Tensor)
    area = math.prod(weight.shape[2:])
    outputs, inputs = weight.shape[0] * area, weight.shape[1] * area
    gain = 2 if area == 9 and layer is not last else 1
    bound = inputs**-0.5 if name == "bias" else math.sqrt(6 * gain / (inputs + outputs))
    return "uniform", -bound, bound
