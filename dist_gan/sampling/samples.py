"""Any number of images of a generator, in batches, from Python."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from dist_gan.errors import ConfigError
from dist_gan.networks.base import Generator
from dist_gan.sampling.generate import FORWARD, chunks, sample_latents


def samples(
    generator: Generator, count: int, seed: int = 0, classes: int | Sequence[int] | None = None
) -> Iterator[Tensor]:
    """Batches uint8 [n, C, H, W] on the CPU, `count` images in all; memory does not grow with the count.

    Image i of a seed is the same for every count, and the same as that of `python -m dist_gan.sample`.

    Args:
        generator: in eval mode, as `load_generator` returns it.
        count: how many images.
        seed: which images; up to 63 bits.
        classes: of a conditional generator: one class for all, or several in turn, image after image. None: all of them
            in turn.

    Raises:
        ConfigError: there is no such class, or the generator has none.
    """
    if not 0 <= seed < 2**63:
        raise ConfigError(f"seed: expected a number from 0 to {2**63 - 1}, got {seed}")
    asked = [classes] if isinstance(classes, int) else list(range(generator.classes) if classes is None else classes)
    if wrong := [c for c in asked if not 0 <= c < generator.classes]:
        there = f"0 to {generator.classes - 1}" if generator.classes else "none: the generator is not conditional"
        raise ConfigError(f"classes: {wrong[0]} is none of the generator's classes ({there})")
    if generator.classes and not asked:
        raise ConfigError("classes: at least one is needed")
    return _batches(generator, count, seed, asked)


def _batches(generator: Generator, count: int, seed: int, classes: Sequence[int]) -> Iterator[Tensor]:
    weight = next(generator.parameters())
    for start in range(0, count, FORWARD):
        ordinals = range(start, min(start + FORWARD, count))
        latents = sample_latents(seed, ordinals, generator.latent, weight.device, weight.dtype)
        own = [classes[i % len(classes)] for i in ordinals] if classes else None
        yield from chunks(generator, latents, None if own is None else torch.tensor(own))
