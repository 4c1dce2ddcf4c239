"""Differentiable augmentations of all images that D sees, real and fake, so that G does not learn the augmentation."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from dist_gan.objective.followers import State
from dist_gan.part import Part
from dist_gan.randomness import normal, uniform

NOTHING: State = {}


class Augment(Part):
    """images -> images, differentiable, each sample with its own random bits."""

    logged: ClassVar[tuple[str, ...]] = ("strength",)
    """What of its state is logged, where it is one number; what `numbers` names is logged too."""

    def bits(self, shape: Sequence[int]) -> int:
        """How many 16-bit random numbers it needs for one image of `shape` (C, H, W)."""
        return 0

    @abstractmethod
    def __call__(self, images: Tensor, bits: Tensor, state: State = NOTHING) -> Tensor:
        """images [N, C, H, W] in [-1, 1], bits int16 [N, self.bits((C, H, W))] -> [N, C, H, W]. `state` has what
        `initial_state` and `numbers` name."""

    def initial_state(self) -> dict[str, Tensor]:
        """The state (a strength, for example) before the first update; empty for most."""
        return {}

    def observe(self, real: Tensor, fake: Tensor) -> Tensor:
        """What its state follows: D's logits [N] of real and fake images -> [N]. By default the sign of the real ones,
        whose mean shows how far D has learnt them by heart (Karras et al. 2020, "ADA", r_t)."""
        return real.sign()

    def follow(self, state: State, mean: Tensor, samples: Tensor) -> dict[str, Tensor]:
        """The state after a turn of D in which the observations of this many samples ([]) had this mean."""
        return dict(state)

    def numbers(self, images_seen: int) -> dict[str, float]:
        """What changes with the images seen (a strength by a schedule, for example), by name: always the same names.
        They come in `state` too, each as a tensor []."""
        return {}


class NoAugment(Augment):
    """Images as they are."""

    name: Literal["none"] = "none"

    def __call__(self, images: Tensor, bits: Tensor, state: State = NOTHING) -> Tensor:
        return images


class DiffAugment(Augment):
    """Color, translation and cutout (Zhao et al. 2020, "Differentiable augmentation for data-efficient training")."""

    name: Literal["diffaugment"] = "diffaugment"
    color: bool = True
    """Brightness by up to 0.5, saturation by a factor in (0, 2), contrast by a factor in (0.5, 1.5)."""
    translation: float = Field(0.125, ge=0, le=0.5)
    """Largest shift, as a part of the image's side; uncovered pixels become gray (0). 0 is off."""
    cutout: float = Field(0.5, ge=0, lt=1)
    """Side of the square that becomes gray, as a part of the image's side. 0 is off."""

    def bits(self, shape: Sequence[int]) -> int:
        """Three for color, two for translation, two for cutout, whether used or not."""
        return 7

    def __call__(self, images: Tensor, bits: Tensor, state: State = NOTHING) -> Tensor:
        """images [N, C, H, W] in [-1, 1], bits int16 [N, 7] -> [N, C, H, W] (brightness may leave [-1, 1])."""
        u = uniform(bits, images.dtype)[:, :, None, None, None]
        if self.color:
            images = images + (u[:, 0] - 0.5)
            gray = images.mean(1, keepdim=True)
            images = (images - gray) * (u[:, 1] * 2) + gray
            mean = images.mean((1, 2, 3), keepdim=True)
            images = (images - mean) * (u[:, 2] + 0.5) + mean
        if self.translation:
            images = self._translate(images, u[:, 3, 0, 0, 0], u[:, 4, 0, 0, 0])
        if self.cutout:
            images = self._cut(images, u[:, 5, 0], u[:, 6, 0])
        return images

    def _translate(self, images: Tensor, down: Tensor, right: Tensor) -> Tensor:
        n, _, height, width = images.shape
        rows = _shifted(down, height, self.translation)  # [N, H]: which row moves here; out of range is gray
        columns = _shifted(right, width, self.translation)
        inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
        sample = torch.arange(n, device=images.device)[:, None, None]
        moved = images.permute(0, 2, 3, 1)[
            sample, rows.clamp(0, height - 1)[:, :, None], columns.clamp(0, width - 1)[:, None, :]
        ].permute(0, 3, 1, 2)
        return torch.where(inside[:, None], moved, 0.0)

    def _cut(self, images: Tensor, down: Tensor, right: Tensor) -> Tensor:
        height, width = images.shape[2:]
        rows = torch.arange(height, device=images.device)
        columns = torch.arange(width, device=images.device)
        hidden_rows = (rows - down[:, 0] * height).abs() < self.cutout * height / 2  # [N, H]
        hidden_columns = (columns - right[:, 0] * width).abs() < self.cutout * width / 2
        hidden = hidden_rows[:, None, :, None] & hidden_columns[:, None, None, :]
        return images.masked_fill(hidden, 0.0)


class InstanceNoise(Augment):
    """Gaussian noise on every pixel, so that the two distributions overlap (Sønderby et al. 2017; Arjovsky and
    Bottou 2017)."""

    name: Literal["instance_noise"] = "instance_noise"
    sigma: float = Field(0.1, gt=0)
    """Standard deviation, for images in [-1, 1]."""

    def bits(self, shape: Sequence[int]) -> int:
        return math.prod(shape)

    def __call__(self, images: Tensor, bits: Tensor, state: State = NOTHING) -> Tensor:
        """images [N, C, H, W] in [-1, 1], bits int16 [N, C * H * W] -> [N, C, H, W] (may leave [-1, 1])."""
        return images + self.sigma * normal(bits, images.dtype).view(images.shape)


def _shifted(u: Tensor, length: int, most: float) -> Tensor:
    reach = round(most * length)
    shift = (u * (2 * reach + 1)).floor().long() - reach
    return torch.arange(length, device=u.device) - shift[:, None]
