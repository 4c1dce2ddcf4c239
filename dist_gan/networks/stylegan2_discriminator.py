"""The discriminator of StyleGAN2. See `dist_gan.networks.stylegan2`."""

import itertools
import math
from collections.abc import Sequence

from torch import Tensor, nn

from dist_gan.networks.base import Discriminator
from dist_gan.networks.layers import channels_last
from dist_gan.networks.minibatch_std import MinibatchStd
from dist_gan.networks.resampling import fir_downsample
from dist_gan.networks.stylegan2_layers import (
    Architecture,
    EqualizedConv,
    EqualizedLinear,
    Map,
    MappingNetwork,
    at_precision,
)
from dist_gan.shapes import DataShape


class _Block(nn.Module):
    """The layers of one size: two convolutions, the second to half the size; and what reads the image."""

    def __init__(
        self, own: Map, below: Map, colors: int, architecture: Architecture, *, clamp: float, first: bool
    ) -> None:
        super().__init__()
        self.mixed = own.mixed
        reads = first or architecture == "skip"
        self.from_image = EqualizedConv(colors, own.channels, 1, clamp=clamp) if reads else None
        self.first = EqualizedConv(own.channels, own.channels, 3, clamp=clamp)
        self.second = EqualizedConv(own.channels, below.channels, 3, halves=own.side, clamp=clamp)
        self.shortcut = (
            EqualizedConv(own.channels, below.channels, 1, active=False, halves=own.side)
            if architecture == "resnet"
            else None
        )
        self.downsample = fir_downsample((own.side, own.side)) if architecture == "skip" else None

    def forward(self, x: Tensor | None, image: Tensor) -> tuple[Tensor, Tensor]:
        """The map of this size (None at the first) and the image -> both at half the size (without `downsample`, the
        image as it is, which nothing reads again)."""
        with at_precision(image, mixed=self.mixed):
            if self.from_image is not None:
                seen = self.from_image(image)
                x = seen if x is None else x.to(seen.dtype) + seen
            assert x is not None
            if not self.mixed:
                x = x.to(image.dtype)
            if self.shortcut is None:
                x = self.second(self.first(x))
            else:
                gain = 0.5**0.5
                x = self.shortcut(x, gain) + self.second(self.first(x), gain)
        with at_precision(image, mixed=False):
            return x, image if self.downsample is None else self.downsample(image)


class StyleGAN2Discriminator(Discriminator):
    """The generator in reverse, with the minibatch standard deviation beside the last map.

    With classes: <features, style of the class> / sqrt(their number), as a projection (Miyato and Koyama 2018).
    """

    def __init__(
        self,
        shape: DataShape,
        maps: Sequence[Map],
        architecture: Architecture,
        *,
        group: int,
        class_layers: int,
        class_rate: float,
        clamp: float,
    ) -> None:
        """
        Args:
            shape: of images; without classes it ignores conditions.
            maps: from the smallest to the image's size.
            architecture: how the image is read.
            group: over how many consecutive samples the standard deviation is taken.
            class_layers: between a class and its style.
            class_rate: factor of their learning rate.
            clamp: largest magnitude in any map; 0 is off.
        """
        super().__init__()
        colors, last = shape.image.channels, maps[0]
        self.blocks = nn.ModuleList(
            _Block(own, below, colors, architecture, clamp=clamp, first=own is maps[-1])
            for below, own in reversed(list(itertools.pairwise(maps)))
        )
        self.from_image = EqualizedConv(colors, last.channels, 1) if architecture == "skip" else None
        self.minibatch_std = MinibatchStd(group)
        self.convolution = EqualizedConv(last.channels + 1, last.channels, 3, clamp=clamp)
        self.features = EqualizedLinear(last.channels * last.side**2, last.channels, active=True)
        self.output = EqualizedLinear(last.channels, last.channels if shape.classes else 1)
        self.class_style = (
            MappingNetwork(0, shape.classes, last.channels, class_layers, class_rate) if shape.classes else None
        )

    def logits(self, images: Tensor, condition: Tensor | None, noise: Tensor | None) -> Tensor:
        """[N, C, H, W] -> [N]."""
        images = channels_last(images)
        x = None
        for block in self.blocks:
            x, images = block(x, images)
        assert x is not None
        with at_precision(images, mixed=False):
            x = x.to(images.dtype)
            if self.from_image is not None:
                x = x + self.from_image(images)
            x = self.convolution(self.minibatch_std(x))
            x = self.output(self.features(x.flatten(1)))
            if self.class_style is None:
                return x.squeeze(1)
            return (x * self.class_style(None, condition)).sum(1) / math.sqrt(x.shape[1])
