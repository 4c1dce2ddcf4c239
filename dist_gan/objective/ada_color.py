"""Brightness, contrast, luma flip, hue and saturation of the augmentation pipe: one affine map of colors a sample."""

import math
from typing import Protocol

import torch
from torch import Tensor

from dist_gan.errors import ConfigError
from dist_gan.objective.ada_draws import Draws, matrix, product


class Coloring(Protocol):
    """The fields that this file reads."""

    @property
    def brightness_std(self) -> float: ...
    @property
    def contrast_std(self) -> float: ...
    @property
    def hue_max(self) -> float: ...
    @property
    def saturation_std(self) -> float: ...

    def multiplier(self, switch: str) -> float:
        """The factor of the strength for one transformation."""


def recoloring(of: Coloring, draws: Draws, channels: int) -> Tensor:
    """[N, 4, 4]: from a color (r, g, b, 1) to the new one. Exactly the unit matrix where a sample keeps its colors."""
    zero = torch.zeros_like(draws.normal("brightness")[:, 0])
    unit = torch.eye(4, dtype=zero.dtype, device=zero.device)
    luma = torch.full_like(unit, 1 / 3)  # the projection to the gray axis
    luma[3].zero_()
    luma[:, 3].zero_()
    found = unit.expand(len(zero), 4, 4)
    if on := of.multiplier("brightness"):
        b = draws.chosen("brightness", on, draws.normal("brightness")[:, 0] * of.brightness_std, 0)
        found = product(matrix((1, 0, 0, b), (0, 1, 0, b), (0, 0, 1, b), (0, 0, 0, 1)), found)
    if on := of.multiplier("contrast"):
        c = draws.chosen("contrast", on, (draws.normal("contrast")[:, 0] * of.contrast_std).exp2(), 1)
        found = product(matrix((c, 0, 0, 0), (0, c, 0, 0), (0, 0, c, 0), (0, 0, 0, 1)), found)
    if on := of.multiplier("lumaflip"):
        i = draws.chosen("lumaflip", on, (draws.uniform("lumaflip") * 2).floor()[:, :, None], 0)
        found = product(unit - 2 * luma * i, found)
    if (on := of.multiplier("hue")) and channels > 1:
        angle = draws.chosen("hue", on, (draws.uniform("hue")[:, 0] * 2 - 1) * (math.pi * of.hue_max), 0)
        found = product(_around_gray(angle), found)
    if (on := of.multiplier("saturation")) and channels > 1:
        s = (draws.normal("saturation") * of.saturation_std).exp2()[:, :, None]
        s = draws.chosen("saturation", on, s, 1)
        found = product(unit + (unit - luma) * (s - 1), found)
    return found


def recolored(images: Tensor, colors: Tensor) -> Tensor:
    """images [N, C, H, W], colors [N, 4, 4] -> [N, C, H, W]. A gray image has the mean of what three equal channels
    become.

    Raises:
        ConfigError: C is neither 1 nor 3.
    """
    channels = images.shape[1]
    if channels == 1:
        colors = colors[:, :3].mean(1)  # [N, 4]
        return images * colors[:, :3].sum(1)[:, None, None, None] + colors[:, 3, None, None, None]
    if channels != 3:
        raise ConfigError(f"augment: the colors of ada need images with 1 or 3 channels, not {channels}")
    return product(colors[:, :3, :3], images.flatten(2)).view(images.shape) + colors[:, :3, 3, None, None]


def _around_gray(angle: Tensor) -> Tensor:
    """[N, 4, 4]: rotations around the gray axis."""
    cosine, sine = angle.cos(), angle.sin()
    same, other = (1 - cosine) / 3, sine / math.sqrt(3)
    diagonal, back, forth = same + cosine, same - other, same + other
    return matrix((diagonal, back, forth, 0), (forth, diagonal, back, 0), (back, forth, diagonal, 0), (0, 0, 0, 1))
