"""A config as choices, each with its reason, and the YAML that has them: a reason is a comment above its key."""

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from dist_gan.config.reading import write_yaml

COLUMNS = 110


@dataclass(frozen=True)
class Choice:
    """A key of the config."""

    key: str
    """Dotted, as on a command line."""
    value: Any
    """Plain data."""
    reason: str = ""
    """Sentences; empty where a choice before it says enough."""


@dataclass
class _Block:
    comment: str = ""
    inside: dict[str, Any] = field(default_factory=dict)


def draft(head: Sequence[str], choices: Sequence[Choice]) -> str:
    """YAML with `head` at its top, one paragraph a line, and the choices in their order, blocks kept together."""
    root = _Block()
    for choice in choices:
        *path, last = choice.key.split(".")
        block = root
        for key in path:
            block = block.inside.setdefault(key, _Block())
        block.inside[last] = choice
    lines = [line for paragraph in head for line in (_comment(paragraph, 0) if paragraph else ["#"])]
    return "\n".join([*lines, *_lines(root, 0)]) + "\n"


def _lines(block: _Block, depth: int) -> Iterator[str]:
    indent = " " * depth
    for key, inner in block.inside.items():
        if isinstance(inner, _Block):
            yield f"{indent}{key}:"
            yield from _lines(inner, depth + 2)
            continue
        yield from _comment(inner.reason, depth)
        for line in write_yaml({key: inner.value}).splitlines():
            yield indent + re.sub(r"(?<=: )[0-9]{5,}$", lambda digits: f"{int(digits[0]):_}", line)


def _comment(text: str, depth: int) -> list[str]:
    indent = " " * depth
    return textwrap.wrap(
        text,
        COLUMNS,
        initial_indent=f"{indent}# ",
        subsequent_indent=f"{indent}# ",
        break_long_words=False,
        break_on_hyphens=False,
    )
