"""Initial weights as a function of the seed."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from dist_gan.randomness import BITS_PER_BLOCK, Purpose, draw, normal, uniform


@runtime_checkable
class DrawsState(Protocol):
    """A layer whose buffers have random initial values."""

    state_numbers: int
    """How many numbers it needs."""

    def set_state(self, values: Tensor) -> None:
        """values [state_numbers], standard normal. Called once the weights have their initial values."""


Rule = Callable[[str, Tensor, nn.Module], tuple[str, float, float]]


@torch.no_grad()
def initialize(network: nn.Module, seed: int, purpose: Purpose, rule: Rule) -> None:
    """Fill every parameter from (seed, purpose, its place in the network), 8 numbers from each ordinal; then
    the buffers of layers with random initial values.

    Args:
        network: what is filled, in place.
        seed: the run's seed.
        purpose: which network it is.
        rule: (parameter's name, parameter, its layer) -> ("normal", mean, std), ("uniform", low, high) or
            ("orthogonal", 0, gain).
    """
    ordinal = 0
    for layer in network.modules():
        for name, parameter in layer.named_parameters(recurse=False):
            kind, a, b = rule(name, parameter, layer)
            ordinals = range(ordinal, ordinal - (-parameter.numel() // BITS_PER_BLOCK))
            drawn = draw(seed, {purpose: BITS_PER_BLOCK}, ordinals)[purpose]
            bits = drawn.flatten()[: parameter.numel()]
            if kind == "orthogonal":
                values = a + b * orthogonal(normal(bits, torch.float64).view(parameter.shape))
            else:
                values = a + b * normal(bits) if kind == "normal" else a + (b - a) * uniform(bits)
            parameter.copy_(values.view(parameter.shape))
            ordinal = ordinals.stop
    ordinal = int(purpose) << 32  # the two networks draw from separate ordinals
    for layer in network.modules():
        if isinstance(layer, DrawsState):
            ordinals = range(ordinal, ordinal - (-layer.state_numbers // BITS_PER_BLOCK))
            drawn = draw(seed, {Purpose.LAYER_STATE: BITS_PER_BLOCK}, ordinals)[Purpose.LAYER_STATE]
            layer.set_state(normal(drawn.flatten()[: layer.state_numbers]))
            ordinal = ordinals.stop


def orthogonal(values: Tensor) -> Tensor:
    """A matrix [rows, everything else] whose rows, or columns where these are fewer, are orthonormal, from standard
    normal numbers of its shape (Saxe et al. 2014; uniformly distributed, Mezzadri 2007).

    In one thread, since the bits of a product depend on the number of threads; and in float64, rounded at the end, so
    that nearly all of them are the same on another CPU.
    """
    matrix = values.flatten(1).double()
    is_wide = matrix.shape[0] < matrix.shape[1]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        q, r = torch.linalg.qr(matrix.t() if is_wide else matrix)
    finally:
        torch.set_num_threads(threads)
    q = q * torch.where(r.diagonal() < 0, -1.0, 1.0)
    return (q.t() if is_wide else q).reshape(values.shape).to(values.dtype)
