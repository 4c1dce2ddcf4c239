"""Layers that do not move (Mo et al. 2020, "Freeze the discriminator: a simple baseline for fine-tuning GANs")."""

from typing import Protocol, runtime_checkable

from torch import nn


@runtime_checkable
class HasOrder(Protocol):
    """A network that states which of its layers come first."""

    def layers_in_order(self) -> list[nn.Module]:
        """Its layers from the images to the logits. Together they hold all of its parameters, each once."""


def layers_in_order(network: nn.Module) -> list[nn.Module]:
    """Its layers from the first to the last: as it states in `layers_in_order`, else the modules that hold parameters
    themselves, in the order in which they were made. A normalization with weights counts as a layer."""
    if isinstance(network, HasOrder):
        return network.layers_in_order()
    return [layer for layer in network.modules() if next(layer.parameters(recurse=False), None) is not None]


def freeze_first(network: nn.Module, count: int) -> None:
    """The first `count` layers never move: their parameters require no gradient, and a player leaves them alone."""
    for layer in layers_in_order(network)[:count]:
        layer.requires_grad_(False)
