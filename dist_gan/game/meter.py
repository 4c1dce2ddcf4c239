"""Running sums of what is logged. They stay on the device; only `read` communicates, and waits for the device."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from dist_gan.distributed.processes import Processes
from dist_gan.distributed.traffic import purpose
from dist_gan.errors import Diverged
from dist_gan.objective.objective import Terms

IN_A_ROW = 20
"""A run has diverged when one player skips this many moves in a row. (fp16 skips a few until its scale is right.)"""


class Scalar(NamedTuple):
    """A number that is logged: a mean over the samples of one player's turns."""

    name: str
    player: Literal["D", "G"]
    sum: Callable[[Terms], Tensor | None]
    """The terms of one microbatch -> []: the sum over its samples, on the device; None counts as 0."""


def _accuracy(terms: Terms) -> Tensor:
    """D is right where the logit of a real image is positive, and that of a fake one is not."""
    assert terms.real is not None
    return ((terms.real > 0).sum() + (terms.fake <= 0).sum()) / 2


def _real_logit(terms: Terms) -> Tensor:
    assert terms.real is not None
    return terms.real.sum()


SCALARS = (
    Scalar("D/loss", "D", lambda terms: terms.loss),
    Scalar("D/penalty", "D", lambda terms: terms.penalty),
    Scalar("D/real_logit", "D", _real_logit),
    Scalar("D/fake_logit", "D", lambda terms: terms.fake.sum()),
    Scalar("D/accuracy", "D", _accuracy),
    Scalar("G/loss", "G", lambda terms: terms.loss),
)
G_PENALTY = Scalar("G/penalty", "G", lambda terms: terms.penalty)


class Meter:
    """Means since the last `read`, over all processes."""

    def __init__(
        self,
        processes: Processes,
        batch_size: int,
        scalars: Sequence[Scalar] = SCALARS,
        turns: Sequence[str] = ("D", "G"),
    ) -> None:
        """`turns`: their names; `D alone` is that of penalties of D that are minimized alone."""
        self.processes = processes
        self.batch_size = batch_size
        self.scalars = {player: [s for s in scalars if s.player == player] for player in "DG"}
        self._none = torch.zeros((), device=processes.device)
        self.turns = turns
        self._streak = dict.fromkeys(turns, 0)
        kind = {"dtype": torch.float64, "device": processes.device}
        self._sums = {player: torch.zeros(len(own), **kind) for player, own in self.scalars.items()}
        self._moves = {turn: torch.zeros(2, **kind) for turn in turns}  # gradient norm, skipped
        self._turns = dict.fromkeys(turns, 0)

    def reset(self) -> None:
        """Start from zero."""
        for tensor in self.tensors:
            tensor.zero_()
        self._turns = dict.fromkeys(self.turns, 0)

    @property
    def tensors(self) -> list[Tensor]:
        """What turns add to: the same tensors throughout the run."""
        return [*self._sums.values(), *self._moves.values()]

    @torch.no_grad()
    def add(self, player: str, terms: Terms) -> None:
        """Add one microbatch of a player's turn."""
        values = [scalar.sum(terms) for scalar in self.scalars[player]]
        dtype = self.processes.dtype
        stacked = [(self._none if value is None else value).to(dtype) for value in values]
        if stacked:
            self._sums[player] += torch.stack(stacked)

    @torch.no_grad()
    def add_penalty(self, player: str, terms: Terms) -> None:
        """Add one microbatch of a turn in which penalties alone are minimized."""
        names = [scalar.name for scalar in self.scalars[player]]
        assert terms.penalty is not None
        self._sums[player][names.index(f"{player}/penalty")] += terms.penalty

    def count(self, turn: str) -> None:
        """Count a turn, on the host."""
        self._turns[turn] += 1

    def moved(self, turn: str, gradient_norm: Tensor, skipped: Tensor) -> None:
        """Add the end of a turn, on the device."""
        finite = torch.nan_to_num(gradient_norm, nan=0.0, posinf=0.0, neginf=0.0)
        self._moves[turn] += torch.stack([finite, skipped])

    def read(self) -> dict[str, float]:
        """Metrics by name, equal on all ranks; then starts from zero.

        One reduction. Raises Diverged after `IN_A_ROW` skipped moves of a player.
        """
        with purpose("metrics"):
            values = self.processes.sum(torch.cat(self.tensors)).tolist()
        names = [scalar.name for own in self.scalars.values() for scalar in own]
        sums = dict(zip(names, values, strict=False))
        moves = dict(zip(self._moves, zip(*[iter(values[len(names) :])] * 2, strict=True), strict=True))
        metrics: dict[str, float] = {}
        for player, own in self.scalars.items():
            turns = max(1, self._turns[player])
            metrics |= {scalar.name: sums[scalar.name] / (turns * self.batch_size) for scalar in own}
        for turn in self.turns:
            norm, skipped = (value / self.processes.count for value in moves[turn])
            kept = f"{turn}/" if turn in self.scalars else f"{turn[0]}/alone_"
            metrics[f"{kept}gradient_norm"] = norm / max(1, self._turns[turn] - round(skipped))
            metrics[f"{kept}skipped"] = round(skipped)
            self._watch(turn, round(skipped))
        self.reset()
        return metrics

    def _watch(self, turn: str, skipped: int) -> None:
        self._streak[turn] = self._streak[turn] + skipped if skipped == self._turns[turn] else 0
        if self._streak[turn] >= IN_A_ROW:
            whose = f"{turn}'s gradients" if turn in self.scalars else f"the gradients of {turn[0]}'s penalties alone"
            raise Diverged(
                f"{whose} were not finite in {self._streak[turn]} turns, one after the other: the run "
                "has diverged. A lower learning rate, a gradient penalty or more precision may help"
            )


def peak_memory() -> dict[str, Any]:
    """The peak memory of this process in MiB: on the GPU where there is one, else in main memory."""
    if torch.cuda.is_available():
        return {"peak_memory_mib": torch.cuda.max_memory_allocated() / 2**20}
    import resource

    return {"peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10}
