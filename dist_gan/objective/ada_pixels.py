"""Filters, noise and cutout of the augmentation pipe."""

import math
from functools import cache
from typing import Protocol

import torch
from torch import Tensor

from dist_gan.objective.ada_draws import BANDS, Draws
from dist_gan.objective.ada_geometry import reflected

SYM2 = tuple((a + b * math.sqrt(3)) / (4 * math.sqrt(2)) for a, b in ((1, -1), (3, -1), (3, 1), (1, 1)))
"""The low-pass filter of Daubechies' wavelet with 2 vanishing moments."""


class Spoiling(Protocol):
    """The fields that this file reads."""

    @property
    def imgfilter_bands(self) -> tuple[float, float, float, float]: ...
    @property
    def imgfilter_std(self) -> float: ...
    @property
    def noise_std(self) -> float: ...
    @property
    def cutout_size(self) -> float: ...

    def multiplier(self, switch: str) -> float:
        """The factor of the strength for one transformation."""


def filtered(images: Tensor, of: Spoiling, draws: Draws) -> Tensor:
    """images [N, C, H, W] -> the same, each of four bands of frequencies with a gain of its own (Karras et al. 2020,
    appendix B). What leaves the image comes back by reflection."""
    height, width = images.shape[2:]
    gains = torch.ones_like(draws.normal("imgfilter0")).expand(-1, BANDS)
    changed = gains[:, 0] != 1
    bands = torch.arange(BANDS, device=images.device)
    for band, multiplier in enumerate(of.imgfilter_bands):
        name = f"imgfilter{band}"
        gain = (draws.normal(name) * of.imgfilter_std).exp2()
        gain = draws.chosen(name, of.multiplier("imgfilter") * multiplier, gain, 1)
        changed = changed | (gain[:, 0] != 1)
        each = torch.where(bands == band, gain, 1)
        # Natural images have 10/13 of their power in the lowest band and 1/13 in the others. It stays the same.
        power = (each.square().sum(1, keepdim=True) + 9 * each[:, :1].square()) / 13
        gains = gains * each / power.sqrt()
    rows, columns = (
        (gains[:, :, None, None] * _bank(length, images.dtype, images.device)).sum(1)[:, None]
        for length in (height, width)
    )
    return torch.where(changed[:, None, None, None], rows @ images @ columns.transpose(2, 3), images)


def noisy(images: Tensor, of: Spoiling, draws: Draws) -> Tensor:
    """images [N, C, H, W] -> the same, with normal noise whose standard deviation is |normal| * noise_std."""
    sigma = draws.chosen("noise", of.multiplier("noise"), draws.normal("noise")[:, 0].abs() * of.noise_std, 0)
    return images + draws.pixels(images.shape) * sigma[:, None, None, None]


def cut(images: Tensor, of: Spoiling, draws: Draws) -> Tensor:
    """images [N, C, H, W] -> the same, 0 in a rectangle around a point anywhere in the image."""
    height, width = images.shape[2:]
    center = draws.uniform("cutout")
    reach = draws.chosen("cutout", of.multiplier("cutout"), torch.full_like(center[:, :1], of.cutout_size / 2), 0)
    columns = (_middles(width, center) - center[:, :1]).abs() < reach  # [N, W]
    rows = (_middles(height, center) - center[:, 1:]).abs() < reach
    return images.masked_fill((rows[:, :, None] & columns[:, None])[:, None], 0.0)


def _middles(length: int, like: Tensor) -> Tensor:
    """[length]: of the pixels of a side of length 1."""
    return (torch.arange(length, dtype=like.dtype, device=like.device) + 0.5) / length


@cache
def _taps() -> Tensor:
    """float64 [4, 43]: bandpass filters from the lowest band to the highest, whose sum is the unit."""
    low = torch.tensor(SYM2, dtype=torch.float64)
    signs = torch.tensor([1, -1, 1, -1], dtype=torch.float64)
    halves = [_convolved(each[None], each.flip(0))[0] / 2 for each in (low, low * signs)]
    bank = torch.eye(BANDS, 1, dtype=torch.float64)
    for band in range(1, BANDS):
        apart = torch.stack([bank, torch.zeros_like(bank)], 2).flatten(1)[:, :-1]
        bank = _convolved(apart, halves[0])
        middle, half = bank.shape[1] // 2, len(halves[1]) // 2
        bank[band, middle - half : middle + half + 1] += halves[1]
    return bank


def _convolved(rows: Tensor, taps: Tensor) -> Tensor:
    """[R, L], [T] -> [R, L + T - 1]."""
    found: Tensor = torch.nn.functional.conv1d(rows[:, None], taps.flip(0)[None, None], padding=len(taps) - 1)[:, 0]
    return found


@cache
def _bank(length: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[4, length, length]: each filter as a matrix for columns of pixels."""
    taps = _taps()
    matrices = torch.zeros(BANDS, length, length, dtype=torch.float64)
    for out in range(length):
        for tap in range(taps.shape[1]):
            matrices[:, out, reflected(out + tap - taps.shape[1] // 2, length)] += taps[:, tap]
    return matrices.to(device, dtype)
