"""Turns as data: whose move it is, which random numbers it draws, which penalties belong to it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dist_gan.errors import ConfigError
from dist_gan.networks.base import Networks
from dist_gan.objective.augment import Augment
from dist_gan.objective.followers import has_state
from dist_gan.objective.objective import Objective
from dist_gan.randomness import MOST_NUMBERS, Purpose

Mover = Literal["D", "G"]
MOVERS: tuple[Mover, Mover] = ("D", "G")


@dataclass(frozen=True)
class Turn:
    """What one player's move consists of. (NVlabs' StyleGAN2-ADA calls these phases.)"""

    player: Mover
    purposes: Mapping[Purpose, int]
    """How many 16-bit random numbers a sample needs, by purpose."""
    penalties: Mapping[str, Any]
    """The penalties that belong to it, by name, whether due or not."""


def turns_of(
    objective: Objective, networks: Networks, augment: Augment, penalties: Mapping[str, Any]
) -> dict[Mover, Turn]:
    """D's turn and G's. penalties: all of them by name.

    Raises:
        ConfigError: a sample needs too many random numbers, or a penalty of D has a state, which nothing would follow.
    """
    for penalty in penalties.values():
        if penalty.of == "D" and has_state(penalty):
            raise ConfigError(
                f"objective.penalties: {penalty.name} is a penalty of D with an `initial_state`, and only "
                "penalties of G and augmentations may have a state"
            )
    found: dict[Mover, Turn] = {}
    for player in MOVERS:
        own = {name: penalty for name, penalty in penalties.items() if penalty.of == player}
        found[player] = Turn(player, objective.needs(*networks, augment, player), own)
        for use, count in found[player].purposes.items():
            if count > MOST_NUMBERS:
                raise ConfigError(
                    f"networks, augment: {use.name.lower()} needs {count:,} random numbers for one image, and "
                    f"{MOST_NUMBERS:,} is the most. Use smaller images, or less noise for each pixel"
                )
    return found


def slices(counts: Mapping[str, int]) -> dict[str, slice]:
    """Consecutive slices of these lengths."""
    found, start = {}, 0
    for name, count in counts.items():
        found[name] = slice(start, start + count)
        start += count
    return found
