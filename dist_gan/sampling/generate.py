"""Images from a generator: the same seed gives the same image, alone or among many."""

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from dist_gan.networks.layers import Generator
from dist_gan.randomness import CPU, Purpose, draw, normal

PIECE = 16
"""Images of one forward. Always full: kernels differ by shape, and their rounding with them."""


def sample_latents(
    seed: int, ordinals: range, latent: int, device: torch.device = CPU, dtype: torch.dtype = torch.float32
) -> Tensor:
    """[N, Z] standard normal: latent `i` of `seed` for each i of `ordinals`."""
    return normal(draw(seed, {Purpose.SAMPLE: latent}, ordinals, device)[Purpose.SAMPLE], dtype)


@torch.no_grad()
def generate(generator: Generator, latents: Tensor) -> Tensor:
    """latents [N, Z] -> images uint8 [N, C, H, W] on the CPU. `generator` is in eval mode."""
    count = len(latents)
    padded = torch.cat([latents, latents.new_zeros(-count % PIECE, latents.shape[1])])
    images = torch.cat([generator(piece).cpu() for piece in padded.split(PIECE)])[:count]
    return to_uint8(images)


def to_uint8(images: Tensor) -> Tensor:
    """Floating point in [-1, 1] -> uint8, rounded to the nearest."""
    return images.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def slerp(a: Tensor, b: Tensor, steps: int) -> Tensor:
    """[Z], [Z] -> [steps, Z] from a to b along the great circle, lengths interpolated (White 2016)."""
    t = torch.linspace(0, 1, steps, dtype=torch.float64)[:, None]
    a, b = a.double().cpu(), b.double().cpu()
    angle = torch.acos((a @ b / (a.norm() * b.norm())).clamp(-1, 1))
    sine = angle.sin()
    if sine < 1e-6:
        return a + t * (b - a)
    direction = (torch.sin((1 - t) * angle) * a / a.norm() + torch.sin(t * angle) * b / b.norm()) / sine
    return direction * ((1 - t) * a.norm() + t * b.norm())


def save_grid(images: Tensor, path: Path, columns: int | None = None) -> None:
    """images uint8 [N, C, H, W] (C is 1 or 3) -> one PNG, row by row; about square by default."""
    from torchvision.utils import make_grid

    save_image(make_grid(images, nrow=columns or max(1, round(len(images) ** 0.5))), path)


def save_image(image: Tensor, path: Path) -> None:
    """uint8 [C, H, W] (C is 1 or 3) -> PNG, published by one rename. On an OSError nothing of it is left."""
    picture = Image.fromarray(image.permute(1, 2, 0).squeeze(2).numpy())
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        picture.save(temporary, format="PNG")
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
