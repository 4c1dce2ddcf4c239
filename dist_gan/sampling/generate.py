"""Images from a generator: the same seed gives the same image, alone or among many."""

from collections.abc import Iterator

import torch
from torch import Tensor

from dist_gan.networks.base import Generator
from dist_gan.randomness import CPU, Purpose, draw, normal

FORWARD = 16
"""Images of one forward. It is always full: kernels depend on the shape, and their rounding depends on the kernel."""


def sample_latents(
    seed: int, ordinals: range, latent: int, device: torch.device = CPU, dtype: torch.dtype = torch.float32
) -> Tensor:
    """[N, Z] standard normal: latent `i` of `seed` for each i of `ordinals`."""
    return normal(draw(seed, {Purpose.SAMPLE: latent}, ordinals, device)[Purpose.SAMPLE], dtype)


def sample_classes(classes: int, count: int) -> tuple[Tensor, int]:
    """Classes int64 [count] for a grid in which each column is a class, and the number of columns.

    With many classes there are as many columns as make the grid about square, spread evenly over the classes.
    """
    columns = min(classes, max(1, round(count**0.5)) if classes > 16 else classes, count)
    shown = torch.arange(columns) * classes // columns
    return shown[torch.arange(count) % columns], columns


def generate(generator: Generator, latents: Tensor, condition: Tensor | None = None) -> Tensor:
    """latents [N, Z], class labels int64 [N] or None -> images uint8 [N, C, H, W] on the CPU. `generator` is in eval
    mode."""
    return torch.cat(list(chunks(generator, latents, condition)))


@torch.no_grad()
def chunks(generator: Generator, latents: Tensor, condition: Tensor | None = None) -> Iterator[Tensor]:
    """As `generate`, `FORWARD` images at a time, so that memory does not grow with their number."""
    for start in range(0, len(latents), FORWARD):
        part = latents[start : start + FORWARD]
        padded = torch.cat([part, part.new_zeros(FORWARD - len(part), latents.shape[1])])
        classes = None
        if generator.classes:
            assert condition is not None, "a conditional generator is given classes"
            own = condition[start : start + FORWARD].to(latents.device)
            classes = torch.cat([own, own.new_zeros(FORWARD - len(own))])
        yield to_uint8(generator(padded, classes)[: len(part)].cpu())


def to_uint8(images: Tensor) -> Tensor:
    """Floating point in [-1, 1] -> uint8, rounded to the nearest."""
    return images.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def slerp(a: Tensor, b: Tensor, steps: int) -> Tensor:
    """[Z], [Z] -> [steps, Z] from a to b. See `between`."""
    return between(a, b, torch.linspace(0, 1, steps, dtype=torch.float64)[:, None])


def between(a: Tensor, b: Tensor, t: Tensor | float) -> Tensor:
    """[..., Z], [..., Z] -> float64 [..., Z] on the CPU: the part t of the way from a (0) to b (1).

    Along the great circle, lengths interpolated (White 2016); straight where a and b have one direction.
    """
    a, b = a.double().cpu(), b.double().cpu()
    length_a, length_b = a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True)
    angle = torch.acos(((a * b).sum(-1, keepdim=True) / (length_a * length_b)).clamp(-1, 1))
    sine = angle.sin()
    direction = (torch.sin((1 - t) * angle) * a / length_a + torch.sin(t * angle) * b / length_b) / sine
    return torch.where(sine < 1e-6, a + t * (b - a), direction * ((1 - t) * length_a + t * length_b))
