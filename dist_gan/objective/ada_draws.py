"""The random numbers of the augmentation pipe: each transformation reads places of its own, whatever others are on."""

from itertools import accumulate

import torch
from torch import Tensor

from dist_gan.randomness import normal, uniform

BANDS = 4
COUNTS = {
    "xflip": 2,
    "rotate90": 2,
    "xint": 3,
    "scale": 2,
    "rotate_before": 2,
    "aniso": 2,
    "rotate_after": 2,
    "xfrac": 3,
    "brightness": 2,
    "contrast": 2,
    "lumaflip": 2,
    "hue": 2,
    "saturation": 2,
    **{f"imgfilter{band}": 2 for band in range(BANDS)},
    "noise": 2,
    "cutout": 3,
}
"""How many numbers of a sample each takes: the first decides whether it takes place, the others how. Their order is
part of the meaning of a seed."""
SLOTS = {
    name: slice(end - count, end)
    for (name, count), end in zip(COUNTS.items(), accumulate(COUNTS.values()), strict=True)
}
FIXED = sum(COUNTS.values())
"""How many these are. The noise of each pixel comes after them."""


class Draws:
    """The numbers of N samples, and which transformations take place."""

    def __init__(self, bits: Tensor, strength: Tensor | float, dtype: torch.dtype) -> None:
        """bits: int16 [N, FIXED or more]; strength: [], the overall probability; dtype: of what comes out."""
        self.bits = bits
        self.dtype = dtype
        self.strength = torch.as_tensor(strength, dtype=torch.float64) if isinstance(strength, Tensor) else strength

    def uniform(self, name: str) -> Tensor:
        """[N, count - 1] in (0, 1)."""
        return uniform(self.bits[:, SLOTS[name]][:, 1:], self.dtype)

    def normal(self, name: str) -> Tensor:
        """[N, count - 1], standard normal."""
        return normal(self.bits[:, SLOTS[name]][:, 1:], self.dtype)

    def pixels(self, shape: torch.Size) -> Tensor:
        """Standard normal numbers of this shape, [N, C, H, W]."""
        return normal(self.bits[:, FIXED:], self.dtype).view(shape)

    def chosen(self, name: str, multiplier: float, values: Tensor, neutral: float) -> Tensor:
        """`values` [N, ...] with probability multiplier * strength, else `neutral`: for each sample."""
        return self.chosen_with(name, multiplier * self.strength, values, neutral)

    def chosen_with(self, name: str, probability: Tensor | float, values: Tensor, neutral: float) -> Tensor:
        """The same, with this probability."""
        # In float64, so that the precision of the images does not decide.
        place = uniform(self.bits[:, SLOTS[name].start], torch.float64) < probability
        return torch.where(place.view(-1, *[1] * (values.dim() - 1)), values, neutral)


def matrix(*rows: tuple[Tensor | float, ...]) -> Tensor:
    """[N, rows, columns] of numbers and of tensors [N], one of which at least is one."""
    like = next(x for row in rows for x in row if isinstance(x, Tensor))
    flat = [x if isinstance(x, Tensor) else torch.full_like(like, x) for row in rows for x in row]
    return torch.stack(flat, 1).view(len(like), len(rows), -1)


def product(a: Tensor, b: Tensor) -> Tensor:
    """a @ b of [N, I, J] and [N, J, K], computed as it is written: never in TF32, and exact where one is the unit."""
    return (a[:, :, :, None] * b[:, None]).sum(2)


def differs(matrices: Tensor) -> Tensor:
    """bool [N]: which of [N, K, K] is not the unit matrix."""
    unit = torch.eye(matrices.shape[1], dtype=matrices.dtype, device=matrices.device)
    return (matrices != unit).flatten(1).any(1)
