"""Initial weights as a function of the seed."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dist_gan.randomness import BITS_PER_BLOCK, Purpose, draw, normal, uniform

Rule = Callable[[str, Tensor, nn.Module], tuple[str, float, float]]


@torch.no_grad()
def initialize(network: nn.Module, seed: int, purpose: Purpose, rule: Rule) -> None:
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
