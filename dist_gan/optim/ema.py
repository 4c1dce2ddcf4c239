"""The moving average of G's weights, whose half-life is stated in images."""

import copy

import torch
from pydantic import Field
from torch import Tensor

from dist_gan.networks.layers import Generator
from dist_gan.part import Part


class EMA(Part):
    """How the average forgets."""

    half_life_images: int = Field(10_000, ge=0)
    """After so many images half of the average is newer. 0: no average, the weights themselves."""
    ramp: float = Field(0.05, ge=0)
    """Early on the half-life is at most this part of the images seen (Karras et al. 2020), so that the first weights
    are forgotten. 0 is off."""

    def weight(self, images_seen: int, images: int) -> float:
        """The weight of the newest weights after an update over `images` images that ended at `images_seen`."""
        half_life = float(self.half_life_images)
        if self.ramp:
            half_life = min(half_life, self.ramp * images_seen)
        return 1 - 0.5 ** (images / half_life) if half_life else 1.0


class Average:
    """A generator whose weights are the average of another's. Only `follow` changes its weights."""

    def __init__(self, recipe: EMA, generator: Generator) -> None:
        """To be made before `generator` is wrapped: a copy of a wrapped one would still call the original."""
        self.recipe = recipe
        self.network = copy.deepcopy(generator).requires_grad_(False).eval()
        self._weights: list[Tensor] = list(self.network.parameters())

    @torch.no_grad()
    def follow(self, parameters: list[Tensor], images_seen: int, images: int, moved: Tensor) -> None:
        """One step of the average towards `parameters`.

        Args:
            parameters: G's, in their order.
            images_seen: after the update.
            images: of the update.
            moved: [] 1, or 0 where G skipped its move: the average then rests too.
        """
        weight = moved * self.recipe.weight(images_seen, images)
        if weight.device.type == "cpu":  # where reading a number costs nothing
            torch._foreach_lerp_(self._weights, parameters, float(weight))
        else:
            difference = torch._foreach_sub(parameters, self._weights)
            torch._foreach_mul_(difference, weight)
            torch._foreach_add_(self._weights, difference)
