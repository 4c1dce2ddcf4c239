"""Network recipes. To add one: write a file with a `Recipe`, and put its name into `AnyRecipe`."""

from typing import Annotated

from pydantic import Field

from dist_gan.networks.base import Discriminator, Generator, Networks, Recipe
from dist_gan.networks.biggan import BigGAN
from dist_gan.networks.dcgan import DCGAN
from dist_gan.networks.mlp import MLP
from dist_gan.networks.r3gan import R3GAN
from dist_gan.networks.sngan import SNGAN
from dist_gan.networks.stylegan2 import StyleGAN2
from dist_gan.own_parts import OwnPart

AnyRecipe = Annotated[MLP | DCGAN | R3GAN | SNGAN | StyleGAN2 | BigGAN, Field(discriminator="name"), OwnPart(Recipe)]

__all__ = [
    "DCGAN",
    "MLP",
    "R3GAN",
    "SNGAN",
    "AnyRecipe",
    "BigGAN",
    "Discriminator",
    "Generator",
    "Networks",
    "Recipe",
    "StyleGAN2",
]
