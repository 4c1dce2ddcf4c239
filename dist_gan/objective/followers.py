"""Parts with a state that follows what is observed in the turns: a strength that adapts, a running mean.

The Part stays frozen and has pure functions; `Follower` is its runtime twin and holds the state. Once in a turn, the
observations of all samples become a mean over the global batch, equal bit for bit on any number of processes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from dist_gan.distributed.exact_sum import fixed_point, mean_of
from dist_gan.distributed.processes import Processes
from dist_gan.distributed.traffic import purpose

State = Mapping[str, Tensor]
"""What a Part remembers from turn to turn, by name; empty for most Parts."""


class Follows(Protocol):
    """A Part with a state. Both functions are pure, and run on the device without reading anything back."""

    def initial_state(self) -> dict[str, Tensor]:
        """The state before the first update, on the CPU. Empty where the Part has no state."""

    def follow(self, state: State, mean: Tensor, samples: Tensor) -> dict[str, Tensor]:
        """The state after a turn in which the observations of this many samples had this mean (both float64 [])."""


class Follower:
    """The runtime twin of a Part that `Follows`."""

    def __init__(self, part: Follows, device: torch.device) -> None:
        self.part = part
        self.values: dict[str, Tensor] = {k: v.double().to(device) for k, v in part.initial_state().items()}
        """The same tensors throughout the run, as `sums`."""
        self.sums = torch.zeros(2, dtype=torch.int64, device=device)
        """int64 [2]: this process's observations of this turn, as of `fixed_point`; of all processes, once they are
        added."""

    @torch.no_grad()
    def settle(self, moved: Tensor) -> None:
        """The end of the turn, where `sums` are those of all processes. moved: [], 0 where the player skipped its
        move."""
        follows = moved.bool() & (self.sums[1] > 0)
        followed = self.part.follow(self.values, mean_of(self.sums), self.sums[1].double())
        for name, value in followed.items():
            self.values[name].copy_(torch.where(follows, value, self.values[name]))
        self.sums.zero_()

    def state(self) -> dict[str, Tensor]:
        """The values, by name."""
        return dict(self.values)

    def load(self, state: State) -> None:
        """The inverse of `state`."""
        for name, own in self.values.items():
            own.copy_(state[name])


class Followers:
    """Those of a game, by name."""

    def __init__(self, parts: Mapping[str, Any], processes: Processes) -> None:
        """parts: all that may have a state."""
        self.processes = processes
        self.members = {name: Follower(part, processes.device) for name, part in parts.items() if has_state(part)}

    def state_of(self, name: str) -> State:
        """What a Part remembers; empty where it has no state."""
        return self.members[name].values if name in self.members else {}

    def observe(self, name: str, values: Tensor) -> None:
        """Add one microbatch's observations [N], where the Part has a state."""
        if name in self.members:
            self.members[name].sums += fixed_point(values)

    def communicate(self, names: Sequence[str]) -> None:
        """Add the observations of all processes: one reduction of integers, where there are some."""
        seen = [self.members[name] for name in names]
        if seen and self.processes.count > 1:
            with purpose("followers"):
                total = self.processes.sum(torch.stack([follower.sums for follower in seen]))
            for follower, sums in zip(seen, total.unbind(), strict=True):
                follower.sums.copy_(sums)

    def settle(self, names: Sequence[str], moved: Tensor, *, rehearsing: bool = False) -> None:
        """The end of a turn in which these observed. In a rehearsal it is forgotten."""
        for follower in (self.members[name] for name in names):
            if rehearsing:
                follower.sums.zero_()
            else:
                follower.settle(moved)

    @property
    def tensors(self) -> list[Tensor]:
        """All that they remember: the same tensors throughout the run."""
        return [tensor for each in self.members.values() for tensor in (*each.values.values(), each.sums)]


def has_state(part: Any) -> bool:
    """Whether a Part has a state to follow."""
    return bool(getattr(part, "initial_state", dict)())
