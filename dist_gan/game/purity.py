"""A guard of the promise: in the first update of every start, each layer's forward is watched.

A forward is a pure function of weights, buffers and its arguments; it draws nothing and moves nothing. A layer that
draws from a global random state makes another model on two processes, or after a resume. One that moves a buffer makes
a model that depends on how a batch is split. Neither can be seen in a loss, so both are looked for.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dist_gan.errors import ConfigError
from dist_gan.networks.base import Networks

INSTEAD = {
    "Dropout": "read the mask from `noise` (dist_gan.randomness.keep; see dist_gan/networks/mlp.py)",
    "BatchNorm": "use dist_gan.networks.layers.GroupBatchNorm2d",
    "SpectralNorm": "use dist_gan.networks.layers.SpectralNorm",
}


class PurityGuard:
    """Watches every layer of both networks."""

    def __init__(self, networks: Networks) -> None:
        self.layers = {
            f"{player}.{name}" if name else player: layer
            for player, network in zip("GD", networks, strict=True)
            for name, layer in network.named_modules()
        }

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Inside, a layer that draws or moves something raises ConfigError, with its name and what to do instead."""
        before: dict[nn.Module, Any] = {}
        names = {layer: name for name, layer in self.layers.items()}

        def note(layer: nn.Module, _: Any) -> None:
            before[layer] = (_random_states(), _buffers(layer))

        def compare(layer: nn.Module, *_: Any) -> None:
            states, buffers = before.pop(layer)
            self._compare(names[layer], layer, states, buffers)

        handles = []
        for layer in self.layers.values():
            handles.append(layer.register_forward_pre_hook(note))
            # First among the hooks after forward; inner layers before outer ones, so the innermost is named.
            handles.append(layer.register_forward_hook(compare))
        everything = (_random_states(), {name: _buffers(layer) for name, layer in self.layers.items()})
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
        states, buffers = everything
        for name in _changed(states, _random_states()):
            raise ConfigError(
                f"networks: an update drew random numbers from {name}'s global state, outside of any layer's forward. "
                "Draw from the bits that come as arguments: else the model depends on the number of processes"
            )
        for name, layer in self.layers.items():
            if not hasattr(layer, "after_move"):
                self._compare(name, layer, _random_states(), buffers[name])

    def _compare(self, name: str, layer: nn.Module, states: Any, buffers: dict[str, Tensor]) -> None:
        kind = type(layer).__name__
        hint = next((text for sign, text in INSTEAD.items() if sign.lower() in kind.lower()), "")
        rule = "A forward must be a pure function of weights, buffers and arguments, else the model depends on"
        if drawn := _changed(states, _random_states()):
            raise ConfigError(
                f"networks: {name} ({kind}) draws random numbers from {drawn[0]}'s global state in its forward (or "
                f"another thread of this process does, meanwhile). {rule} the number of processes and on resumes. "
                f"Instead, {hint or 'draw from the bits that come as `noise`'}"
            )
        for buffer, value in _buffers(layer).items():
            if not torch.equal(value, buffers[buffer]):
                raise ConfigError(
                    f"networks: {name} ({kind}) moves its buffer `{buffer}` in its forward. {rule} how a batch is "
                    f"split into microbatches. Instead, {hint or 'move it in `after_move`'}"
                )


def _random_states() -> dict[str, Any]:
    states: dict[str, Any] = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states["torch.cuda"] = torch.cuda.get_rng_state()
    numpy: Any = np.random.get_state()  # the global one is what is watched
    states["numpy"] = (numpy[1].tobytes(), *numpy[2:])
    states["random"] = random.getstate()
    return states


def _changed(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return [
        name
        for name, state in before.items()
        if (not torch.equal(state, now[name]) if isinstance(state, Tensor) else state != now[name])
    ]


def _buffers(layer: nn.Module) -> dict[str, Tensor]:
    """Copies of a layer's own buffers."""
    return {name: buffer.clone() for name, buffer in layer.named_buffers(recurse=False)}
