"""A player: a network, its wrapper, its optimizer. It moves alone."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from dist_gan.distributed.exact_sum import FixedPointSum
from dist_gan.optim.optimizers import Adam
from dist_gan.distributed.processes import Processes

N = TypeVar("N", bound=nn.Module)


class Player(Generic[N]):
    """One of the two. At rest its parameters require no gradient and its wrapper is not called."""

    def __init__(
        self, network: N, optimizer: Adam, processes: Processes, exact_sum: FixedPointSum | None = None
    ) -> None:
        """`exact_sum` reduces in place of DDP."""
        self.network = network
        """Bare: what the other player's turn, sampling and checkpoints use."""
        self.wrapped = processes.wrap(network)
        """What its own turn calls. Never in the other's turn: that would arm DDP's reducer."""
        self.exact_sum = exact_sum
        self.recipe = optimizer
        self.processes = processes
        self.names = [name for name, _ in network.named_parameters()]
        self.parameters: list[Tensor] = list(network.parameters())
        self.optimizer = optimizer.build(self.parameters)
        self.gradient_norm = torch.zeros((), device=processes.device)
        """[]: of the last move, before clipping."""
        self.skipped = torch.zeros((), device=processes.device)
        """[]: 1 where the last move was skipped, because a gradient was not finite; else 0."""
        self.rehearsing = False
        """Whether its turns end without a move."""
        self._rest()

    @contextmanager
    def turn(self, images_seen: int) -> Iterator[None]:
        """On entry the player wakes, without gradients; on exit it moves, and rests."""
        for parameter in self.parameters:
            parameter.requires_grad_(True)
        try:
            yield
            if self.exact_sum is not None:
                self._take(self.exact_sum.result())
            if not self.rehearsing:
                self._move(images_seen)
        finally:
            self._rest()

    def piece(self, *, last: bool) -> AbstractContextManager[None]:
        """Around forward *and* backward of one piece: gradients are reduced in the last one only."""
        if self.exact_sum is not None:
            return self._exact_piece(self.exact_sum)
        return nullcontext() if last else self.processes.unreduced(self.wrapped)

    def state(self) -> dict[str, Tensor]:
        """The optimizer's state by parameter name; empty before the first move."""
        return {
            f"{name}.{key}": value
            for name, parameter in zip(self.names, self.parameters, strict=True)
            for key, value in self.optimizer.state.get(parameter, {}).items()
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state`."""
        self.optimizer.state.clear()
        for name, parameter in zip(self.names, self.parameters, strict=True):
            prefix = f"{name}."
            own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
            if own:
                self.optimizer.state[parameter] = {
                    # strides as the parameter's: fused kernels want them alike
                    key: torch.empty_like(parameter, requires_grad=False).copy_(value)
                    if value.shape == parameter.shape and value.dim()
                    else value.to(parameter.device, copy=True)
                    for key, value in own.items()
                }

    @contextmanager
    def _exact_piece(self, exact_sum: FixedPointSum) -> Iterator[None]:
        yield
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        assert len(gradients) == len(self.parameters), "every parameter takes part in every piece"
        exact_sum.add(gradients)
        self.optimizer.zero_grad()

    def _take(self, flat: Tensor) -> None:
        parts = flat.split([parameter.numel() for parameter in self.parameters])
        for parameter, part in zip(self.parameters, parts, strict=True):
            parameter.grad = torch.empty_like(parameter, requires_grad=False).copy_(part.view(parameter.shape))

    @torch.no_grad()
    def _move(self, images_seen: int) -> None:
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        assert len(gradients) == len(self.parameters), "every parameter takes part in every turn"
        scaler = self.processes.scaler
        if scaler is not None:
            scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.recipe.clip:
            factor = (self.recipe.clip / (norm + 1e-6)).clamp(max=1)
            torch._foreach_mul_(gradients, factor)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate * self.recipe.schedule.factor(images_seen)
        # Gradients are equal on all ranks, so all decide alike, and on the device: nothing waits for the host.
        self.gradient_norm = norm
        self.skipped = 1 - norm.isfinite().to(norm.dtype)
        if scaler is None:
            self.optimizer.found_inf = self.skipped.float()  # type: ignore[attr-defined]  # how GradScaler asks it too
            self.optimizer.step()
        else:
            scaler.step(self.optimizer)
            scaler.update()

    def _rest(self) -> None:
        self.optimizer.zero_grad()
        for parameter in self.parameters:
            parameter.requires_grad_(False)
