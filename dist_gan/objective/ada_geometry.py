"""Flips, turns, shifts and scalings of the augmentation pipe: one affine map a sample, without aliasing.

Karras et al. 2020 ("Training generative adversarial networks with limited data", appendix B): the image is continued by
reflection, upsampled twice with a wavelet's low-pass filter, read at the mapped points bilinearly, and downsampled with
the same filter. The continuation here is always as wide as reflection allows, one pixel less than the image on each
side, and beyond it everything is 0. So a sample does not depend on how far others of its batch move, and nothing of
that is read back to the host.
"""

import math
from functools import cache
from typing import Protocol

import torch
from torch import Tensor

from dist_gan.objective.ada_draws import Draws, matrix, product
from dist_gan.objective.linear_gather import gather, points

SYM6 = (
    0.015404109327027373,
    0.0034907120842174702,
    -0.11799011114819057,
    -0.048311742585633,
    0.4910559419267466,
    0.787641141030194,
    0.3379294217276218,
    -0.07263752278646252,
    -0.021060292512300564,
    0.04472490177066578,
    0.0017677118642428036,
    -0.007800708325034148,
)
"""The low-pass filter of Daubechies' least asymmetric wavelet with 6 vanishing moments."""
TAPS = len(SYM6)


class Moving(Protocol):
    """The fields that this file reads."""

    @property
    def xint_max(self) -> float: ...
    @property
    def scale_std(self) -> float: ...
    @property
    def rotate_max(self) -> float: ...
    @property
    def aniso_std(self) -> float: ...
    @property
    def xfrac_std(self) -> float: ...

    def multiplier(self, switch: str) -> float:
        """The factor of the strength for one transformation."""


def inverse_motion(of: Moving, draws: Draws, height: int, width: int) -> Tensor:
    """[N, 3, 3]: from (x, y, 1) in pixels around the middle of the new image to where that comes from in the old one.
    Exactly the unit matrix for a sample that is not moved."""
    none = torch.zeros_like(draws.uniform("xflip")[:, 0])
    one, whole = none + 1, math.pi
    found = _scaling(one, one)
    if on := of.multiplier("xflip"):
        i = draws.chosen("xflip", on, (draws.uniform("xflip")[:, 0] * 2).floor(), 0)
        found = product(found, _scaling(1 - 2 * i, one))
    if on := of.multiplier("rotate90"):
        i = draws.chosen("rotate90", on, (draws.uniform("rotate90")[:, 0] * 4).floor(), 0)
        found = product(found, _rotation((i * (whole / 2)).cos().round(), (i * (whole / 2)).sin().round()))
    if on := of.multiplier("xint"):
        t = draws.chosen("xint", on, (draws.uniform("xint") * 2 - 1) * of.xint_max, 0)
        found = product(found, _translation(-(t[:, 0] * width).round(), -(t[:, 1] * height).round()))
    if on := of.multiplier("scale"):
        s = draws.chosen("scale", on, (draws.normal("scale")[:, 0] * of.scale_std).exp2(), 1)
        found = product(found, _scaling(1 / s, 1 / s))
    if on := of.multiplier("rotate"):
        found = product(found, _turned(of, draws, "rotate_before", on))
    if on := of.multiplier("aniso"):
        s = draws.chosen("aniso", on, (draws.normal("aniso")[:, 0] * of.aniso_std).exp2(), 1)
        found = product(found, _scaling(1 / s, s))
    if on := of.multiplier("rotate"):
        found = product(found, _turned(of, draws, "rotate_after", on))
    if on := of.multiplier("xfrac"):
        t = draws.chosen("xfrac", on, draws.normal("xfrac") * of.xfrac_std, 0)
        found = product(found, _translation(-t[:, 0] * width, -t[:, 1] * height))
    return found


def moved(images: Tensor, inverse: Tensor) -> Tensor:
    """images [N, C, H, W], inverse [N, 3, 3] as of `inverse_motion` -> [N, C, H, W]."""
    n, channels, height, width = images.shape
    kind = images.dtype, images.device
    # In between, columns are the first axis: so every product is one of many rows with one small matrix.
    wide = _times(images, _up(width, *kind))
    fine = _times(wide.transpose(2, 3), _up(height, *kind))  # [N, C, A, B]: columns, rows
    x, y = (_places(length, *kind) for length in (width, height))
    xx, xy, dx, yx, yy, dy = (inverse[:, i, j, None, None] for i in (0, 1) for j in (0, 1, 2))
    a = (xx * 2) * x[:, None] + ((xy * 2) * y + (2 * dx + (3 * width - 2)))
    b = (yx * 2) * x[:, None] + ((yy * 2) * y + (2 * dy + (3 * height - 2)))
    where = points(a.flatten(1), b.flatten(1), (fine.shape[2], fine.shape[3]))
    seen = gather(fine, where).view(n, channels, len(x), len(y))
    low = _times(seen, _down(height, *kind))
    return _times(low.transpose(2, 3), _down(width, *kind))


def _times(rows: Tensor, weights: Tensor) -> Tensor:
    """[..., K] @ [K, L]: as one product of two matrices, which on a CPU is many times faster than a batch of them."""
    return (rows.reshape(-1, rows.shape[-1]) @ weights).view(*rows.shape[:-1], -1)


def _places(length: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[2 length + TAPS - 2]: the places of the pixels of which `_down` makes `length`, in these, from their middle."""
    return (torch.arange(2 * length + TAPS - 2, dtype=dtype, device=device) - (length + 4)) / 2


def _turned(of: Moving, draws: Draws, name: str, on: float) -> Tensor:
    """One of two equal rotations: that there is the first or the second has the probability on * strength."""
    strength = torch.as_tensor(draws.strength, dtype=torch.float64, device=draws.bits.device)
    each = 1 - (1 - on * strength).clamp(0, 1).sqrt()
    angle = draws.chosen_with(name, each, (draws.uniform(name)[:, 0] * 2 - 1) * (math.pi * of.rotate_max), 0)
    return _rotation(angle.cos(), angle.sin())


def _scaling(x: Tensor, y: Tensor) -> Tensor:
    return matrix((x, 0, 0), (0, y, 0), (0, 0, 1))


def _rotation(cosine: Tensor, sine: Tensor) -> Tensor:
    return matrix((cosine, -sine, 0), (sine, cosine, 0), (0, 0, 1))


def _translation(x: Tensor, y: Tensor) -> Tensor:
    return matrix((1, 0, x), (0, 1, y), (0, 0, 1))


def reflected(index: int, length: int) -> int:
    """Which of `length` pixels continues the image at any index, by reflection about the middles of its outer ones."""
    period = max(1, 2 * (length - 1))
    return min(index % period, period - index % period) if length > 1 else 0


@cache
def _up(length: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[length, 2 (3 length - 2) + 2]: a row of pixels times this is continued by reflection by length - 1 on each side,
    upsampled twice, and has a 0 on each side, which stands for everything outside."""
    padded = 3 * length - 2
    weights = torch.zeros(length, 2 * padded + 2, dtype=torch.float64)
    for out in range(2 * padded):
        for tap, weight in enumerate(reversed(SYM6)):
            twice = out + tap - TAPS // 2
            if twice % 2 == 0 and 0 <= twice // 2 < padded:
                weights[reflected(twice // 2 - (length - 1), length), out + 1] += 2 * weight / sum(SYM6)
    return weights.to(device, dtype)


@cache
def _down(length: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[2 length + TAPS - 2, length]: a row of twice as many pixels, and those that the filter needs at the ends, times
    this is downsampled."""
    weights = torch.zeros(2 * length + TAPS - 2, length, dtype=torch.float64)
    for out in range(length):
        weights[2 * out : 2 * out + TAPS, out] = torch.tensor(SYM6, dtype=torch.float64) / sum(SYM6)
    return weights.to(device, dtype)
