"""What only one process keeps, of tensors that all of them use (Rajbhandari et al. 2020, "ZeRO", stage 1).

Whole tensors belong to processes, not parts of them: so each is moved by the same kernel as where nothing is sharded,
and to the same bits.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from dist_gan.distributed.processes import Processes
from dist_gan.distributed.traffic import purpose

ALIGNED = 64
"""Each tensor begins at a multiple of this many numbers, as if it had memory of its own: kernels are chosen by that."""


class Owners:
    """The processes among which all that is sharded is divided, so that each has about as much."""

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self.loads = [0] * processes.count
        """How many numbers each has so far."""


class Shards:
    """Which of some parameters belong to which process, and one tensor in which all of them are."""

    def __init__(self, owners: Owners, parameters: Sequence[Tensor]) -> None:
        """The parameters' memory becomes a part of `flat`. Where there are more processes, some have none."""
        processes = owners.processes
        self.processes = processes
        self.parameters = parameters
        self.owners = _balanced([parameter.numel() for parameter in parameters], owners.loads)
        self.own = [place for place, owner in enumerate(self.owners) if owner == processes.rank]
        """The places of those that belong to this process."""
        used = [0] * processes.count
        self._within: list[int] = []
        for parameter, owner in zip(parameters, self.owners, strict=True):
            self._within.append(used[owner])
            used[owner] += -(-parameter.numel() // ALIGNED) * ALIGNED
        self._starts = [sum(used[:process]) for process in range(processes.count + 1)]
        """Where the part of each process begins; and the end of the last one."""
        self.flat = self._empty(self._starts[-1])
        self._kept: Tensor | None = None
        """This process's part while the others are given up: the same memory each time."""
        self._is_released = False
        self._strides = [(parameter.shape, parameter.stride()) for parameter in parameters]
        for parameter, view in zip(parameters, self._views(self.flat), strict=True):
            parameter.data = view.copy_(parameter.detach())

    def gather(self) -> None:
        """Every process has all parameters as their owners have them: a broadcast of each one's part."""
        with purpose("shards"):
            works = [
                torch.distributed.broadcast(self._part(process), process, async_op=True)
                for process in range(self.processes.count)
                if self._part(process).numel()
            ]
            for work in works:
                assert work is not None
                work.wait()

    def release(self) -> None:
        """Give up the memory of what belongs to others. Their parameters are empty until `restore`."""
        if self._is_released:
            return
        self._is_released = True
        part = self._part(self.processes.rank)
        self._kept = torch.empty_like(part) if self._kept is None else self._kept
        self._kept.copy_(part)
        for place, parameter in enumerate(self.parameters):
            parameter.data = self._view(self._kept, place, 0) if place in self.own else part.new_empty(0)
        self.flat = part.new_empty(0)

    def restore(self) -> None:
        """The opposite of `release`: all processes must call it."""
        if not self._is_released:
            return
        assert self._kept is not None
        self._is_released = False
        self.flat = self._empty(self._starts[-1])
        self._part(self.processes.rank).copy_(self._kept)
        self.gather()
        for parameter, view in zip(self.parameters, self._views(self.flat), strict=True):
            parameter.data = view

    def _empty(self, numbers: int) -> Tensor:
        like = self.parameters[0]
        return torch.zeros(numbers, dtype=like.dtype, device=like.device)

    def _part(self, process: int) -> Tensor:
        return self.flat[self._starts[process] : self._starts[process + 1]]

    def _views(self, flat: Tensor) -> list[Tensor]:
        return [self._view(flat, place, self._starts[owner]) for place, owner in enumerate(self.owners)]

    def _view(self, flat: Tensor, place: int, start: int) -> Tensor:
        shape, stride = self._strides[place]
        return flat.as_strided(shape, stride, start + self._within[place])


def _balanced(sizes: Sequence[int], loads: list[int]) -> list[int]:
    """An owner for each size: the largest first, each to whoever has the least."""
    owners = [0] * len(sizes)
    for place in sorted(range(len(sizes)), key=lambda place: (-sizes[place], place)):
        owner = min(range(len(loads)), key=lambda process: (loads[process], process))
        owners[place] = owner
        loads[owner] += sizes[place]
    return owners
