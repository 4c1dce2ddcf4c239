"""Where the configs of runs differ. They are read as data: no code that they name is executed."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

ABSENT = "–"
"""Shown where a run's config does not have a key."""
NOT_COMPARED = ("run",)
"""Keys that differ between any two runs."""


def differences(configs: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """(dotted key, its value in each config) for each key whose values are not all the same."""
    flat = [{key: _brief(value) for key, value in _flat(config, "")} for config in configs]
    keys = dict.fromkeys(key for config in flat for key in config if key not in NOT_COMPARED)
    rows = [(key, [config.get(key, ABSENT) for config in flat]) for key in keys]
    return [row for row in rows if len(set(row[1])) > 1]


def _flat(tree: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Dotted keys, down to values that are neither blocks nor lists with blocks."""
    pairs: Iterator[tuple[Any, Any]] = iter(())
    if isinstance(tree, Mapping):
        pairs = iter(tree.items())
    elif isinstance(tree, list) and any(isinstance(item, Mapping | list) for item in tree):
        pairs = iter(enumerate(tree))
    else:
        yield path, tree
    for key, value in pairs:
        yield from _flat(value, f"{path}.{key}" if path else str(key))


def _brief(value: Any) -> str:
    """In one line. Numbers that are equal are written alike."""
    if isinstance(value, str) and value:
        return value
    if isinstance(value, list):
        return f"[{', '.join(map(_brief, value))}]"
    return json.dumps(value, default=str)
