"""The generator of StyleGAN2. See `dist_gan.networks.stylegan2`."""

import copy
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from dist_gan.networks.base import Generator
from dist_gan.networks.resampling import fir_upsample
from dist_gan.networks.stylegan2_layers import (
    Architecture,
    EqualizedConv,
    Map,
    MappingNetwork,
    MeanStyle,
    StyledConv,
    ToImage,
    at_precision,
)
from dist_gan.randomness import normal, uniform
from dist_gan.shapes import DataShape


class _Block(nn.Module):
    """The layers of one size: one convolution at the first, else two; and what makes an image of them."""

    def __init__(
        self,
        below: Map | None,
        own: Map,
        style: int,
        colors: int,
        architecture: Architecture,
        *,
        clamp: float,
        makes_image: bool,
    ) -> None:
        super().__init__()
        self.mixed = own.mixed
        inputs = [own.channels] if below is None else [below.channels, own.channels]
        self.constant = nn.Parameter(torch.empty(own.channels, own.side, own.side)) if below is None else None
        self.convolutions = nn.ModuleList(
            StyledConv(n, own.channels, style, own.side, up=len(inputs) > i + 1, clamp=clamp)
            for i, n in enumerate(inputs)
        )
        self.to_image = ToImage(own.channels, colors, style, clamp=clamp) if makes_image else None
        self.upsample = self.shortcut = None
        if below is not None:
            self.upsample = fir_upsample((below.side, below.side))
            if architecture == "resnet":
                self.shortcut = EqualizedConv(below.channels, own.channels, 1, active=False, doubles=below.side)

    def forward(
        self, x: Tensor | None, image: Tensor | None, styles: Tensor, noises: Sequence[Tensor | None]
    ) -> tuple[Tensor, Tensor | None]:
        """The map and the image of half the size (None at the first), styles [N, l, W], noise -> the same, doubled."""
        with at_precision(styles, mixed=self.mixed):
            if self.constant is not None:
                x = self.constant.expand(styles.shape[0], -1, -1, -1)  # len() would fix it in an export
            assert x is not None
            if not self.mixed:
                x = x.to(styles.dtype)
            gain = 1.0 if self.shortcut is None else 0.5**0.5
            beside = None if self.shortcut is None else self.shortcut(x, gain)
            gains = [1.0] * (len(self.convolutions) - 1) + [gain]
            for i, convolution in enumerate(self.convolutions):
                x = convolution(x, styles[:, i], noises[i], gains[i])
            if beside is not None:
                x = x + beside
            added = None if self.to_image is None else self.to_image(x, styles[:, len(noises)])
        with at_precision(styles, mixed=False):  # the image is a sum over all sizes
            if image is not None:
                assert self.upsample is not None
                image = self.upsample(image)
            if added is not None:
                image = added.to(styles.dtype) if image is None else image + added.to(styles.dtype)
        return x, image


class StyleGAN2Generator(Generator):
    """Latents become a style, and each layer of a stack that begins at a learned 4x4 map is scaled by it; no tanh.

    With noise bits, each layer adds its own noise to each image, and an image may take the styles of two latents
    (style mixing; for each image for itself, where NVlabs' code mixes a whole batch or none). Without, the noise is a
    buffer.
    """

    styled: ClassVar[bool] = True
    bounded: ClassVar[bool] = False

    def __init__(
        self,
        shape: DataShape,
        maps: Sequence[Map],
        architecture: Architecture,
        *,
        latent: int,
        style: int,
        mapping_layers: int,
        mapping_rate: float,
        style_mixing: float,
        clamp: float,
    ) -> None:
        """
        Args:
            shape: of images; without classes it ignores conditions.
            maps: from the smallest to the image's size.
            architecture: how the image is made.
            latent: Z.
            style: W.
            mapping_layers: between a latent and its style.
            mapping_rate: factor of their learning rate.
            style_mixing: probability that an image takes the styles of two latents.
            clamp: largest magnitude in any map; 0 is off.
        """
        super().__init__(latent, shape.image)
        self.classes = shape.classes
        self.style_mixing = style_mixing
        self.mapping = MappingNetwork(latent, shape.classes, style, mapping_layers, mapping_rate)
        self.mean_style = MeanStyle(style)
        self.blocks = nn.ModuleList(
            _Block(
                below,
                own,
                style,
                shape.image.channels,
                architecture,
                clamp=clamp,
                makes_image=own is maps[-1] or architecture == "skip",
            )
            for below, own in zip([None, *maps], maps, strict=False)
        )
        self.sides = [own.side for i, own in enumerate(maps) for _ in range(2 if i else 1)]
        """Of each convolution's map."""
        self.styles = len(self.sides) + 1
        """How many an image takes: one for each convolution and one for the last image."""
        self.map_bits = sum(side**2 for side in self.sides)
        self.noise_bits = self.map_bits + (2 + latent if style_mixing else 0)

    def forward(  # type: ignore[override]
        self, latents: Tensor, condition: Tensor | None = None, noise: Tensor | None = None, with_styles: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """[N, Z] -> [N, C, H, W], mostly in [-1, 1]; and the styles [N, L, W] too, if asked."""
        style = self.mean_style(self.mapping(latents, condition))
        styles = style[:, None].expand(-1, self.styles, -1)
        if noise is not None and self.style_mixing:
            styles = self._mixed(styles, condition, noise[:, self.map_bits :])
        images = self.synthesis(styles, self._noises(noise, styles.dtype))
        return (images, styles) if with_styles else images

    def measure(self, latents: Tensor, condition: Tensor | None) -> None:
        self.mean_style(self.mapping(latents, condition))

    def truncated(self, psi: float) -> "StyleGAN2Generator":
        made = copy.deepcopy(self)
        made.mean_style.psi = psi
        return made

    def _mixed(self, styles: Tensor, condition: Tensor | None, bits: Tensor) -> Tensor:
        """From a random layer on, the styles of other latents, with the probability `style_mixing`."""
        drawn = uniform(bits[:, :2], styles.dtype)
        first = 1 + (drawn[:, 0] * (self.styles - 1)).floor()
        first = torch.where(drawn[:, 1] < self.style_mixing, first, self.styles)
        other = self.mean_style(self.mapping(normal(bits[:, 2:], styles.dtype), condition))
        kept = torch.arange(self.styles, device=styles.device) < first[:, None]
        return torch.where(kept[:, :, None], styles, other[:, None])

    def synthesis(self, styles: Tensor, noises: Sequence[Tensor | None]) -> Tensor:
        """Images of styles [N, L, W]; normal noise [N, 1, side, side] for each convolution, None where it is the
        buffer."""
        x = image = None
        at = 0
        for block in self.blocks:
            assert isinstance(block, _Block)
            count = len(block.convolutions)
            x, image = block(x, image, styles[:, at : at + count + 1], noises[at : at + count])
            at += count
        assert image is not None
        return image

    def _noises(self, noise: Tensor | None, dtype: torch.dtype) -> list[Tensor | None]:
        if noise is None:
            return [None] * len(self.sides)
        parts = noise[:, : self.map_bits].split([side**2 for side in self.sides], dim=1)
        return [normal(bits, dtype).view(-1, 1, side, side) for bits, side in zip(parts, self.sides, strict=True)]
