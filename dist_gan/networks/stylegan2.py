"""StyleGAN2 (Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN"), with the options of its
ADA paper (Karras et al. 2020, "Training generative adversarial networks with limited data")."""

from typing import ClassVar, Literal

from pydantic import Field

from dist_gan.networks.base import Networks, Recipe, square_mistakes
from dist_gan.networks.layers import weights_channels_last
from dist_gan.networks.stylegan2_discriminator import StyleGAN2Discriminator
from dist_gan.networks.stylegan2_generator import StyleGAN2Generator
from dist_gan.networks.stylegan2_layers import Architecture, Map, first_values
from dist_gan.networks.weights import initialize
from dist_gan.randomness import Purpose
from dist_gan.shapes import DataShape, ImageShape

SMALLEST, LEAST, MOST = 4, 8, 512
"""Sides of the first map, and of the smallest and the largest images."""


class StyleGAN2(Recipe):
    """StyleGAN2, for square images of 8x8 to 512x512 whose side is a power of two."""

    can_be_conditional: ClassVar[bool] = True

    name: Literal["stylegan2"] = "stylegan2"
    latent: int = Field(512, ge=1)
    """Z, the length of a latent."""
    style: int = Field(512, ge=1)
    """W, the length of a style."""
    mapping_layers: int = Field(8, ge=1)
    """Layers between a latent and its style."""
    mapping_rate: float = Field(0.01, gt=0)
    """Factor of the learning rate in these layers."""
    channel_base: int = Field(32768, ge=1)
    """Channels of a map times its side, as far as `channel_max` allows."""
    channel_max: int = Field(512, ge=1)
    """The most channels of any map."""
    generator_architecture: Architecture = "skip"
    """How the image is made: from the last map; as a sum over the maps of all sizes; from residual blocks."""
    discriminator_architecture: Architecture = "resnet"
    """How D reads the image: at its size; at all sizes; by residual blocks."""
    style_mixing: float = Field(0.9, ge=0, le=1)
    """Probability that an image in training takes the styles of two latents, the second from a random layer on."""
    clamp: float = Field(256.0, ge=0)
    """Largest magnitude in any map, so that half precision does not overflow. 0 is off."""
    mixed_sizes: int = Field(4, ge=0)
    """How many of the largest sizes use mixed precision, where `precision` is bf16 or fp16; 4x4 never does."""
    group: int = Field(4, ge=2)
    """D sees the standard deviation over this many consecutive samples, on any number of processes. The microbatch (or
    a process's part of the batch) must hold full groups."""
    conditional: bool = False
    """G is given an embedding of the class beside the latent, and D projects its features onto a style of the class."""
    class_layers: int = Field(8, ge=1)
    """Layers between a class and its style in D, where `conditional`."""

    @property
    def batch_multiple(self) -> int:
        return self.group

    @property
    def mixes_samples(self) -> bool:
        return True

    @property
    def normalizes_batches(self) -> bool:
        return False

    def maps(self, image: ImageShape) -> list[Map]:
        """From the smallest to the image's size."""
        sides = [SMALLEST << k for k in range((image.height // SMALLEST).bit_length())]
        full = max(1, len(sides) - self.mixed_sizes)
        return [
            Map(side, max(1, min(self.channel_base // side, self.channel_max)), i >= full)
            for i, side in enumerate(sides)
        ]

    def mistakes(self, shape: ImageShape) -> list[str]:
        return square_mistakes("stylegan2", (LEAST << k for k in range((MOST // LEAST).bit_length())), shape)

    def build(self, shape: DataShape, seed: int) -> Networks:
        """Both networks, in float32 on the CPU, channels last, weights from N(0, 1), which forwards scale."""
        shape = shape if self.conditional else DataShape(shape.image)
        maps = self.maps(shape.image)
        G = StyleGAN2Generator(
            shape,
            maps,
            self.generator_architecture,
            latent=self.latent,
            style=self.style,
            mapping_layers=self.mapping_layers,
            mapping_rate=self.mapping_rate,
            style_mixing=self.style_mixing,
            clamp=self.clamp,
        )
        D = StyleGAN2Discriminator(
            shape,
            maps,
            self.discriminator_architecture,
            group=self.group,
            class_layers=self.class_layers,
            class_rate=self.mapping_rate,
            clamp=self.clamp,
        )
        networks = Networks(G, D)
        initialize(networks.generator, seed, Purpose.GENERATOR_WEIGHTS, first_values)
        initialize(networks.discriminator, seed, Purpose.DISCRIMINATOR_WEIGHTS, first_values)
        for network in networks:
            weights_channels_last(network)
        return networks
