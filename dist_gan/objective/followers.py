"""Parts with a state that follows what is observed in the turns: a strength that adapts, a running mean.

The Part stays frozen and has pure functions; `Follower` is its runtime twin and holds the state. Once in a turn, the
observations of all samples become a mean over the global batch, equal bit for bit on any number of processes.
"""

from collections.abc import Mapping
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
        self.sums: Tensor | None = None
        """int64 [2]: this process's observations of this turn, as of `fixed_point`; None where there were none."""

    def observe(self, sums: Tensor) -> None:
        """Add the observations of one microbatch: sums int64 [2], as of `fixed_point`."""
        self.sums = sums if self.sums is None else self.sums + sums

    @torch.no_grad()
    def settle(self, sums: Tensor, moved: Tensor) -> None:
        """The end of the turn. sums: int64 [2] of all processes; moved: [], 0 where the player skipped its move."""
        self.sums = None
        for name, value in self.part.follow(self.values, mean_of(sums), sums[1].double()).items():
            self.values[name] = torch.where(moved.bool(), value, self.values[name])

    def state(self) -> dict[str, Tensor]:
        """The values, by name."""
        return dict(self.values)

    def load(self, state: State) -> None:
        """The inverse of `state`."""
        self.values = {name: state[name].to(old.device, copy=True) for name, old in self.values.items()}


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
            self.members[name].observe(fixed_point(values))

    def settle(self, moved: Tensor, *, rehearsing: bool = False) -> None:
        """The end of a turn: one reduction of integers, if anything was observed. In a rehearsal it is forgotten."""
        seen = [follower for follower in self.members.values() if follower.sums is not None]
        if rehearsing:
            for follower in seen:
                follower.sums = None
        elif seen:
            with purpose("followers"):
                total = self.processes.sum(torch.stack([f.sums for f in seen if f.sums is not None]))
            for follower, sums in zip(seen, total.unbind(), strict=True):
                follower.settle(sums, moved)


def has_state(part: Any) -> bool:
    """Whether a Part has a state to follow."""
    return bool(getattr(part, "initial_state", dict)())
