"""Buffers that are measured from fixed latents when they are needed: batch statistics, the mean style."""

import math
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from dist_gan.networks.base import Generator, Measured


class _AllSeen(Exception):
    """All layers that are measured have seen their inputs: as often as in the first forward."""


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
    calls, in_a_forward = 0, 0

    def gather(layer: Any, inputs: tuple[Tensor, ...]) -> None:
        nonlocal calls
        own = layer.gather(inputs[0]).cpu()
        sums[layer] = sums.get(layer, torch.zeros_like(own)) + own
        calls += 1
        if calls == in_a_forward:
            raise _AllSeen

    handles = [layer.register_forward_pre_hook(gather) for layer in layers.values()]
    each = math.lcm(*(layer.group for layer in layers.values()))
    generator.train()
    try:
        for start in range(0, len(latents), each):
            part = slice(start, start + each)
            calls = 0
            with suppress(_AllSeen):  # what comes after the last of these layers is not needed
                generator.measure(latents[part], None if condition is None else condition[part])
            in_a_forward = calls
    finally:
        generator.eval()
        for handle in handles:
            handle.remove()
    return {
        f"{name}.{buffer}": value
        for name, layer in layers.items()
        for buffer, value in layer.measured(sums[layer] / len(latents)).items()
    }
