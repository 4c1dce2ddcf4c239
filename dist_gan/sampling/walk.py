"""Walks through the latents of a generator that end where they began."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from dist_gan.errors import ConfigError
from dist_gan.networks.base import Generator
from dist_gan.sampling.generate import between, generate, sample_classes, sample_latents
from dist_gan.sampling.pictures import grid

COUNT, PER_CLASS = 16, 4
"""Walks at once, and those of each class where there are several, when nobody says how many."""
MOST = 1024
"""Walks at once."""


def latent_loop(stops: Tensor, frames: int) -> Iterator[Tensor]:
    """Latents [K, N, Z] -> for each of `frames` frames [N, Z], from stop to stop and back to the first one.

    The frame after the last would be the first again. Each way follows the great circle, slow where it begins and where
    it ends, so that one can look at the images of the stops.
    """
    count = len(stops)
    for frame in range(frames):
        stop, rest = divmod(frame * count, frames)
        t = rest / frames
        yield between(stops[stop], stops[(stop + 1) % count], t * t * (3 - 2 * t))


def walk(
    generator: Generator,
    frames: int,
    *,
    stops: int = 4,
    count: int | None = None,
    per_class: int | None = None,
    seed: int = 0,
    classes: Sequence[int] | None = None,
) -> Iterator[Tensor]:
    """Frames uint8 [C, H, W] of a grid of walks, each through `stops` latents of its own. See `latent_loop`.

    The first frame shows images 0 to `count` - 1 of the seed. Where a conditional generator has several classes, each
    column is one, which stays what it is, and the walks of a row share their latents: there is nothing between classes,
    and so one sees what they have in common.

    Args:
        generator: in eval mode.
        frames: of the whole loop.
        stops: latents that each walk comes through; at least 2.
        count: walks, at most `MOST`; None: 16, or 4 of each class.
        per_class: walks of each class, in place of `count`.
        seed: which latents.
        classes: of a conditional generator; None: all, or as many as make the grid about square.

    Raises:
        ConfigError: there are too many walks.
    """
    own, columns, number = _layout(generator, count, per_class, classes)
    if len(number) > MOST:
        raise ConfigError(f"count: a video shows at most {MOST:,} images at once, not {len(number):,}")
    return _frames(generator, frames, stops, seed, own, columns, number)


def _layout(
    generator: Generator, count: int | None, per_class: int | None, classes: Sequence[int] | None
) -> tuple[Tensor | None, int | None, range | list[int]]:
    """The class of each walk, the columns (None: about square), and for each walk the number of its latents."""
    if not generator.classes:
        return None, None, range(min(count or COUNT, MOST + 1))
    if classes is None:
        numbers, columns = sample_classes(generator.classes, count or 4 * COUNT)
        classes = range(generator.classes) if per_class else numbers[:columns].tolist()
    several = len(classes) > 1
    count = count or len(classes) * (per_class or (PER_CLASS if several else COUNT))
    own = torch.tensor([classes[i % len(classes)] for i in range(min(count, MOST + 1))])
    if not several:
        return own, None, range(len(own))
    return own, len(classes), [i // len(classes) for i in range(len(own))]


def _frames(
    generator: Generator,
    frames: int,
    stops: int,
    seed: int,
    own: Tensor | None,
    columns: int | None,
    number: Sequence[int],
) -> Iterator[Tensor]:
    weight = next(generator.parameters())
    each = max(number) + 1
    latents = sample_latents(seed, range(each * stops), generator.latent, weight.device, weight.dtype)
    for at in latent_loop(latents.view(stops, each, -1)[:, torch.tensor(number)], frames):
        yield grid(generate(generator, at.to(weight), own), columns)
