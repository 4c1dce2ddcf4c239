"""The moving average of G's weights, whose half-life is stated in images."""

import copy
from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor

from dist_gan.networks.base import BufferRule, Generator
from dist_gan.networks.layers import measure_batch_norm
from dist_gan.part import Part
from dist_gan.randomness import Purpose, draw, normal, words

MEASURED = 512
"""Samples from which batch statistics are measured; a multiple of every group that divides it, else rounded up."""


class EMA(Part):
    """How the average forgets."""

    half_life_images: int = Field(10_000, ge=0)
    """After this many images half of the average is newer. 0: no average, the weights themselves."""
    ramp: float = Field(0.05, ge=0)
    """Early on the half-life is at most this part of the images seen (Karras et al. 2020), so that the first weights
    are forgotten. 0 is off."""

    def half_life(self, images_seen: int) -> float:
        """In images, at `images_seen`."""
        return min(float(self.half_life_images), self.ramp * images_seen) if self.ramp else float(self.half_life_images)

    def weight(self, images_seen: int, images: int) -> float:
        """The weight of the newest weights after an update over `images` images that ended at `images_seen`."""
        half_life = self.half_life(images_seen)
        return 1 - 0.5 ** (images / half_life) if half_life else 1.0


class Average:
    """A generator whose weights are the average of another's; its buffers follow by the rule that their layer states.
    Only `follow` changes its weights."""

    def __init__(self, recipe: EMA, generator: Generator, seed: int, batch_multiple: int = 1) -> None:
        """To be made before `generator` is wrapped: a copy of a wrapped one would still call the original.

        Args:
            recipe: how it forgets.
            generator: whose average it is.
            seed: of the latents from which batch statistics are measured.
            batch_multiple: of how many samples a forward in training mode must be a multiple.
        """
        self.recipe = recipe
        self.network = copy.deepcopy(generator).requires_grad_(False).eval()
        self._seed = seed
        self._measured_on = -(-MEASURED // batch_multiple) * batch_multiple
        rules = buffer_rules(generator)
        own, other = dict(self.network.named_buffers()), dict(generator.named_buffers())
        averaged = [name for name, rule in rules.items() if rule == "average"]
        copied = [name for name, rule in rules.items() if rule == "copy"]
        self._averaged: list[Tensor] = [*self.network.parameters(), *(own[name] for name in averaged)]
        self._sources: list[Tensor] = [*generator.parameters(), *(other[name] for name in averaged)]
        self._copied = [(own[name], other[name]) for name in copied]

    @torch.no_grad()
    def follow(self, weight: Tensor) -> None:
        """One step towards the generator. weight: [] of the newest; 0 where G skipped its move."""
        difference = torch._foreach_sub(self._sources, self._averaged)
        torch._foreach_mul_(difference, weight)
        torch._foreach_add_(self._averaged, difference)
        for own, other in self._copied:
            own.copy_(other)

    def state(self) -> dict[str, Tensor]:
        """Weights and buffers, batch statistics measured for the weights as they are."""
        return {**self.network.state_dict(), **self.measure_batch_norm()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `state`."""
        self.network.load_state_dict(dict(state))

    def measure_batch_norm(self) -> dict[str, Tensor]:
        """Batch statistics from fixed latents; on all ranks alike, nothing is communicated."""
        weight = next(self.network.parameters())
        ordinals, latent = range(self._measured_on), self.network.latent
        bits = draw(self._seed, {Purpose.STATISTICS: latent}, ordinals, weight.device)[Purpose.STATISTICS]
        condition = None
        if classes := self.network.classes:
            drawn = words(self._seed, Purpose.STATISTICS_CLASS, ordinals, 1, weight.device)[:, 0]
            condition = (drawn * classes) >> 32
        return measure_batch_norm(self.network, normal(bits, weight.dtype), condition)

    @torch.no_grad()
    def ready(self) -> Generator:
        """The averaged generator with batch statistics that fit its weights, for making images."""
        buffers = dict(self.network.named_buffers())
        for name, value in self.measure_batch_norm().items():
            buffers[name].copy_(value)
        return self.network


def buffer_rules(generator: Generator) -> dict[str, BufferRule]:
    """Each buffer's name and how an average follows it: as its layer states in `buffer_rules`, else copied."""
    return {
        f"{path}.{name}" if path else name: getattr(layer, "buffer_rules", {}).get(name, "copy")
        for path, layer in generator.named_modules()
        for name, _ in layer.named_buffers(recurse=False)
    }
