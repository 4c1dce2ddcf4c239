"""Layers of StyleGAN2 (Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN").

All weights have an equalized learning rate: they are N(0, 1), and the forward scales them (Karras et al. 2018, section
4.1). The gain of the leaky ReLU, sqrt(2), is multiplied into weights and biases, because max(x, 0.2 x) commutes with a
positive factor: that saves a pass over every map.
"""

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dist_gan.networks.base import BufferRule
from dist_gan.networks.resampling import Resample, fir_downsample, fir_upsample

SLOPE, GAIN = 0.2, 2**0.5
EPS = 1e-8
Architecture = Literal["orig", "skip", "resnet"]


class Map(NamedTuple):
    """The maps of one size, in both networks."""

    side: int
    """Height and width."""
    channels: int
    mixed: bool
    """Whether half precision may be used, under autocast."""


def at_precision(x: Tensor, mixed: bool) -> AbstractContextManager[object]:
    """Outside of autocast, unless `mixed`."""
    return nullcontext() if mixed else torch.autocast(x.device.type, enabled=False)


def normalized(x: Tensor) -> Tensor:
    """[N, K] -> each row with a mean square of 1."""
    return x * (x.square().mean(1, keepdim=True) + EPS).rsqrt()


def blur(side: int, padding: int, gain: float = 1.0) -> Resample:
    """The filter alone, for maps with this side."""
    return Resample((side, side), padding=(padding, padding), gain=gain)


def clamped(x: Tensor, limit: float) -> Tensor:
    """Within [-limit, limit], so that half precision does not overflow; 0: as it is."""
    return x.clamp(-limit, limit) if limit else x


class EqualizedLinear(nn.Linear):
    """A linear layer; with `active` followed by a leaky ReLU."""

    def __init__(
        self, inputs: int, outputs: int, *, active: bool = False, rate: float = 1.0, first_bias: float = 0.0
    ) -> None:
        """
        Args:
            inputs: numbers in.
            outputs: numbers out.
            active: whether a leaky ReLU follows.
            rate: factor of the learning rate: the weights are as many times larger, and scaled down.
            first_bias: the initial bias.
        """
        super().__init__(inputs, outputs)
        self.active = active
        self.rate = rate
        self.first_bias = first_bias

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs] -> [N, outputs]."""
        gain = self.rate * GAIN if self.active else self.rate
        x = F.linear(x * (gain / math.sqrt(self.in_features)), self.weight, self.bias * gain)
        return F.leaky_relu(x, SLOPE) if self.active else x


class EqualizedConv(nn.Conv2d):
    """A convolution without a change of size, or one that halves or doubles it with a FIR filter.

    With `active`, a bias and a leaky ReLU; else neither.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        *,
        active: bool = True,
        halves: int = 0,
        doubles: int = 0,
        clamp: float = 0.0,
    ) -> None:
        """
        Args:
            inputs: channels in.
            outputs: channels out.
            size: of the kernel, 3 or 1.
            active: whether a bias and a leaky ReLU follow.
            halves: the side of maps that it halves; 0: none.
            doubles: the side of maps that it doubles, with a kernel of 1; 0: none.
            clamp: largest magnitude of what comes out; 0 is off.
        """
        wide = bool(halves) and size == 3
        super().__init__(inputs, outputs, size, 2 if wide else 1, 0 if wide else size // 2, bias=active)
        assert not doubles or size == 1
        self.active = active
        self.clamp = clamp
        self.before = None if not halves else blur(halves, 2) if wide else fir_downsample((halves, halves))
        self.after = fir_upsample((doubles, doubles)) if doubles else None

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        """[N, inputs, H, W] -> [N, outputs, H', W'], times `gain`."""
        total = gain * GAIN if self.active else gain
        weight = self.weight * (total / math.sqrt(self.weight[0].numel()))
        bias = None if self.bias is None else self.bias * total
        x = self._conv_forward(x if self.before is None else self.before(x), weight, bias)
        if self.after is not None:
            x = self.after(x)
        return clamped(F.leaky_relu(x, SLOPE), self.clamp * gain) if self.active else x


class MappingNetwork(nn.Module):
    """Latents, the class's embedding beside them, both normalized -> styles.

    Always in full precision.
    """

    def __init__(self, latent: int, classes: int, width: int, layers: int, rate: float) -> None:
        """
        Args:
            latent: Z; 0: classes alone.
            classes: how many; 0: none.
            width: W, of a style, of a class's embedding and of the hidden layers.
            layers: how many.
            rate: factor of their learning rate.
        """
        super().__init__()
        self.classes = classes
        self.embedding = EqualizedLinear(classes, width) if classes else None
        inputs = [latent + (width if classes else 0)] + [width] * (layers - 1)
        self.layers = nn.ModuleList(EqualizedLinear(n, width, active=True, rate=rate) for n in inputs)

    def forward(self, latents: Tensor | None, condition: Tensor | None) -> Tensor:
        """[N, Z] or None, int64 [N] or None -> [N, W]."""
        weight = self.get_parameter("layers.0.weight")
        with torch.autocast(weight.device.type, enabled=False):
            parts = [] if latents is None else [normalized(latents.to(weight.dtype))]
            if self.embedding is not None:
                assert condition is not None, "a conditional network is given classes"
                chosen = condition[:, None] == torch.arange(self.classes, device=weight.device)
                parts.append(normalized(self.embedding(chosen.to(weight.dtype))))
            x = torch.cat(parts, dim=1)
            for layer in self.layers:
                x = layer(x)
        return x


class MeanStyle(nn.Module):
    """Holds the mean style, and pulls styles towards it (Karras et al. 2019, "A style-based generator architecture for
    generative adversarial networks", appendix B: the truncation trick).

    The mean is measured from fixed latents when it is needed, so that it fits the weights as they are. (NVlabs' code
    follows the means of its batches in training.)
    """

    buffer_rules: ClassVar[Mapping[str, BufferRule]] = {"mean": "measure"}
    group = 512
    mean: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.psi = 1.0
        """What is left of a style's distance from the mean."""
        self.register_buffer("mean", torch.zeros(width))

    def forward(self, styles: Tensor) -> Tensor:
        """[N, W] -> [N, W]."""
        return styles if self.psi == 1 else torch.lerp(self.mean, styles, self.psi)

    def gather(self, styles: Tensor) -> Tensor:
        """The sum of `styles` [N, W]: float64 [W]."""
        return styles.double().sum(0)

    def measured(self, means: Tensor) -> dict[str, Tensor]:
        """The buffer from what `gather` gives for a sample on average."""
        return {"mean": means.to(self.mean)}


class StyledConv(nn.Module):
    """A 3x3 convolution whose input channels are scaled by a style, so that its outputs keep their expected variance
    (modulation and demodulation, section 2.2); at twice the size, if asked; then noise, bias, leaky ReLU.

    The maps are scaled before and after one convolution of the whole batch. A convolution of each sample by its own
    weights, in one grouped call, is the same. Measured on a CPU, forward and backward, it takes 3 times as long on
    16x16 maps of 64 channels and 18 times on 8x8 maps of 256; only with few channels on large maps is it as fast.
    """

    noise: Tensor

    def __init__(self, inputs: int, outputs: int, style: int, side: int, *, up: bool = False, clamp: float = 0) -> None:
        """
        Args:
            inputs: channels in.
            outputs: channels out.
            style: W.
            side: height and width of what comes out.
            up: whether what comes in has half of it.
            clamp: largest magnitude of what comes out; 0 is off.
        """
        super().__init__()
        self.style = EqualizedLinear(style, inputs, first_bias=1)
        self.weight = nn.Parameter(torch.empty(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.empty(outputs))
        self.noise_strength = nn.Parameter(torch.empty(()))
        self.register_buffer("noise", torch.zeros(side, side))
        self.state_numbers = side * side
        self.blur = blur(side + 1, 1, gain=4) if up else None
        self.clamp = clamp

    def set_state(self, values: Tensor) -> None:
        """The noise where none is drawn: values [side * side]."""
        self.noise.copy_(values.view_as(self.noise))

    def forward(self, x: Tensor, style: Tensor, noise: Tensor | None, gain: float = 1.0) -> Tensor:
        """[N, inputs, H, W], styles [N, W], normal noise [N, 1, side, side] or None -> [N, outputs, side, side]."""
        total = gain * GAIN
        weight, scale, after = self._scales(style, total)
        x = x * scale.to(x.dtype)
        if self.blur is None:
            x = F.conv2d(x, weight, padding=1)
        else:
            x = self.blur(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2))
        noise = (self.noise if noise is None else noise) * (self.noise_strength * total)
        x = torch.addcmul(noise.to(x.dtype), x, after.to(x.dtype)) + (self.bias * total).to(x.dtype)[:, None, None]
        return clamped(F.leaky_relu(x, SLOPE), self.clamp * gain)

    def _scales(self, style: Tensor, gain: float) -> tuple[Tensor, Tensor, Tensor]:
        """The weight, the factors of the input's channels [N, inputs, 1, 1], and of the output's [N, outputs, 1, 1].

        The norm of a sample's weights is that of the squared style with the squared weights, summed over the kernel:
        they need not be written out for each sample. The weight is scaled down so that half precision does not overflow
        between the two factors; the second one takes that back.
        """
        size = self.weight[0].numel()
        with torch.autocast(style.device.type, enabled=False):
            weight, scale = self.weight / math.sqrt(size), self.style(style)
            norms = F.linear(scale.square(), weight.square().sum((2, 3)))
            after = (norms + EPS / size).rsqrt() * gain
        return weight, scale[:, :, None, None], after[:, :, None, None]


class ToImage(nn.Module):
    """A 1x1 convolution by styles without demodulation, and a bias."""

    def __init__(self, inputs: int, channels: int, style: int, *, clamp: float = 0) -> None:
        super().__init__()
        self.style = EqualizedLinear(style, inputs, first_bias=1)
        self.weight = nn.Parameter(torch.empty(channels, inputs, 1, 1))
        self.bias = nn.Parameter(torch.empty(channels))
        self.clamp = clamp

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """[N, inputs, H, W], styles [N, W] -> [N, channels, H, W]."""
        with torch.autocast(style.device.type, enabled=False):
            scale = self.style(style)[:, :, None, None] / math.sqrt(self.weight.shape[1])
        x = F.conv2d(x * scale.to(x.dtype), self.weight)
        return clamped(x + self.bias.to(x.dtype)[:, None, None], self.clamp)


def first_values(name: str, parameter: Tensor, layer: nn.Module) -> tuple[str, float, float]:
    """The rule of `dist_gan.networks.weights.initialize`: N(0, 1); biases and strengths of noise constant."""
    if name == "bias":
        return "normal", layer.first_bias if isinstance(layer, EqualizedLinear) else 0.0, 0.0
    if name == "noise_strength":
        return "normal", 0.0, 0.0
    return "normal", 0.0, 1 / layer.rate if isinstance(layer, EqualizedLinear) else 1.0
