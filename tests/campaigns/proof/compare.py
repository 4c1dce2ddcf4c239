"""How far two states of a game are apart, by kind."""

import math
from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor

KINDS = {"generator": "G", "discriminator": "D", "ema": "EMA"}
OPTIMIZERS, FOLLOWERS = "optimizers", "followers"
ALL_KINDS = (*KINDS.values(), OPTIMIZERS, FOLLOWERS)
BOUNDS = {"fp64": 1e-12, "fp32": 1e-3}
"""Of the largest difference of a tensor, relative to the largest number in it. In fp32 Adam makes whole steps of
differences of rounding, where a gradient is near zero: the bound holds for a few updates, and grows with them."""
ZERO = 1e-12
"""A gradient that is smaller than this part of the player's largest one is zero but for rounding."""
PLAYERS = ("generator", "discriminator")

States = dict[str, dict[str, Tensor]]


def kind_of(member: str) -> str:
    """Of what kind a member of the game is."""
    return KINDS.get(member) or (OPTIMIZERS if member.endswith("_optimizer") else FOLLOWERS)


def left_out(right: States) -> dict[str, tuple[str, ...]]:
    """By player the parameters on which no loss depends, so that their gradients are zero but for rounding. Adam makes
    steps of that: outside `exact` they are not compared.

    Such are biases in front of batch normalization, and D's last one where the loss does not change with it (hinge,
    while no image is beyond its margin; relativistic; Wasserstein).

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
        least = ZERO * max(sizes.values(), default=0.0)
        found[player] = tuple(parameter for parameter, size in sizes.items() if size < least)
    return found


def differences(a: States, b: States, without: Mapping[str, Sequence[str]] | None = None) -> dict[str, float]:
    """The largest relative difference for each kind that has tensors, over all tensors but those of some parameters
    (by player)."""
    assert a.keys() == b.keys()
    found: dict[str, float] = {}
    for member, own in b.items():
        assert a[member].keys() == own.keys()
        skipped = (without or {}).get("discriminator" if member.startswith("discriminator") else "generator", ())
        for name, value in own.items():
            if member.startswith((*PLAYERS, "ema")) and any(f"{name}.".startswith(f"{each}.") for each in skipped):
                continue
            difference = (a[member][name] - value).abs().max() / value.abs().max().clamp(min=1e-300)
            kind = kind_of(member)
            found[kind] = max(found.get(kind, 0.0), difference.item())
    return found


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
