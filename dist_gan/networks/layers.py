"""What networks are made of: base classes with the signatures that objectives rely on, batch normalisation over fixed
groups of samples, and initial weights as a function of the seed."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dist_gan.data.source import ImageShape
from dist_gan.randomness import BITS_PER_BLOCK, Purpose, draw, normal, uniform


class Generator(nn.Module, ABC):
    """latents [N, Z], noise int16 [N, noise_bits] or None -> images [N, C, H, W] in [-1, 1]."""

    noise_bits: int = 0
    """How many 16-bit random numbers one sample of a training forward needs."""

    def __init__(self, latent: int, shape: ImageShape) -> None:
        super().__init__()
        self.latent = latent
        self.shape = shape

    @abstractmethod
    def forward(self, latents: Tensor, noise: Tensor | None = None) -> Tensor:
        """The images of `latents`; without noise nothing is random."""


class Discriminator(nn.Module, ABC):
    """images [N, C, H, W], noise int16 [N, noise_bits] or None -> logits [N], any real number."""

    noise_bits: int = 0
    """How many 16-bit random numbers one sample of a training forward needs."""

    def forward(self, images: Tensor, noise: Tensor | None = None, full_precision: bool = False) -> Tensor:
        """The logits of `images`. `full_precision` leaves autocast, for penalties; only inside forward does that have
        an effect, because Accelerate's own autocast wraps forward."""
        if full_precision:
            with torch.autocast(images.device.type, enabled=False):
                return self.logits(images, noise)
        return self.logits(images, noise)

    @abstractmethod
    def logits(self, images: Tensor, noise: Tensor | None) -> Tensor:
        """What `forward` returns."""


class Networks(NamedTuple):
    """The two players' networks."""

    generator: Generator
    discriminator: Discriminator


class GroupBatchNorm2d(nn.Module):
    """Batch normalisation whose batch is a fixed group of consecutive samples (Ioffe and Szegedy 2015; groups as in
    Hoffer et al. 2017, "ghost" batches).

    In training each `group` samples are normalised by their own statistics, so the result does not depend on how a
    global batch is cut into processes and pieces, as long as each holds whole groups; nothing is communicated. The
    running statistics do not move in training. They are measured when they are needed, by `measure_statistics`.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, group: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.group = group
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> the same; in training N is a multiple of `group`."""
        if not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        assert len(x) % self.group == 0, f"{len(x)} samples are not whole groups of {self.group}"
        normalised = [
            F.batch_norm(part, None, None, self.weight, self.bias, True, 0.0, self.eps) for part in x.split(self.group)
        ]
        return normalised[0] if len(normalised) == 1 else torch.cat(normalised)


def channels_last(images: Tensor) -> Tensor:
    """[N, C, H, W] -> the same with the channels last in memory, which convolutions then hand on."""
    if images.shape[1] == 1:  # both layouts are one; the strides say which is meant, and torch would not change them
        return images.contiguous().squeeze(1).unsqueeze(3).permute(0, 3, 1, 2)
    return images.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def measure_statistics(generator: Generator, latents: Tensor) -> None:
    """Set the running statistics of a generator's batch normalisation to those of `latents` [N, Z], N a multiple of
    the group, and leave it in eval mode ("standing statistics", Brock et al. 2019, section 4.3).

    A function of the weights and the latents alone: hence equal on all ranks, and right for averaged weights.
    """
    layers = [layer for layer in generator.modules() if isinstance(layer, GroupBatchNorm2d)]
    generator.train()
    if layers:
        sums = {layer: torch.zeros(2, len(layer.weight), dtype=torch.float64) for layer in layers}

        def gather(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            assert isinstance(layer, GroupBatchNorm2d)
            var, mean = torch.var_mean(inputs[0].double(), (0, 2, 3), correction=0)
            sums[layer] += len(inputs[0]) * torch.stack([mean, var + mean.square()]).cpu()

        handles = [layer.register_forward_pre_hook(gather) for layer in layers]
        for group in latents.split(layers[0].group):
            generator(group)
        for handle in handles:
            handle.remove()
        for layer in layers:
            mean, square = sums[layer] / len(latents)
            layer.running_mean.copy_(mean)
            layer.running_var.copy_(square - mean.square())
    generator.eval()


Rule = Callable[[str, Tensor, nn.Module], tuple[str, float, float]]


@torch.no_grad()
def initialise(network: nn.Module, seed: int, purpose: Purpose, rule: Rule) -> None:
    """Fill every parameter from (seed, purpose, its place in the network): 8 numbers of an ordinal after the other.

    Args:
        network: what is filled, in place.
        seed: the run's seed.
        purpose: which network it is.
        rule: (parameter's name, parameter, its layer) -> ("normal", mean, std) or ("uniform", low, high).
    """
    ordinal = 0
    for layer in network.modules():
        for name, parameter in layer.named_parameters(recurse=False):
            kind, a, b = rule(name, parameter, layer)
            ordinals = range(ordinal, ordinal - (-parameter.numel() // BITS_PER_BLOCK))
            drawn = draw(seed, {purpose: BITS_PER_BLOCK}, ordinals)[purpose]
            bits = drawn.flatten()[: parameter.numel()]
            values = a + b * normal(bits) if kind == "normal" else a + (b - a) * uniform(bits)
            parameter.copy_(values.view(parameter.shape))
            ordinal = ordinals.stop
