"""Buffers that are measured from fixed latents when they are needed: batch statistics, the mean style."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from dist_gan.networks.base import Generator, Measured


@torch.no_grad()
def measure(generator: Generator, latents: Tensor, condition: Tensor | None = None) -> dict[str, Tensor]:
    """The measured buffers that a generator has on `latents`: {buffer's name: value}; empty where it has none.

    A function of the weights and the latents alone: hence equal on all ranks, and right for averaged weights. Nothing
    of the generator is changed, and it is left in eval mode.

    Args:
        generator: on the device of the latents.
        latents: [N, Z], N a multiple of every batch statistic's group.
        condition: int64 [N], or None.
    """
    layers: dict[str, Any] = {name: layer for name, layer in generator.named_modules() if isinstance(layer, Measured)}
    if not layers:
        return {}
    sums: dict[nn.Module, Tensor] = {}

    def gather(layer: Any, inputs: tuple[Tensor, ...]) -> None:
        own = layer.gather(inputs[0]).cpu()
        sums[layer] = sums.get(layer, torch.zeros_like(own)) + own

    handles = [layer.register_forward_pre_hook(gather) for layer in layers.values()]
    each = math.lcm(*(layer.group for layer in layers.values()))
    generator.train()
    try:
        for start in range(0, len(latents), each):
            part = slice(start, start + each)
            generator.measure(latents[part], None if condition is None else condition[part])
    finally:
        generator.eval()
        for handle in handles:
            handle.remove()
    return {
        f"{name}.{buffer}": value
        for name, layer in layers.items()
        for buffer, value in layer.measured(sums[layer] / len(latents)).items()
    }
