"""Learning rates by layer: parameters whose names fit a pattern move by a factor more or less."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

import torch
from pydantic import Field
from torch import Tensor

from dist_gan.errors import ConfigError
from dist_gan.part import Part

SHOWN = 4
"""Names that a message shows."""


class LayerFactor(Part):
    """A factor of the learning rate of some parameters."""

    pattern: str = Field(min_length=1)
    """Names of parameters, where * stands for anything, ? for one character: `mapping.*`, `*.bias`."""
    factor: float = Field(gt=0)
    """Their learning rate is this times that of the others."""


def factors_of(factors: Sequence[LayerFactor], names: Iterable[str], key: str = "factors") -> dict[str, float]:
    """The factor of each parameter: that of the first pattern that fits its name, else 1.

    Raises:
        ConfigError: a pattern fits no name at all, or is never the first; `key` is the config's key of `factors`.
    """
    names = list(names)
    first: dict[str, int] = {}
    for number, each in enumerate(factors):
        fitting = [name for name in names if fnmatchcase(name, each.pattern)]
        if not fitting:
            near = difflib.get_close_matches(each.pattern, names, SHOWN, 0.3) or names[:SHOWN]
            raise ConfigError(
                f"{key}.{number}.pattern: {each.pattern} fits no parameter that moves. Near it are {', '.join(near)}"
            )
        earlier = sorted({first.setdefault(name, number) for name in fitting})
        if number not in earlier:
            before = ", ".join(factors[other].pattern for other in earlier)
            raise ConfigError(
                f"{key}.{number}.pattern: all that {each.pattern} fits is taken by {before} before it, as the first "
                "that fits counts. Put it before, or leave it out"
            )
    return {name: factors[first[name]].factor if name in first else 1.0 for name in names}


def regroup(optimizer: torch.optim.Optimizer, rates: Mapping[Tensor, Tensor]) -> None:
    """Give each parameter a learning rate of its own: one group of parameters for each rate.

    Args:
        optimizer: with one group, whose "lr" it reads at each step.
        rates: parameter -> [], its learning rate; the same tensor for those that share one.
    """
    (whole,) = optimizer.param_groups
    groups = {id(rate): {**whole, "params": [], "lr": rate} for rate in rates.values()}
    for parameter in whole["params"]:
        groups[id(rates[parameter])]["params"].append(parameter)
    optimizer.param_groups[:] = groups.values()
