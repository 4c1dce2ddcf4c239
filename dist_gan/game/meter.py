"""Running sums of what is logged. They stay on the device; only `read` communicates and waits for it."""

from typing import Any

import torch
from torch import Tensor

from dist_gan.objective.objective import Terms
from dist_gan.distributed.processes import Processes
from dist_gan.distributed.traffic import claim

_PIECE_OF_D = ("D/loss", "D/penalty", "D/real_logit", "D/fake_logit", "D/real_as_real", "D/fake_as_real")
_PIECE_OF_G = ("G/loss",)
_MOVE_OF_D = ("D/gradient_norm", "D/skipped")
_MOVE_OF_G = ("G/gradient_norm", "G/skipped")
IN_A_ROW = 20
"""So many skipped moves of one player, one after the other, are a run that has diverged (fp16 skips a few on its way to
the right scale)."""


class Diverged(RuntimeError):
    """The gradients of a player were not finite, turn after turn. All ranks find it at the same time."""

    everywhere = True


class Meter:
    """Means since the last reading, over all processes."""

    def __init__(self, processes: Processes, batch_size: int) -> None:
        self.processes = processes
        self.batch_size = batch_size
        self._none = torch.zeros((), device=processes.device)
        self._streak = {"D": 0, "G": 0}
        self.reset()

    def reset(self) -> None:
        """Forget what was gathered."""
        self._sums: dict[tuple[str, ...], Tensor] = {
            group: torch.zeros(len(group), dtype=torch.float64, device=self.processes.device)
            for group in (_PIECE_OF_D, _PIECE_OF_G, _MOVE_OF_D, _MOVE_OF_G)
        }
        self._turns = {"D": 0, "G": 0}

    @torch.no_grad()
    def discriminator_piece(self, terms: Terms) -> None:
        """Add one piece of D's turn."""
        assert terms.real is not None
        logits = torch.stack([terms.real, terms.fake])
        losses = torch.stack([terms.loss, self._none if terms.penalty is None else terms.penalty])
        self._sums[_PIECE_OF_D] += torch.cat([losses.to(logits.dtype), logits.sum(1), (logits > 0).sum(1)])

    @torch.no_grad()
    def generator_piece(self, terms: Terms) -> None:
        """Add one piece of G's turn."""
        self._sums[_PIECE_OF_G] += terms.loss

    def discriminator_moved(self, gradient_norm: Tensor, skipped: Tensor) -> None:
        """Add the end of D's turn."""
        self._turns["D"] += 1
        self._add_move(_MOVE_OF_D, gradient_norm, skipped)

    def generator_moved(self, gradient_norm: Tensor, skipped: Tensor) -> None:
        """Add the end of G's turn."""
        self._turns["G"] += 1
        self._add_move(_MOVE_OF_G, gradient_norm, skipped)

    def _add_move(self, group: tuple[str, ...], gradient_norm: Tensor, skipped: Tensor) -> None:
        finite = torch.nan_to_num(gradient_norm, nan=0.0, posinf=0.0, neginf=0.0)
        self._sums[group] += torch.stack([finite, skipped])

    def read(self) -> dict[str, float]:
        """Metrics by name, equal on all ranks; starts afresh.

        One reduction. Raises Diverged after `IN_A_ROW` skipped moves of a player.
        """
        with claim("metrics"):
            values = self.processes.sum(torch.cat([*self._sums.values()])).tolist()
        sums = dict(zip((name for group in self._sums for name in group), values, strict=True))
        turns = {name: max(1, count) for name, count in self._turns.items()}
        samples = {name: count * self.batch_size for name, count in turns.items()}
        metrics: dict[str, float] = {}
        for player in "DG":
            metrics[f"{player}/loss"] = sums[f"{player}/loss"] / samples[player]
            skipped = round(sums[f"{player}/skipped"] / self.processes.count)
            moves = turns[player] - skipped
            metrics[f"{player}/gradient_norm"] = sums[f"{player}/gradient_norm"] / self.processes.count / max(1, moves)
            metrics[f"{player}/skipped"] = skipped
            self._watch(player, skipped)
        for name in ("D/penalty", "D/real_logit", "D/fake_logit"):
            metrics[name] = sums[name] / samples["D"]
        right = sums["D/real_as_real"] + samples["D"] - sums["D/fake_as_real"]
        metrics["D/accuracy"] = right / (2 * samples["D"])
        self.reset()
        return metrics

    def _watch(self, player: str, skipped: int) -> None:
        self._streak[player] = self._streak[player] + skipped if skipped == self._turns[player] else 0
        if self._streak[player] >= IN_A_ROW:
            raise Diverged(
                f"{player}'s gradients were not finite in {self._streak[player]} turns, one after the other: the run "
                "has diverged. A lower learning rate, a gradient penalty or more precision may help"
            )


def peak_memory() -> dict[str, Any]:
    """The most memory that this process has held, in MiB: on the GPU where there is one, else of the whole process."""
    if torch.cuda.is_available():
        return {"peak_memory_mib": torch.cuda.max_memory_allocated() / 2**20}
    import resource

    return {"peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10}
