"""How far two states of a game are apart, by kind."""

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

KINDS = {"generator": "G", "discriminator": "D", "ema": "EMA", "pictures": "pictures"}
OPTIMIZERS, FOLLOWERS = "optimizers", "followers"
ALL_KINDS = (*KINDS.values(), OPTIMIZERS, FOLLOWERS)
BOUNDS = {"fp64": 1e-12, "fp32": 1e-3}
"""Of the relative difference. In fp32 Adam makes whole steps of differences of rounding, where a gradient is near zero:
the bound holds for a few updates, and the difference grows with them."""
WHOLE = ("fp32",)
"""Where all tensors of a member are compared as one vector, by its norm; else each tensor by its largest number."""
ZERO = 1e-12
"""A gradient that is smaller than this part of the player's largest one is zero but for rounding."""
SMALL = 1e-3
"""A difference of a parameter counts less where its gradient is smaller than this part of the player's largest one."""
PLAYERS = ("generator", "discriminator")

States = dict[str, dict[str, Tensor]]
Counts = Mapping[str, Mapping[str, float]]
"""By player and parameter, how much a difference counts."""


def kind_of(member: str) -> str:
    """Of what kind a member of the game is."""
    return KINDS.get(member) or (OPTIMIZERS if member.endswith("_optimizer") else FOLLOWERS)


def counts(right: States) -> dict[str, dict[str, float]]:
    """How much a difference of each parameter counts outside `exact`.

    The rounding error of every gradient is about that of the player's largest one, since all come from the same sums.
    Adam divides it by the parameter's own gradient: where this is s times the largest, the error of its step is 1/s
    times as large. So below `SMALL` a difference counts s / SMALL (with SGD too, where it is not needed). Below `ZERO`
    the gradient is nothing
    but rounding and no loss depends on the parameter: it counts 0. Such are biases in front of batch normalization, and
    D's last one where the loss does not change with it (hinge, while no image is beyond its margin; relativistic;
    Wasserstein).

    Args:
        right: the state of one process in float64.
    """
    found = {}
    for player in PLAYERS:
        sizes: dict[str, float] = {}
        for name, moment in right[f"{player}_optimizer"].items():
            parameter, _, kind = name.rpartition(".")
            if kind != "step":
                size = float(moment.abs().max())
                size = math.sqrt(size) if kind.endswith(("sq", "square_avg")) else size
                sizes[parameter] = max(sizes.get(parameter, 0.0), size)
        largest = max(sizes.values(), default=1.0)
        found[player] = {name: _count(size / largest) for name, size in sizes.items()}
    return found


def _count(share: float) -> float:
    return 0.0 if share < ZERO else min(1.0, share / SMALL)


def differences(a: States, b: States, counting: Counts | None = None, *, whole: bool = False) -> dict[str, float]:
    """The largest relative difference for each kind that has tensors.

    Where a parameter of G counts less than 1, the statistics that are measured of G change with it, and images do not:
    these are compared (`pictures`), and the statistics are not.

    Args:
        a: one state.
        b: the right one.
        counting: how much a difference of a parameter counts; without it, 1.
        whole: the norm of the difference of all tensors of a member (of a moment of an optimizer), as a part of their
            norm; else the largest difference of a number, as a part of the largest number of its tensor.
    """
    assert a.keys() == b.keys()
    found: dict[str, float] = {}
    for member, own in b.items():
        assert a[member].keys() == own.keys()
        player = (
            counting.get("discriminator" if member.startswith("discriminator") else "generator", {}) if counting else {}
        )
        vectors: dict[str, list[tuple[Tensor, Tensor]]] = {}
        for name, value in own.items():
            share = 1.0
            if member.startswith((*PLAYERS, "ema")):
                parameter, _, last = name.rpartition(".")
                share = player.get(name, player.get(parameter, 1.0))
                if last.startswith("running_") and min(player.values(), default=1.0) < 1:
                    continue
            if share:
                moment = name.rpartition(".")[2] if member.endswith("_optimizer") else ""
                pair = (share * (a[member][name] - value), value)
                vectors.setdefault(moment if whole else name, []).append(pair)
        kind = kind_of(member)
        for pairs in vectors.values():
            found[kind] = max(found.get(kind, 0.0), _relative(pairs, 2 if whole else math.inf))
    return found


def _relative(pairs: list[tuple[Tensor, Tensor]], order: float) -> float:
    change, value = (torch.cat([pair[i].double().flatten() for pair in pairs]) for i in (0, 1))
    norm = torch.linalg.vector_norm(value, order).clamp(min=1e-300)
    return float(torch.linalg.vector_norm(change, order) / norm)


def largest(found: Iterable[dict[str, float]]) -> dict[str, float]:
    """Kind by kind."""
    most: dict[str, float] = {}
    for each in found:
        for kind, value in each.items():
            most[kind] = max(most.get(kind, 0.0), value)
    return most


def flat(states: States) -> dict[str, Tensor]:
    """`member/name` -> tensor."""
    return {f"{member}/{name}": tensor for member, own in states.items() for name, tensor in own.items()}
