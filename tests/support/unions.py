"""The kinds of a union of Parts, for contract tests over all of them."""

from typing import Any, get_args

SMALLER: dict[str, dict[str, Any]] = {
    "biggan": {"width": 8},
    "r3gan": {"width": 16},
    "sngan": {"width": 4},
    "stylegan2": {"latent": 16, "style": 16, "mapping_layers": 2, "channel_base": 256, "channel_max": 16},
}
"""Options, by name, of parts that are large without."""


def members(union: Any) -> list[Any]:
    """The classes of a union that is discriminated by `name`."""
    return list(get_args(get_args(union)[0]))


def example(kind: Any) -> Any:
    """A member with its defaults, smaller where they are large."""
    return kind(**SMALLER.get(kind.model_fields["name"].default, {}))
