"""The kinds of a union of Parts, for contract tests over all of them."""

from typing import Any, get_args


def members(union: Any) -> list[Any]:
    """The classes of a union that is discriminated by `name`."""
    return list(get_args(get_args(union)[0]))
