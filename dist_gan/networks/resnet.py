"""Residual blocks of SNGAN's networks, and the layers that they need.

A 1x1 convolution and a mean (or an interpolation) of pixels may change places, and a 3x3 convolution with a mean of 2x2
pixels after it is one of 4x4 with a stride. The blocks use the cheaper order, which differs only in rounding.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dist_gan.networks.layers import GroupBatchNorm2d, SpectralNorm
from dist_gan.networks.resampling import BLUR, Resample, fir_upsample

Interpolation = Literal["bilinear", "nearest"]
TAPS: dict[Interpolation, tuple[float, ...]] = {"bilinear": BLUR, "nearest": (1.0, 1.0)}


class PooledConv2d(nn.Conv2d):
    """A 3x3 convolution, then the mean of each 2x2 pixels: together a 4x4 convolution with stride 2."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__(channels, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, outputs, H / 2, W / 2]."""
        # Not avg_pool2d with padding: on a GPU its gradient is wrong where the channels are last (pytorch#188344).
        w = F.pad(self.weight, (1, 1, 1, 1))
        w = w[..., :-1] + w[..., 1:]
        w = w[..., :-1, :] + w[..., 1:, :]
        return F.conv2d(x, w / 4, self.bias, 2, 1)


class ClassBatchNorm2d(nn.Module):
    """Batch normalization whose scale and shift are those of each sample's class (Dumoulin et al. 2017; for GANs:
    Miyato and Koyama 2018)."""

    def __init__(self, channels: int, group: int, classes: int) -> None:
        super().__init__()
        self.norm = GroupBatchNorm2d(channels, group, affine=False)
        self.scale = nn.Parameter(torch.ones(classes, channels))
        self.shift = nn.Parameter(torch.zeros(classes, channels))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x [N, C, H, W], class labels int64 [N] -> [N, C, H, W]."""
        x = self.norm(x)
        scale, shift = (F.embedding(condition, of).to(x.dtype)[:, :, None, None] for of in (self.scale, self.shift))
        return torch.addcmul(shift, x, scale)


class GeneratorBlock(nn.Module):
    """Norm, ReLU, x2, 3x3, norm, ReLU, 3x3; beside it x2, 1x1."""

    def __init__(self, channels: int, outputs: int, size: int, mode: Interpolation, group: int, classes: int) -> None:
        """
        Args:
            channels: of what comes in.
            outputs: channels of what goes out.
            size: height and width of what comes in.
            mode: how pixels are interpolated.
            group: of batch normalization.
            classes: each with its own scales and shifts; 0: one for all.
        """
        super().__init__()
        self.classes = classes
        self.norm1 = self._norm(channels, group)
        self.conv1 = nn.Conv2d(channels, outputs, 3, padding=1)
        self.norm2 = self._norm(outputs, group)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(channels, outputs, 1)
        self.larger = doubling(size, mode)

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """[N, channels, S, S] -> [N, outputs, 2S, 2S]."""
        given = (condition,) if self.classes else ()
        h = F.relu(self.norm1(x, *given), inplace=True)
        h = self.conv1(self.larger(h))
        h = F.relu(self.norm2(h, *given), inplace=True)
        return self.conv2(h) + self.larger(self.shortcut(x))

    def _norm(self, channels: int, group: int) -> nn.Module:
        return ClassBatchNorm2d(channels, group, self.classes) if self.classes else GroupBatchNorm2d(channels, group)


class DiscriminatorBlock(nn.Module):
    """ReLU, 3x3, ReLU, 3x3, and where `down`, the mean of each 2x2 pixels; beside it 1x1 and the same mean, or nothing
    where the shape stays. All convolutions have spectral normalization.

    What goes beside them has passed the first ReLU too. In the papers' code it has not; in mimicry's, whose results are
    the ones that are quoted, the ReLU works in place. The first block of a network (`first`) begins with a convolution.
    """

    def __init__(self, channels: int, outputs: int, *, down: bool, first: bool = False) -> None:
        super().__init__()
        hidden = outputs if first else channels
        self.down, self.first = down, first
        self.conv1 = SpectralNorm(nn.Conv2d(channels, hidden, 3, padding=1))
        self.conv2 = SpectralNorm(PooledConv2d(hidden, outputs) if down else nn.Conv2d(hidden, outputs, 3, padding=1))
        changes = down or channels != outputs
        self.shortcut = SpectralNorm(nn.Conv2d(channels, outputs, 1)) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels, H, W] -> [N, outputs, H, W], half of H and W where `down`."""
        x = x if self.first else F.relu(x)
        h = self.conv2(F.relu(self.conv1(x), inplace=True))
        x = F.avg_pool2d(x, 2) if self.down else x
        return h + (x if self.shortcut is None else self.shortcut(x))


def doubling(size: int, mode: Interpolation) -> Resample:
    """[N, C, S, S] -> [N, C, 2S, 2S] as torch's interpolation, without `align_corners`: `nearest` repeats each pixel;
    `bilinear` takes three quarters of the nearest one, and the border is repeated.

    torch's own bilinear interpolation has no deterministic gradient on a GPU.
    """
    resample = fir_upsample((size, size), TAPS[mode])
    for matrix in (resample.rows, resample.columns):
        for end in (0, -1):  # what the filter would take from beyond the border comes from the pixel there
            matrix[end, end] += 1 - matrix[end].sum()
    return resample
