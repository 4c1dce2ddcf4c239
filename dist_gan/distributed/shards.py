"""What only one process keeps, of tensors that all of them use (Rajbhandari et al. 2020, "ZeRO", stage 1).

Whole tensors belong to processes, not parts of them: so each is moved by the same kernel as where nothing is sharded,
and to the same bits.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from dist_gan.distributed.processes import Processes
from dist_gan.distributed.traffic import purpose
from dist_gan.errors import ConfigError

ALIGNED = 64
"""Each tensor begins at a multiple of this many numbers, as if it had memory of its own: kernels are chosen by that."""


class Shards:
    """Which of some parameters belong to which process, and one tensor in which all of them are."""

    def __init__(self, processes: Processes, parameters: Sequence[Tensor], whose: str) -> None:
        """The parameters' memory becomes a part of `flat`.

        Raises:
            ConfigError: there are more processes than parameters.
        """
        if len(parameters) < processes.count:
            raise ConfigError(
                f"shard: {whose} has {len(parameters)} parameters, and each of {processes.count} processes must keep "
                "one. Use shard=false"
            )
        self.processes = processes
        self.parameters = parameters
        self.owners = _balanced([parameter.numel() for parameter in parameters], processes.count)
        self.own = [place for place, owner in enumerate(self.owners) if owner == processes.rank]
        """The places of those that belong to this process."""
        used = [0] * processes.count
        self._within: list[int] = []
        for parameter, owner in zip(parameters, self.owners, strict=True):
            self._within.append(used[owner])
            used[owner] += -(-parameter.numel() // ALIGNED) * ALIGNED
        self.each = max(used)
        """Numbers of one process's part."""
        self.flat = self._empty(processes.count)
        self._strides = [(parameter.shape, parameter.stride()) for parameter in parameters]
        for parameter, view in zip(parameters, self._views(self.flat), strict=True):
            parameter.data = view.copy_(parameter.detach())

    def gather(self) -> None:
        """Every process has all parameters as their owners have them."""
        self._gather(self.flat, self.flat.view(self.processes.count, -1)[self.processes.rank])

    def release(self) -> None:
        """Give up the memory of what belongs to others. Their parameters are empty until `restore`."""
        if self.flat.numel() == self.each:
            return
        self.flat = self.flat.view(self.processes.count, -1)[self.processes.rank].clone()
        for place, parameter in enumerate(self.parameters):
            parameter.data = self._view(self.flat, place, 0) if place in self.own else parameter.data.new_empty(0)

    def restore(self) -> None:
        """The opposite of `release`: all processes must call it."""
        if self.flat.numel() > self.each:
            return
        whole = self._empty(self.processes.count)
        self._gather(whole, self.flat)
        self.flat = whole
        for parameter, view in zip(self.parameters, self._views(whole), strict=True):
            parameter.data = view

    def _empty(self, parts: int) -> Tensor:
        like = self.parameters[0]
        return torch.zeros(parts * self.each, dtype=like.dtype, device=like.device)

    def _gather(self, whole: Tensor, own: Tensor) -> None:
        with purpose("shards"):
            torch.distributed.all_gather(list(whole.chunk(self.processes.count)), own.contiguous())

    def _views(self, flat: Tensor) -> list[Tensor]:
        return [self._view(flat, place, owner * self.each) for place, owner in enumerate(self.owners)]

    def _view(self, flat: Tensor, place: int, start: int) -> Tensor:
        shape, stride = self._strides[place]
        return flat.as_strided(shape, stride, start + self._within[place])


def _balanced(sizes: Sequence[int], count: int) -> list[int]:
    """An owner for each size: the largest first, each to whoever has the least."""
    loads, owners = [0] * count, [0] * len(sizes)
    for place in sorted(range(len(sizes)), key=lambda place: (-sizes[place], place)):
        owner = min(range(count), key=lambda process: (loads[process], process))
        owners[place] = owner
        loads[owner] += max(1, sizes[place])
    return owners
