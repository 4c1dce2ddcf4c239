"""The images of a generator that are judged."""

from collections.abc import Iterable, Iterator
from functools import partial

import torch
from torch import Tensor

from dist_gan.metrics.extract import Images
from dist_gan.metrics.reference import RealOrder
from dist_gan.networks.base import Generator
from dist_gan.randomness import Purpose, draw, normal
from dist_gan.sampling.generate import chunks


class Fakes:
    """The images of a generator that are judged: fake `i` comes from latent `i` of a purpose of its own; a conditional
    one has the class of real `i`, so that classes are as frequent as in the data."""

    def __init__(self, generator: Generator, seed: int, reals: RealOrder | None) -> None:
        """`generator` in eval mode; `reals`: of the data, where it is conditional."""
        self.generator = generator
        self.seed = seed
        self.reals = reals

    def source(self, ranges: Iterable[range]) -> Iterator[Images]:
        """See `dist_gan.metrics.extract`."""
        for ordinals in ranges:
            yield partial(self._made, ordinals)

    def _made(self, ordinals: range) -> tuple[Tensor, Tensor]:
        weight = next(self.generator.parameters())
        bits = draw(self.seed, {Purpose.EVALUATION: self.generator.latent}, ordinals, weight.device)
        labels = torch.empty(0, dtype=torch.int64)
        if self.generator.classes:
            assert self.reals is not None, "a conditional generator is given classes"
            labels = self.reals.labels_of(ordinals).cpu()
        latents = normal(bits[Purpose.EVALUATION], weight.dtype)
        return torch.cat(list(chunks(self.generator, latents, labels if self.generator.classes else None))), labels
