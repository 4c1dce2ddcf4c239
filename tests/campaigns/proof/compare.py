"""How far two states of a game are apart, by kind."""

from collections.abc import Iterable

from torch import Tensor

from dist_gan.config.schema import Config
from dist_gan.networks import MLP

KINDS = {"generator": "G", "discriminator": "D", "ema": "EMA"}
OPTIMIZERS, FOLLOWERS = "optimizers", "followers"
ALL_KINDS = (*KINDS.values(), OPTIMIZERS, FOLLOWERS)
BOUNDS = {"fp64": 1e-12, "fp32": 1e-3}
"""Of the largest difference of a tensor, relative to the largest number in it. In fp32 Adam makes whole steps of
differences of rounding, where a gradient is near zero: the bound holds for a few updates, and grows with them."""
INVARIANT = {"hinge", "wasserstein", "relativistic"}
LAST_BIAS = "tower.layers.3.bias"
"""These losses do not change when D's last bias does (hinge: while no image is beyond its margin). Its gradient is zero
up to rounding, of which Adam makes steps: outside `exact` it is not compared."""

States = dict[str, dict[str, Tensor]]


def kind_of(member: str) -> str:
    """Of what kind a member of the game is."""
    return KINDS.get(member) or (OPTIMIZERS if member.endswith("_optimizer") else FOLLOWERS)


def left_out(config: Config) -> str:
    """The name of D's tensors that are not compared outside of `exact`; empty: all are."""
    return LAST_BIAS if isinstance(config.networks, MLP) and config.objective.loss.name in INVARIANT else ""


def differences(a: States, b: States, without: str = "") -> dict[str, float]:
    """The largest relative difference for each kind that has tensors, over all tensors but D's called `without`."""
    assert a.keys() == b.keys()
    found: dict[str, float] = {}
    for member, own in b.items():
        assert a[member].keys() == own.keys()
        for name, value in own.items():
            if without and member.startswith("discriminator") and name.startswith(without):
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
