"""The union of all augmentations. To add one: write an `Augment`, and put its name here."""

from typing import Annotated

from pydantic import Field

from dist_gan.objective.ada import ADA
from dist_gan.objective.augment import Augment, DiffAugment, InstanceNoise, NoAugment
from dist_gan.own_parts import OwnPart

AnyAugment = Annotated[NoAugment | DiffAugment | ADA | InstanceNoise, Field(discriminator="name"), OwnPart(Augment)]
