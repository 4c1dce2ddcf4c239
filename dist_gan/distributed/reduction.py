"""How a player's gradients become those of the global batch. No other code depends on the number of processes for it.

Losses are sums over samples; `scale` makes the reduced gradient that of the mean over the global batch. What happens on
the device (`around`, `collect`, `deliver`) is apart from what processes send each other (`communicate`), since a graph
of a GPU's work can hold the former only.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from dist_gan.distributed.exact_sum import FixedPointSum
from dist_gan.distributed.processes import Processes
from dist_gan.distributed.wire import Bf16Wire


class Reduction(ABC):
    """The reduction of one player: `around` every microbatch of its turn, then `collect`, `communicate` and `deliver`
    before it moves."""

    wrapped: nn.Module
    """The network as it is called in its own turn. Never in the other player's turn: DDP would prepare a reduction."""
    scale: float
    """Factor of a sum over samples, before its backward."""
    rehearses: bool = False
    """Whether both turns must be rehearsed before the first update of a start (see `Game.warm_up_reduction`)."""
    gradients: list[Tensor]
    """The global ones, where these are in tensors that stay where they are; else empty."""

    def begin(self) -> None:  # noqa: B027
        """Before the first microbatch of a turn."""

    @abstractmethod
    def around(self, *, last: bool) -> AbstractContextManager[None]:
        """Around forward *and* backward of one microbatch. Gradients are reduced in the last one, or in
        `communicate`."""

    def collect(self) -> None:  # noqa: B027  # most have nothing left to do
        """After the last microbatch: what must be sent is where `communicate` finds it."""

    def communicate(self) -> None:  # noqa: B027
        """Reduce over all processes what was collected."""

    def deliver(self) -> None:  # noqa: B027
        """The parameters' gradients are the global ones."""


class Alone(Reduction):
    """One process: gradients add up in place."""

    def __init__(self, network: nn.Module, processes: Processes, batch_size: int) -> None:
        self.gradients = []
        self.wrapped = processes.wrap(network, reduced=False)
        self.scale = 1 / batch_size

    def around(self, *, last: bool) -> AbstractContextManager[None]:
        return nullcontext()


class Averaged(Reduction):
    """DDP: one all-reduce of floating-point gradients, in the backward of the last microbatch."""

    rehearses = True

    def __init__(self, network: nn.Module, processes: Processes, batch_size: int) -> None:
        self.gradients = []
        self.wrapped = processes.wrap(network, reduced=True)
        self.scale = processes.count / batch_size  # DDP averages over processes

    def around(self, *, last: bool) -> AbstractContextManager[None]:
        return nullcontext() if last else self.wrapped.no_sync()  # type: ignore[operator]  # DDP's own


class Flat(Reduction):
    """Gradients of all microbatches in one tensor that stays where it is, and one all-reduce of it after the backward.
    Nothing overlaps, and nothing of DDP is in the way of a graph."""

    def __init__(self, network: nn.Module, processes: Processes, batch_size: int, *, bf16: bool = False) -> None:
        """`bf16`: gradients are rounded to it when they are sent."""
        self.wrapped = processes.wrap(network, reduced=False)
        self.scale = 1 / batch_size
        self.processes = processes
        self.parameters = _trained(network)
        total = sum(parameter.numel() for parameter in self.parameters)
        self.flat = torch.zeros(total, dtype=processes.dtype, device=processes.device)
        self.wire = Bf16Wire(processes, total) if bf16 else None
        parts = self.flat.split([parameter.numel() for parameter in self.parameters])
        # With the strides of the parameters, as fused kernels need them. Parameters have no gaps in memory.
        self.gradients = [
            part.as_strided(p.shape, p.stride(), part.storage_offset())
            for part, p in zip(parts, self.parameters, strict=True)
        ]

    def around(self, *, last: bool) -> AbstractContextManager[None]:
        return nullcontext()

    def collect(self) -> None:
        torch._foreach_copy_(self.gradients, _gradients_of(self.parameters))

    def communicate(self) -> None:
        (self.wire or self.processes).add_up(self.flat)

    def deliver(self) -> None:
        for parameter, gradient in zip(self.parameters, self.gradients, strict=True):
            parameter.grad = gradient


class ExactlySummed(Reduction):
    """Each microbatch's gradient by itself, added as integers: the same bits on any number of processes."""

    def __init__(self, network: nn.Module, processes: Processes, batch_size: int, fixed: FixedPointSum) -> None:
        """`fixed` may be shared by both players: they never move at the same time."""
        self.wrapped = processes.wrap(network, reduced=False)
        self.scale = 1 / batch_size
        self.parameters = _trained(network)
        self.gradients = [torch.zeros_like(parameter, requires_grad=False) for parameter in self.parameters]
        self.fixed = fixed

    def begin(self) -> None:
        self.fixed.begin()

    @contextmanager
    def around(self, *, last: bool) -> Iterator[None]:
        """Takes the gradients of each microbatch away from the parameters."""
        yield
        self.fixed.add(_gradients_of(self.parameters))
        for parameter in self.parameters:
            parameter.grad = None

    def communicate(self) -> None:
        numbers = [parameter.numel() for parameter in self.parameters]
        parts = self.fixed.result(sum(numbers)).split(numbers)
        for gradient, part in zip(self.gradients, parts, strict=True):
            gradient.copy_(part.view(gradient.shape))

    def deliver(self) -> None:
        for parameter, gradient in zip(self.parameters, self.gradients, strict=True):
            parameter.grad = gradient


def reduction_for(
    network: nn.Module,
    processes: Processes,
    batch_size: int,
    fixed: FixedPointSum | None,
    *,
    flat: bool,
    bf16: bool = False,
) -> Reduction:
    """The reduction for this number of processes.

    Args:
        network: of the player.
        processes: this process among the others.
        batch_size: images of one turn, over all processes.
        fixed: where the run is exact.
        flat: where DDP cannot be used.
        bf16: whether gradients are rounded to it when they are sent.
    """
    if fixed is not None:
        return ExactlySummed(network, processes, batch_size, fixed)
    if processes.count == 1:
        return Alone(network, processes, batch_size)
    if flat or bf16:
        return Flat(network, processes, batch_size, bf16=bf16)
    return Averaged(network, processes, batch_size)


def _trained(network: nn.Module) -> list[Tensor]:
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def _gradients_of(parameters: Sequence[Tensor]) -> list[Tensor]:
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    assert len(gradients) == len(parameters), "every parameter takes part in every microbatch"
    return gradients
