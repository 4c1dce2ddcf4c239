"""R3GAN, config E (Huang, Gokaslan, Kuleshov and Tompkin 2024, "The GAN is dead; long live the GAN! A modern GAN
baseline"): residual networks without normalization, G and D mirror images of each other."""

import itertools
import math
from typing import ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional as F

from dist_gan.networks.base import Discriminator, Generator, Networks, Recipe, square_mistakes
from dist_gan.networks.convolution import Convolution
from dist_gan.networks.layers import beside, channels_last, weights_channels_last
from dist_gan.networks.resampling import fir_downsample, fir_upsample
from dist_gan.networks.weights import initialize
from dist_gan.randomness import Purpose
from dist_gan.shapes import DataShape, ImageShape

SLOPE = 0.2
GAIN = math.sqrt(2 / (1 + SLOPE**2))
"""Of a leaky ReLU: with weights of this gain, a layer keeps the second moment."""
SMALLEST = 4
"""Side of the smallest map."""
LARGEST = 1024


class Scaled(Convolution):
    """A convolution whose weights are N(0, gain^2 / fan in)."""

    def __init__(
        self, before: int, after: int, kernel: int = 1, groups: int = 1, *, gain: float = 1, bias: bool = False
    ) -> None:
        super().__init__(before, after, kernel, groups, bias=bias)
        self.std = gain / math.sqrt(self.weight[0].numel())


class Block(nn.Module):
    """x + the output of three convolutions: 1x1 to more channels, grouped 3x3, 1x1 back; leaky ReLU between them.

    Its output is x at the start, since the last weights are 0; the others are scaled by blocks^(-1/4), so that the
    first update changes a network of any depth alike (Zhang et al. 2019, "Fixup initialization"; three layers).
    """

    def __init__(self, channels: int, recipe: "R3GAN", blocks: int) -> None:
        """`blocks`: in the whole network."""
        super().__init__()
        inner = channels * recipe.expansion
        gain = GAIN * blocks**-0.25
        self.expand = Scaled(channels, inner, gain=gain, bias=True)
        self.mix = Scaled(inner, inner, recipe.kernel, inner // recipe.group, gain=gain, bias=True)
        self.project = Scaled(inner, channels, gain=0.0)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> the same."""
        y = F.leaky_relu(self.expand(x), SLOPE, inplace=True)
        y = F.leaky_relu(self.mix(y), SLOPE, inplace=True)
        return x + self.project(y)


class Transition(nn.Module):
    """From one resolution to the next: a 1x1 convolution on the smaller map, where the channels change, and a filter
    that doubles or halves the size."""

    def __init__(self, before: int, after: int, size: int, *, up: bool) -> None:
        """size: the side of its input."""
        super().__init__()
        self.up = up
        self.resample = (fir_upsample if up else fir_downsample)((size, size))
        self.convolution = Scaled(before, after) if before != after else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C', 2H, 2W] or [N, C', H / 2, W / 2]."""
        return self.resample(self.convolution(x)) if self.up else self.convolution(self.resample(x))


class Stage(nn.Module):
    """Some layers, in full precision or in that of autocast."""

    def __init__(self, *layers: nn.Module, full_precision: bool) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.full_precision = full_precision

    def forward(self, x: Tensor) -> Tensor:
        """The layers, one after the other."""
        if not self.full_precision:
            return self.layers(x)
        with torch.autocast(x.device.type, enabled=False):
            return self.layers(x.to(next(self.parameters()).dtype))


class Linear(nn.Linear):
    """A linear layer without a bias, whose weights are N(0, 1 / fan in)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after, bias=False)
        self.std = 1 / math.sqrt(before)


class Embedding(nn.Embedding):
    """A vector for each class, N(0, 1 / (classes * scale))."""

    def __init__(self, classes: int, length: int, *, scale: int = 1) -> None:
        super().__init__(classes, length)
        self.std = 1 / math.sqrt(classes * scale)


class Basis(nn.Module):
    """A learned 4x4 map for each channel."""

    def __init__(self, channels: int, std: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, SMALLEST, SMALLEST))
        self.std = std


class R3GANGenerator(Generator):
    """A learned 4x4 map whose channels are scaled by a linear function of the latent (and the class's embedding beside
    it), doubled until it has the image's size. There is no tanh: pixels may leave [-1, 1]."""

    bounded: ClassVar[bool] = False

    def __init__(self, shape: DataShape, recipe: "R3GAN") -> None:
        super().__init__(recipe.latent, shape.image)
        self.classes = shape.classes if recipe.conditional else 0
        self.patch = recipe.patch
        widths = recipe.widths(shape.image.height // recipe.patch)
        blocks = recipe.blocks * len(widths)
        self.embedding = Embedding(self.classes, recipe.embedding) if self.classes else None
        self.first = Linear(recipe.latent + (recipe.embedding if self.classes else 0), widths[0])
        self.basis = Basis(widths[0], 1.0)
        stages = [_blocks(recipe, widths[0], blocks)]
        for number, (before, after) in enumerate(itertools.pairwise(widths)):
            up = Transition(before, after, SMALLEST << number, up=True)
            stages.append([up, *_blocks(recipe, after, blocks)])
        self.stages = nn.ModuleList(
            Stage(*layers, full_precision=recipe.is_full_precision(number)) for number, layers in enumerate(stages)
        )
        self.last = Scaled(widths[-1], shape.image.channels * recipe.patch**2)

    def forward(self, latents: Tensor, condition: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        """[N, Z] -> [N, C, H, W], most pixels in [-1, 1]."""
        with torch.autocast(latents.device.type, enabled=False):
            scales = self.first(beside(latents, self.embedding, condition))
            x = channels_last(self.basis.weight * scales[:, :, None, None])
        for stage in self.stages:
            x = stage(x)
        return F.pixel_shuffle(self.last(x), self.patch)


class R3GANDiscriminator(Discriminator):
    """The generator in reverse. The last 4x4 map is weighted by a learned one for each channel and summed over the
    pixels; a linear layer makes the logit of the sums, or as many features as there are channels, whose inner product
    with the embedding of the class is the logit."""

    def __init__(self, shape: DataShape, recipe: "R3GAN") -> None:
        super().__init__()
        classes = shape.classes if recipe.conditional else 0
        self.patch = recipe.patch
        widths = recipe.widths(shape.image.height // recipe.patch)
        blocks = recipe.blocks * len(widths)
        self.first = Scaled(shape.image.channels * recipe.patch**2, widths[-1])
        stages = [_blocks(recipe, widths[0], blocks)]
        for number, (after, before) in enumerate(itertools.pairwise(widths)):
            down = Transition(before, after, SMALLEST << number + 1, up=False)
            stages.append([*_blocks(recipe, before, blocks), down])
        self.stages = nn.ModuleList(
            Stage(*layers, full_precision=recipe.is_full_precision(number))
            for number, layers in reversed(list(enumerate(stages)))
        )
        self.basis = Basis(widths[0], 1 / SMALLEST)
        self.last = Linear(widths[0], widths[0] if classes else 1)
        self.embedding = Embedding(classes, widths[0], scale=widths[0]) if classes else None

    def logits(self, images: Tensor, condition: Tensor | None, noise: Tensor | None) -> Tensor:
        """[N, C, H, W] -> [N]."""
        x = self.first(channels_last(F.pixel_unshuffle(images, self.patch)))
        for stage in self.stages:
            x = stage(x)
        with torch.autocast(x.device.type, enabled=False):
            features = self.last((x * self.basis.weight).sum((2, 3)))
            return (features if self.embedding is None else features * self.embedding(condition)).sum(1)


class R3GAN(Recipe):
    """Config E of R3GAN, for square images of 8x8 to 1024x1024 whose side is a power of 2."""

    can_be_conditional: ClassVar[bool] = True

    name: Literal["r3gan"] = "r3gan"
    latent: int = Field(64, ge=1)
    """Z, the length of a latent."""
    width: int = Field(768, ge=1)
    """Channels of maps from 4x4 up to `full_width_up_to`; each doubling of the map beyond halves them."""
    full_width_up_to: int = Field(32, ge=4)
    """Side of the largest map with all the channels."""
    blocks: int = Field(2, ge=1)
    """Residual blocks at each size, in each network."""
    expansion: int = Field(2, ge=1)
    """Inside a block there are this many times as many channels."""
    group: int = Field(16, ge=1)
    """Channels of a group of the convolutions inside a block."""
    kernel: int = Field(3, ge=1)
    """Side of the kernels inside a block: an odd number."""
    patch: int = Field(1, ge=1)
    """Side of the squares of pixels that are one place of the largest map, with channels of their own: 4 makes maps of
    8x8 for images of 32x32, and an update many times cheaper. 1 is config E."""
    conditional: bool = False
    """G is given an embedding of the class beside the latent; D's logit is the inner product of its features with
    another one."""
    embedding: int = Field(64, ge=1)
    """Length of a class's embedding beside the latent, where `conditional`."""
    full_precision_up_to: int = Field(4, ge=4)
    """With precision=bf16 or fp16, maps up to this size are in float32 all the same."""

    @field_validator("kernel")
    @classmethod
    def _odd(cls, kernel: int) -> int:
        if kernel % 2 == 0:
            raise ValueError(f"{kernel} is even: only with an odd one does the size stay")
        return kernel

    def widths(self, side: int) -> list[int]:
        """The channels of the maps from 4x4 to `side`."""
        sides = [SMALLEST << k for k in range((side // SMALLEST).bit_length())]
        return [self.width * self.full_width_up_to // max(self.full_width_up_to, size) for size in sides]

    def is_full_precision(self, stage: int) -> bool:
        """Whether the maps of a stage (0: 4x4) leave autocast."""
        return SMALLEST << stage <= self.full_precision_up_to

    def mistakes(self, shape: ImageShape) -> list[str]:
        side = shape.height
        maps = [SMALLEST << k for k in range(1, (LARGEST // SMALLEST).bit_length())]
        if found := square_mistakes("r3gan", (size * self.patch for size in maps), shape):
            return found
        for size, width in zip([SMALLEST, *maps], self.widths(side // self.patch), strict=False):
            if width < 1 or width * self.expansion % self.group:
                return [
                    f"networks: r3gan with width={self.width} has {width} channels at {size}x{size}, "
                    f"{width * self.expansion} inside its blocks, which are not full groups of {self.group}. Set "
                    "networks.group to a divisor, or change networks.width or networks.full_width_up_to"
                ]
        return []

    def build(self, shape: DataShape, seed: int) -> Networks:
        """Both networks, in float32 on the CPU, channels last."""
        networks = Networks(R3GANGenerator(shape, self), R3GANDiscriminator(shape, self))
        initialize(networks.generator, seed, Purpose.GENERATOR_WEIGHTS, _rule)
        initialize(networks.discriminator, seed, Purpose.DISCRIMINATOR_WEIGHTS, _rule)
        for network in networks:
            weights_channels_last(network)
        return networks


def _blocks(recipe: R3GAN, channels: int, blocks: int) -> list[nn.Module]:
    return [Block(channels, recipe, blocks) for _ in range(recipe.blocks)]


def _rule(name: str, parameter: Tensor, layer: nn.Module) -> tuple[str, float, float]:
    if name == "bias":
        return "normal", 0.0, 0.0
    assert isinstance(layer, Scaled | Linear | Embedding | Basis)
    return "normal", 0.0, layer.std
