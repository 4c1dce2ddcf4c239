"""Turns as data: whose move it is, which random numbers it draws, which penalties belong to it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from dist_gan.errors import ConfigError
from dist_gan.networks.base import Networks
from dist_gan.objective.augment import Augment
from dist_gan.objective.followers import has_state
from dist_gan.objective.objective import Objective
from dist_gan.randomness import MOST_NUMBERS, Purpose

Mover = Literal["D", "G"]
MOVERS: tuple[Mover, Mover] = ("D", "G")


def alone_of(player: str) -> str:
    """The name of the turn of a player's penalties that are minimized alone."""
    return f"{player} alone"


@dataclass(frozen=True)
class Turn:
    """What one player's move consists of. (NVlabs' StyleGAN2-ADA calls these phases.)"""

    player: Mover
    purposes: Mapping[Purpose, int]
    """How many 16-bit random numbers a sample needs, by purpose."""
    after: Mapping[Purpose, int]
    """How many of the same purposes are not its own and come before."""
    penalties: Mapping[str, Any]
    """The penalties that belong to it, by name, whether due or not."""
    bits_of: Mapping[str, slice]
    """Where each penalty's own random bits are among those of its purpose."""
    every: int
    """Images that D sees from one such turn to the next."""
    alone: bool = False
    """Whether it is a turn of the penalties that are minimized alone: one in which none is due does not take place."""

    @property
    def name(self) -> str:
        """Among the turns of a game."""
        return alone_of(self.player) if self.alone else self.player

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.player}'s turn of penalties" if self.alone else f"{self.player}'s turn"

    def strengths(self, images_seen: int) -> dict[str, float]:
        """The factor of each of its penalties where it begins at `images_seen`; 0 where it is not due."""
        return {name: penalty.strength(images_seen, self.every) for name, penalty in self.penalties.items()}

    def takes_place(self, images_seen: int) -> bool:
        """Whether there is anything to do in it."""
        return not self.alone or any(self.strengths(images_seen).values())

    def bits(self, drawn: Mapping[Purpose, Tensor]) -> dict[Purpose, Tensor]:
        """Its own among those that were drawn for several turns."""
        first = {purpose: self.after.get(purpose, 0) for purpose in self.purposes}
        return {p: drawn[p][:, first[p] : first[p] + count] for p, count in self.purposes.items()}


def turns_of(
    objective: Objective,
    networks: Networks,
    augment: Augment,
    penalties: Mapping[str, Any],
    every: Mapping[Mover, int],
) -> dict[str, Turn]:
    """`D` and `G`, and where penalties are minimized alone `D alone` and `G alone`.

    Args:
        objective: the rules.
        networks: of both players.
        augment: what is done to images.
        penalties: all of them by name.
        every: images that D sees from one turn of each player to the next.

    Raises:
        ConfigError: a sample needs too many random numbers, or a penalty of D has a state, which nothing would follow.
    """
    for penalty in penalties.values():
        if penalty.of == "D" and has_state(penalty):
            raise ConfigError(
                f"objective.penalties: {penalty.name} is a penalty of D with an `initial_state`, and only "
                "penalties of G and augmentations may have a state"
            )
    found: dict[str, Turn] = {}
    for player in MOVERS:
        before: Mapping[Purpose, int] = {}
        for alone in (False, True):
            own = {n: penalty for n, penalty in penalties.items() if (penalty.of, penalty.alone) == (player, alone)}
            needs = objective.needs(*networks, augment, player, alone=alone)
            if own or not alone:
                bits = slices({name: penalty.bits(networks.generator.shape) for name, penalty in own.items()})
                name = alone_of(player) if alone else player
                found[name] = Turn(player, needs, before, own, bits, every[player], alone)
            before = needs
    for turn in found.values():
        for use, count in turn.purposes.items():
            if (all_ := count + turn.after.get(use, 0)) > MOST_NUMBERS:
                of_penalties = use in (Purpose.D_TURN_PENALTY, Purpose.G_TURN_PENALTY)
                raise ConfigError(
                    f"{'objective.penalties' if of_penalties else 'networks, augment'}: {use.name.lower()} needs "
                    f"{all_:,} random numbers for one image, and {MOST_NUMBERS:,} is the most. Use smaller images, or "
                    + ("fewer penalties that draw numbers" if of_penalties else "less noise for each pixel")
                )
    return found


def slices(counts: Mapping[str, int]) -> dict[str, slice]:
    """Consecutive slices of these lengths."""
    found, start = {}, 0
    for name, count in counts.items():
        found[name] = slice(start, start + count)
        start += count
    return found
