"""Which classes the user asked for."""

import difflib
from collections.abc import Sequence

from dist_gan.errors import ConfigError

ALL = "all"


def asked_classes(text: str, names: Sequence[str]) -> list[int]:
    """The numbers of the classes in `text`: names or numbers with commas between them, or `all`.

    Args:
        text: from the user; a name that has a comma must be the only one.
        names: of the classes, by number. A name wins over a number.

    Raises:
        ConfigError: one of them is none of the classes.
    """
    if text in names:
        return [names.index(text)]
    if text == ALL:
        return list(range(len(names)))
    return [_number(word.strip(), names) for word in text.split(",")]


def _number(word: str, names: Sequence[str]) -> int:
    if word in names:
        return names.index(word)
    if word.isdecimal() and int(word) < len(names):
        return int(word)
    near = difflib.get_close_matches(word, names, 1)
    shown = ", ".join(names[:10]) + (f", ... ({len(names):,} in all)" if len(names) > 10 else "")
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ConfigError(
        f"classes: expected {ALL}, numbers from 0 to {len(names) - 1:,}, or names ({shown}), got {word!r}{hint}"
    )
