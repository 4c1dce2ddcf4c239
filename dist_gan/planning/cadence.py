"""Which penalties are due in an update, and how often: an update costs what is due in it."""

import math
from collections import Counter

from dist_gan.config.schema import Config
from dist_gan.game.turn import MOVERS, Mover
from dist_gan.optim.schedules import Constant, Linear

LONGEST_PERIOD = 4096
"""Updates in which penalties that are due now and then are looked for."""
LOOKS = 1000
"""Places of a run at which the schedule of a penalty is looked at."""
NEVER = Linear(start=0.0, final=0.0, end=1)

Due = tuple[int, ...]
"""In how many turns of an update each penalty is due, in the order of the config."""


def steady(config: Config) -> Config:
    """The same with penalties that only `every` turns on and off. One that its schedule turns on anywhere in the run is
    on in all of it: an update is planned with all that the run will ever ask of one."""
    places = [config.images * look // LOOKS for look in range(LOOKS + 1)]
    penalties = tuple(
        penalty.model_copy(update={"schedule": Constant() if any(map(penalty.schedule.factor, places)) else NEVER})
        for penalty in config.objective.penalties
    )
    return config.model_copy(update={"objective": config.objective.model_copy(update={"penalties": penalties})})


def due(config: Config, seen: int) -> Due:
    """What is due in the update that begins at `seen` images."""
    turns, batch = config.discriminator_turns, config.batch_size
    places = {"D": [(seen + number * batch, batch) for number in range(turns)], "G": [(seen, turns * batch)]}
    return tuple(
        sum(bool(penalty.strength(*place)) for place in places[penalty.of]) for penalty in config.objective.penalties
    )


def kinds(config: Config) -> dict[Due, float]:
    """The kinds of updates, by what is due in them -> the share of all updates; the most frequent comes first. The
    config must be `steady`."""
    per_update = config.discriminator_turns * config.batch_size
    every = [penalty.every for penalty in config.objective.penalties if penalty.every]
    period = min(LONGEST_PERIOD, math.lcm(per_update, *every) // per_update)
    found = Counter(due(config, update * per_update) for update in range(period))
    return {kind: number / period for kind, number in found.most_common()}


def example(config: Config, batch: int, kind: Due) -> int:
    """The images seen before an update of this kind, one of `kinds`, by a game of `on_made_up` with such a batch."""
    per_update = config.discriminator_turns * config.batch_size
    numbers = range(LONGEST_PERIOD)
    first = next(number for number in numbers if due(config, number * per_update) == kind)
    return first * config.discriminator_turns * batch


def moves(config: Config) -> dict[Mover, float]:
    """How often each player moves in an update: each time its gradients are reduced. Penalties may move alone."""
    config = steady(config)
    found: dict[Mover, float] = {"D": config.discriminator_turns, "G": 1}
    for kind, share in kinds(config).items():
        for name in MOVERS:
            alone = [n for n, p in zip(kind, config.objective.penalties, strict=True) if p.alone and p.of == name]
            found[name] += share * max(alone, default=0)
    return found
