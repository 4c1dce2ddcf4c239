"""The numbers that change from update to update, in one small tensor on the device."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from dist_gan.game.turn import Turn
from dist_gan.objective.augment import Augment
from dist_gan.objective.followers import Followers, State
from dist_gan.objective.objective import Due
from dist_gan.optim.optimizers import Optimizer

AUGMENT = "augment"
"""The member that holds an augmentation's state."""


class Dials:
    """Learning rates, the average's weight, factors of penalties: filled before a turn, read inside it.

    A turn is a function of tensors. It must not contain a Python number that changes, so that the same function runs
    eagerly, compiled, or as a CUDA graph. `dials[name]` is a [] view, the same tensor throughout the run.
    """

    def __init__(self, names: Sequence[str], device: torch.device, dtype: torch.dtype) -> None:
        self._numbers = dict.fromkeys(names, 0.0)
        self._pinned = device.type == "cuda"
        self.values = torch.zeros(len(self._numbers), dtype=dtype, device=device)
        self._views = dict(zip(self._numbers, self.values.unbind(), strict=True))

    def __getitem__(self, name: str) -> Tensor:
        return self._views[name]

    def fill(self, values: Mapping[str, float]) -> None:
        """Set some of them, in one copy that does not wait for the device."""
        assert values.keys() <= self._numbers.keys()
        self._numbers |= values
        # A new host tensor each time: the last copy may not have been made yet, and still reads its own.
        host = torch.tensor(list(self._numbers.values()), dtype=self.values.dtype, pin_memory=self._pinned)
        self.values.copy_(host, non_blocking=True)


class Rates:
    """The numbers of each player's optimizer: its learning rate, and whatever else changes."""

    def __init__(self, optimizers: Mapping[str, Optimizer], device: torch.device, dtype: torch.dtype) -> None:
        """optimizers: by player."""
        self._optimizers = optimizers
        names = [f"{player}/{name}" for player, optimizer in optimizers.items() for name in optimizer.numbers(0)]
        # torch's fused optimizers read a learning rate as float32 on a GPU, whatever the precision.
        self._dials = Dials(names, device, torch.float32 if device.type == "cuda" else dtype)

    def of(self, player: str) -> dict[str, Tensor]:
        """[] tensors by the names of its optimizer's numbers, the same throughout the run."""
        return {name: self._dials[f"{player}/{name}"] for name in self._optimizers[player].numbers(0)}

    def fill(self, player: str, images_seen: int) -> None:
        """As they are in that player's turn which begins at `images_seen`."""
        numbers = self._optimizers[player].numbers(images_seen)
        self._dials.fill({f"{player}/{name}": number for name, number in numbers.items()})


class TurnNumbers:
    """All numbers of a turn: of the player's optimizer, of penalties, of the augmentation."""

    def __init__(
        self,
        names: Sequence[str],
        rates: Rates,
        augment: Augment,
        followers: Followers,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        """`names`: of penalties, and of what else has a number in `dials`."""
        self.rates = rates
        self._augment = augment
        self._followers = followers
        self.dials = Dials([*names, *(f"{AUGMENT}.{name}" for name in augment.numbers(0))], device, dtype)

    def fill(self, turn: Turn, images_seen: int) -> tuple[list[Due], State]:
        """As they are in a turn that begins at `images_seen`. Returns the penalties that are due, and the
        augmentation's state."""
        self.rates.fill(turn.player, images_seen)
        strengths, numbers = turn.strengths(images_seen), self._augment.numbers(images_seen)
        if strengths or numbers:
            self.dials.fill(strengths | {f"{AUGMENT}.{name}": value for name, value in numbers.items()})
        state = self._followers.state_of
        due = [
            Due(name, penalty, self.dials[name], state(name), turn.bits_of[name])
            for name, penalty in turn.penalties.items()
            if strengths[name]
        ]
        return due, {**state(AUGMENT), **{name: self.dials[f"{AUGMENT}.{name}"] for name in numbers}}

    def logged(self, images_seen: int) -> dict[str, float]:
        """The augmentation's numbers that are logged, such as its strength. It waits for the device."""
        state = self._followers.state_of(AUGMENT)
        followed = {n: v.item() for n, v in state.items() if n in self._augment.logged and v.numel() == 1}
        return followed | self._augment.numbers(images_seen)
