"""Network recipes. To add one: write a file with a `Recipe`, and put its name into `AnyRecipe`."""

from typing import Annotated

from pydantic import Field

from dist_gan.networks.dcgan import DCGAN
from dist_gan.networks.layers import Discriminator, Generator, Networks, measure_statistics
from dist_gan.networks.mlp import MLP
from dist_gan.networks.recipe import Recipe

AnyRecipe = Annotated[MLP | DCGAN, Field(discriminator="name")]

__all__ = [
    "DCGAN",
    "MLP",
    "AnyRecipe",
    "Discriminator",
    "Generator",
    "Networks",
    "Recipe",
    "measure_statistics",
]
