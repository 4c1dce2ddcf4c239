"""BigGAN (Brock, Donahue and Simonyan 2019, "Large scale GAN training for high fidelity natural image synthesis") as in
StudioGAN's code (Kang et al. 2023, "StudioGAN: a taxonomy and benchmark of GANs for image synthesis").

The latent is cut into parts, one for the first map and one for each block. Where the authors' own code (ajbrock) and
StudioGAN's differ, this follows StudioGAN's: attention at 32x32, orthogonal initial weights, and a D whose shortcuts
see the activated map.
"""

import itertools
from typing import ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from dist_gan.networks.attention import SelfAttention
from dist_gan.networks.base import Discriminator, Generator, Networks, Recipe, square_mistakes
from dist_gan.networks.layers import GroupBatchNorm2d, SpectralNorm, channels_last, weights_channels_last
from dist_gan.networks.resnet import PooledConv2d
from dist_gan.networks.weights import initialize
from dist_gan.randomness import Purpose
from dist_gan.shapes import DataShape, ImageShape

FIRST = 4
"""Side of G's first map."""
SPECTRAL_EPS = 1e-6
BATCH_EPS = 1e-4


class Plan(NamedTuple):
    """Both networks for one size of images. Widths are multiples of the recipe's `width`."""

    up: tuple[int, ...]
    """Widths of G's maps: the first one, then after each block. Each block doubles the side."""
    down: tuple[int, ...]
    """Widths of D's maps after each block."""
    halvings: int
    """How many of D's blocks, the first ones, halve the side."""
    attention: tuple[int, int]
    """After which block of G and of D there is self-attention, counted from 1."""


PLANS = {
    8: Plan((4, 4), (2, 2, 2, 2), 2, (1, 1)),
    16: Plan((4, 4, 4), (2, 2, 2, 2), 2, (1, 1)),
    32: Plan((4, 4, 4, 4), (2, 2, 2, 2), 2, (2, 1)),
    64: Plan((16, 8, 4, 2, 1), (1, 2, 4, 8, 16), 4, (3, 1)),
    128: Plan((16, 16, 8, 4, 2, 1), (1, 2, 4, 8, 16, 16), 5, (4, 1)),
}
"""By the side of an image. Those of 32, 64 and 128 are StudioGAN's; the smaller ones go on as they do."""


class ConditionalBatchNorm2d(nn.Module):
    """Batch normalization whose gain and bias are linear functions of each sample's style."""

    def __init__(self, channels: int, style: int, group: int) -> None:
        super().__init__()
        self.norm = GroupBatchNorm2d(channels, group, BATCH_EPS, affine=False)
        self.gain = SpectralNorm(nn.Linear(style, channels, bias=False), SPECTRAL_EPS)
        self.bias = SpectralNorm(nn.Linear(style, channels, bias=False), SPECTRAL_EPS)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """[N, C, H, W], style [N, S] -> [N, C, H, W]; in training N is a multiple of the group."""
        gain, bias = 1 + self.gain(style), self.bias(style)
        return torch.addcmul(bias[:, :, None, None], self.norm(x), gain[:, :, None, None])


class UpBlock(nn.Module):
    """Normalized, activated, doubled, 3x3, and normalized, activated, 3x3; beside it a 1x1 shortcut, doubled."""

    def __init__(self, inputs: int, outputs: int, style: int, group: int) -> None:
        super().__init__()
        self.norm = ConditionalBatchNorm2d(inputs, style, group)
        self.first = _convolution(inputs, outputs, 3)
        self.inner_norm = ConditionalBatchNorm2d(outputs, style, group)
        self.second = _convolution(outputs, outputs, 3)
        self.shortcut = _convolution(inputs, outputs, 1)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """[N, inputs, H, W], style [N, S] -> [N, outputs, 2H, 2W]."""
        h = self.first(_doubled(F.relu(self.norm(x, style), inplace=True)))
        h = self.second(F.relu(self.inner_norm(h, style), inplace=True))
        # A 1x1 convolution of copies is a copy of the convolution, for a quarter of the work.
        return h + _doubled(self.shortcut(x))


class DownBlock(nn.Module):
    """3x3, activated, 3x3, and a 1x1 shortcut, then the mean of 2x2 places.

    All blocks but the first begin with an activation, before the shortcut too: in StudioGAN's code it is in place. With
    neither `halves` nor another width, the shortcut has no convolution.
    """

    def __init__(self, inputs: int, outputs: int, *, first: bool, halves: bool) -> None:
        super().__init__()
        self.is_first = first
        self.halves = halves
        self.first = _convolution(inputs, outputs, 3)
        pooled = SpectralNorm(PooledConv2d(outputs, outputs), SPECTRAL_EPS)
        self.second = pooled if halves else _convolution(outputs, outputs, 3)
        self.shortcut = _convolution(inputs, outputs, 1) if halves or inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] -> [N, outputs, H, W], or of half the side."""
        if not self.is_first:
            x = F.relu(x)
        h = self.second(F.relu(self.first(x), inplace=True))
        if self.halves:  # the mean before a 1x1 convolution is the mean after it, for a quarter of the work
            x = F.avg_pool2d(x, 2)
        return h + self.shortcut(x)


class BigGANGenerator(Generator):
    """A linear layer of the latent's first part makes a 4x4 map, which blocks double until it has the image's size.
    The style of a block is the class's embedding beside the block's part of the latent; tanh."""

    def __init__(self, shape: DataShape, recipe: "BigGAN") -> None:
        plan = PLANS[shape.image.height]
        super().__init__(recipe.latent_length(shape.image), shape.image)
        self.classes = shape.classes if recipe.conditional else 0
        self.chunk = recipe.chunk
        style = recipe.chunk + (recipe.embedding if self.classes else 0)
        widths = [recipe.width * k for k in plan.up]
        self.embedding = nn.Embedding(self.classes, recipe.embedding) if self.classes else None
        self.first = SpectralNorm(nn.Linear(recipe.chunk, widths[0] * FIRST * FIRST), SPECTRAL_EPS)
        self.blocks = nn.ModuleList(UpBlock(a, b, style, recipe.group) for a, b in itertools.pairwise(widths))
        self.attends_after = plan.attention[0]
        self.attention = SelfAttention(widths[self.attends_after], SPECTRAL_EPS)
        self.norm = GroupBatchNorm2d(widths[-1], recipe.group, BATCH_EPS)
        self.last = _convolution(widths[-1], shape.image.channels, 3)

    def forward(self, latents: Tensor, condition: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        """[N, Z] -> [N, C, H, W] in [-1, 1]; in training N is a multiple of the group."""
        first, *chunks = latents.split(self.chunk, dim=1)
        if self.embedding is not None:
            shared = self.embedding(condition).to(latents.dtype)
            chunks = [torch.cat([shared, chunk], dim=1) for chunk in chunks]
        x = channels_last(self.first(first).unflatten(1, (-1, FIRST, FIRST)))
        for number, (block, style) in enumerate(zip(self.blocks, chunks, strict=True), 1):
            x = block(x, style)
            if number == self.attends_after:
                x = self.attention(x)
        return torch.tanh(self.last(F.relu(self.norm(x), inplace=True)))


class BigGANDiscriminator(Discriminator):
    """Blocks that halve the map, its sum over all places, and a linear layer.

    Conditional: logit + <embedding of the class, features> (Miyato and Koyama 2018); the embedding is spectrally
    normalized too.
    """

    def __init__(self, shape: DataShape, recipe: "BigGAN") -> None:
        super().__init__()
        plan = PLANS[shape.image.height]
        classes = shape.classes if recipe.conditional else 0
        widths = [shape.image.channels, *(recipe.width * k for k in plan.down)]
        self.blocks = nn.ModuleList(
            DownBlock(a, b, first=number == 0, halves=number < plan.halvings)
            for number, (a, b) in enumerate(itertools.pairwise(widths))
        )
        self.attends_after = plan.attention[1]
        self.attention = SelfAttention(widths[self.attends_after], SPECTRAL_EPS)
        self.last = SpectralNorm(nn.Linear(widths[-1], 1), SPECTRAL_EPS)
        self.embedding = SpectralNorm(nn.Embedding(classes, widths[-1]), SPECTRAL_EPS) if classes else None

    def logits(self, images: Tensor, condition: Tensor | None, noise: Tensor | None) -> Tensor:
        """[N, C, H, W] -> [N]."""
        x = channels_last(images)
        for number, block in enumerate(self.blocks, 1):
            x = block(x)
            if number == self.attends_after:
                x = self.attention(x)
        features = F.relu(x).sum((2, 3))
        logits = self.last(features).squeeze(1)
        if self.embedding is None:
            return logits
        return logits + (self.embedding(condition) * features).sum(1)


class BigGAN(Recipe):
    """Residual generator and discriminator with self-attention and spectral normalization, for square images of 8, 16,
    32, 64 or 128 pixels."""

    can_be_conditional: ClassVar[bool] = True

    name: Literal["biggan"] = "biggan"
    chunk: int = Field(20, ge=1)
    """Length of each part of the latent. There is one for the first map and one for each block: Z is 4 times this at
    32x32, 5 times at 64x64, 6 times at 128x128."""
    width: int = Field(96, ge=1)
    """Channels of the largest map at 64x64 and more. Up to 32x32, all of G's maps have 4 times this and D's 2 times."""
    group: int = Field(16, ge=2)
    """Batch normalization in G takes its statistics over this many consecutive samples, on any number of processes. The
    microbatch (or a process's part of the batch) must hold full groups."""
    conditional: bool = False
    """G's batch normalization is given an embedding of the class beside the latent's part, and D projects its features
    onto another one."""
    embedding: int = Field(128, ge=1)
    """Length of a class's embedding in G, where `conditional`."""

    @property
    def batch_multiple(self) -> int:
        return self.group

    def latent_length(self, image: ImageShape) -> int:
        """Z, the length of a latent."""
        return self.chunk * len(PLANS[image.height].up)

    def mistakes(self, shape: ImageShape) -> list[str]:
        return square_mistakes("biggan", PLANS, shape)

    def build(self, shape: DataShape, seed: int) -> Networks:
        """Both networks, in float32 on the CPU, channels last, weights orthogonal, biases 0."""
        networks = Networks(BigGANGenerator(shape, self), BigGANDiscriminator(shape, self))
        initialize(networks.generator, seed, Purpose.GENERATOR_WEIGHTS, _orthogonal)
        initialize(networks.discriminator, seed, Purpose.DISCRIMINATOR_WEIGHTS, _orthogonal)
        for network in networks:
            weights_channels_last(network)
        return networks


def _convolution(inputs: int, outputs: int, size: int) -> SpectralNorm:
    return SpectralNorm(nn.Conv2d(inputs, outputs, size, padding=size // 2), SPECTRAL_EPS)


def _doubled(x: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, C, 2H, 2W], each place four times. Its gradient is deterministic on a GPU as well."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


def _orthogonal(name: str, parameter: Tensor, layer: nn.Module) -> tuple[str, float, float]:
    if isinstance(layer, GroupBatchNorm2d):
        return "normal", float(name == "weight"), 0.0
    if isinstance(layer, SelfAttention) or name == "bias":
        return "normal", 0.0, 0.0
    return "orthogonal", 0.0, 1.0
