"""A player: a network, how its gradients are reduced, and its optimizer. It moves alone."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from dist_gan.distributed.processes import Processes
from dist_gan.distributed.reduction import Reduction
from dist_gan.distributed.shards import Owners, Shards
from dist_gan.networks.base import Generator, Moves
from dist_gan.optim.optimizers import Optimizer

N = TypeVar("N", bound=nn.Module)


class Player(Generic[N]):
    """One of the two. Outside its turn, its parameters require no gradient and its wrapper is not called."""

    def __init__(
        self,
        network: N,
        optimizer: Optimizer,
        processes: Processes,
        reduction: Reduction,
        numbers: Mapping[str, Tensor],
        *,
        owners: Owners | None = None,
    ) -> None:
        """`numbers`: a [] tensor on the device for each of `optimizer.numbers`, refilled before each turn. `owners`:
        those of which each moves its part of the parameters; None: each process moves all."""
        self.network = network
        """The network without a wrapper, for the other player's turn, sampling and checkpoints."""
        self.reduction = reduction
        self.recipe = optimizer
        self.processes = processes
        moving = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
        self.parameters: list[Tensor] = list(moving.values())
        """Those that move: all but what was frozen before."""
        whose = "generator" if isinstance(network, Generator) else "discriminator"
        self.shards = Shards(owners, self.parameters) if owners else None
        own = {list(moving)[place] for place in self.shards.own} if self.shards else None
        self.optimizer = optimizer.assemble(moving, numbers, f"{whose}_optimizer", own)
        self.gradient_norm = torch.zeros((), device=processes.device, dtype=processes.dtype)
        """[]: of the last move, before clipping. The same tensor throughout the run."""
        self.skipped = torch.zeros((), device=processes.device, dtype=processes.dtype)
        """[]: 1 where the last move was skipped, because a gradient was not finite; else 0. The same tensor too."""
        self.rehearsing = False
        """Whether its turns end without a move."""
        self.moves = 0
        """How many moves it has begun since it was made."""
        self._layers_that_move = [
            layer for layer in network.modules() if isinstance(layer, Moves) and not _frozen(layer)
        ]
        self.rest()

    def begin(self) -> None:
        """From now on its parameters require gradients, and have none."""
        self.reduction.begin()
        for parameter in self.parameters:
            parameter.grad = None
            parameter.requires_grad_(True)

    @torch.no_grad()
    def move(self) -> None:
        """One step along the gradients, which are the global ones."""
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        assert len(gradients) == len(self.parameters), "every parameter takes part in every turn"
        scaler = self.processes.scaler
        if scaler is not None:
            scaler.unscale_(self.optimizer)
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        if self.recipe.clip:
            factor = (self.recipe.clip / (norm + 1e-6)).clamp(max=1)
            torch._foreach_mul_(gradients, factor)
        # Gradients are equal on all ranks, so all decide alike. They decide on the device: nothing is read back.
        self.gradient_norm.copy_(norm)
        self.skipped.copy_(1 - norm.isfinite().to(norm.dtype))
        self.recipe.step(self.optimizer, self.skipped)  # not the scaler's: one rule decides what is skipped
        if scaler is not None:
            scaler.update()

    def gather(self) -> None:
        """After the move: every process has all parameters."""
        if self.shards:
            self.shards.gather()

    def settle(self) -> None:
        """What follows the weights after a move."""
        for layer in self._layers_that_move:
            layer.after_move()

    def tensors(self) -> list[Tensor]:
        """All that a turn changes besides the network. What the optimizer keeps is created where it is not there."""
        moved = [p for group in self.optimizer.param_groups for p in group["params"]]
        if not all(self.optimizer.state.get(parameter) for parameter in moved):
            self.begin()
            for parameter in self.parameters:
                parameter.grad = torch.zeros_like(parameter)
            self.recipe.step(self.optimizer, torch.ones_like(self.skipped))
            self.rest()
        kept = [t for own in self.optimizer.state.values() for t in own.values() if isinstance(t, Tensor)]
        return [*kept, *self.reduction.gradients, self.gradient_norm, self.skipped]

    def rest(self) -> None:
        """Its parameters require no gradients, and have none."""
        for parameter in self.parameters:
            parameter.grad = None
            parameter.requires_grad_(False)


def own_move_in(penalties: Iterable[Any], player: str, images: int) -> float:
    """In how many turns of `player` ("D" or "G") a penalty has one move of its own: that which moves most often.
    Infinity where none of them moves alone. images: between two turns of that player."""
    alone = [penalty for penalty in penalties if penalty.of == player and penalty.alone]
    return min((max(1.0, penalty.every / images) for penalty in alone), default=math.inf)


def _frozen(layer: nn.Module) -> bool:
    """Whether it has parameters, and none of them moves."""
    parameters = list(layer.parameters())
    return bool(parameters) and not any(parameter.requires_grad for parameter in parameters)
