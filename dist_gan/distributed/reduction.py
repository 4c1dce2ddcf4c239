"""How a player's gradients become those of the global batch. No other code depends on the number of processes for it.

Losses are sums over samples; `scale` makes the reduced gradient that of the mean over the global batch.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from dist_gan.distributed.exact_sum import FixedPointSum
from dist_gan.distributed.processes import Processes


class Reduction(ABC):
    """The reduction of one player: `around` every microbatch of its turn, then `finish` before it moves."""

    wrapped: nn.Module
    """The network as it is called in its own turn. Never in the other player's turn: DDP would prepare a reduction."""
    scale: float
    """Factor of a sum over samples, before its backward."""
    rehearses: bool = False
    """Whether both turns must be rehearsed before the first update of a start (see `Game.warm_up_reduction`)."""

    @abstractmethod
    def around(self, *, last: bool) -> AbstractContextManager[None]:
        """Around forward *and* backward of one microbatch. Gradients are reduced in the last one, or in `finish`."""

    def finish(self) -> None:  # noqa: B027  # most have nothing left to do
        """After the last microbatch: the parameters' gradients are the global ones."""


class Alone(Reduction):
    """One process: gradients add up in place."""

    def __init__(self, network: nn.Module, processes: Processes, batch_size: int) -> None:
        self.wrapped = processes.wrap(network, reduced=False)
        self.scale = 1 / batch_size

    def around(self, *, last: bool) -> AbstractContextManager[None]:
        return nullcontext()


class Averaged(Reduction):
    """DDP: one all-reduce of floating-point gradients, in the backward of the last microbatch."""

    rehearses = True

    def __init__(self, network: nn.Module, processes: Processes, batch_size: int) -> None:
        self.wrapped = processes.wrap(network, reduced=True)
        self.scale = processes.count / batch_size  # DDP averages over processes

    def around(self, *, last: bool) -> AbstractContextManager[None]:
        return nullcontext() if last else self.wrapped.no_sync()  # type: ignore[operator]  # DDP's own


class ExactlySummed(Reduction):
    """Each microbatch's gradient by itself, added as integers: the same bits on any number of processes."""

    def __init__(self, network: nn.Module, processes: Processes, batch_size: int, fixed: FixedPointSum) -> None:
        """`fixed` may be shared by both players: they never move at the same time."""
        self.wrapped = processes.wrap(network, reduced=False)
        self.scale = 1 / batch_size
        self.parameters: Sequence[Tensor] = [p for p in network.parameters() if p.requires_grad]
        self.fixed = fixed

    @contextmanager
    def around(self, *, last: bool) -> Iterator[None]:
        """Takes the gradients of each microbatch away from the parameters."""
        yield
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        assert len(gradients) == len(self.parameters), "every parameter takes part in every microbatch"
        self.fixed.add(gradients)
        for parameter in self.parameters:
            parameter.grad = None

    def finish(self) -> None:
        parts = self.fixed.result().split([parameter.numel() for parameter in self.parameters])
        for parameter, part in zip(self.parameters, parts, strict=True):
            parameter.grad = torch.empty_like(parameter, requires_grad=False).copy_(part.view(parameter.shape))


def reduction_for(network: nn.Module, processes: Processes, batch_size: int, fixed: FixedPointSum | None) -> Reduction:
    """The reduction for this number of processes; `fixed` where the run is exact."""
    if fixed is not None:
        return ExactlySummed(network, processes, batch_size, fixed)
    return Alone(network, processes, batch_size) if processes.count == 1 else Averaged(network, processes, batch_size)
