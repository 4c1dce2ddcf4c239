"""Reading and writing YAML without its surprises: what looks like text is text.

The rules are those of YAML 1.2, as people expect them. `true` and `false` are the only booleans; numbers are decimal
(`010` is ten, `1e-4` and `.5` are numbers, `1_000` is a thousand); a date, `12:30`, `off` and `0x1F` are text; a key
that is there twice is a mistake. A number or boolean remembers how it was written, in case text is expected.
"""

import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, ClassVar

import yaml

from dist_gan.errors import ConfigError

TAG = "tag:yaml.org,2002:"
DIGITS = "[0-9]+(?:_[0-9]+)*"
RULES = (
    ("null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    ("bool", re.compile(r"^(?:true|false)$"), list("tf")),
    ("int", re.compile(rf"^[-+]?{DIGITS}$"), list("-+0123456789")),
    (
        "float",
        re.compile(
            rf"^[-+]?(?:{DIGITS}(?:\.(?:{DIGITS})?)?|\.{DIGITS})(?:[eE][-+]?[0-9]+)?$"
            r"|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"
        ),
        list("-+.0123456789"),
    ),
    ("merge", re.compile(r"^<<$"), ["<"]),
)
"""Tag, pattern, possible first characters. The first pattern that fits decides; everything else is text."""
TEXT_EXPECTED = ("string_type", "path_type", "literal_error")
"""pydantic's errors where text was expected."""


class _WrittenInt(int):
    written: str


class _WrittenFloat(float):
    written: str


class _Refused(yaml.MarkedYAMLError):
    """It is YAML, but not a config."""


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {}  # noqa: RUF012  # PyYAML's way
    yaml_constructors: ClassVar[dict[Any, Any]] = {}

    def mapping(self, node: yaml.Node) -> dict[str, Any]:
        if not isinstance(node, yaml.MappingNode):
            raise _Refused(None, None, "expected keys and values", node.start_mark)
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _Refused(None, None, "a key must be text", key.start_mark)
            if key.value in seen:
                problem = f"the key {key.value!r} is there twice"
                raise _Refused(None, None, problem, key.start_mark)
            seen.add(key.value)
        self.flatten_mapping(node)
        return {key.value: self.construct_object(value, deep=True) for key, value in node.value}

    def sequence(self, node: yaml.Node) -> list[Any]:
        return self.construct_sequence(node, deep=True)  # type: ignore[arg-type]  # it refuses anything else

    def integer(self, node: yaml.Node) -> int:
        number = _WrittenInt(self.construct_scalar(node))  # type: ignore[arg-type]
        number.written = node.value
        return number

    def number(self, node: yaml.Node) -> float:
        text = str(self.construct_scalar(node))  # type: ignore[arg-type]
        number = _WrittenFloat(re.sub(r"\.(?=[iInN])", "", text))
        number.written = text
        return number


for _name, _pattern, _first in RULES:
    _Loader.add_implicit_resolver(TAG + _name, _pattern, _first)
_Loader.yaml_constructors.update(
    {
        TAG + "map": _Loader.mapping,
        TAG + "seq": _Loader.sequence,
        TAG + "str": _Loader.construct_yaml_str,
        TAG + "int": _Loader.integer,
        TAG + "float": _Loader.number,
        TAG + "bool": _Loader.construct_yaml_bool,
        TAG + "null": _Loader.construct_yaml_null,
        None: yaml.SafeLoader.construct_undefined,
    }
)


class _Dumper(yaml.SafeDumper):
    """Quotes what either version of YAML would not read as text."""

    yaml_implicit_resolvers = {k: list(rules) for k, rules in yaml.SafeDumper.yaml_implicit_resolvers.items()}  # noqa: RUF012


for _name, _pattern, _first in RULES:
    _Dumper.add_implicit_resolver(TAG + _name, _pattern, _first)


def read_yaml(text: str) -> Any:
    """The content of `text`. Numbers and booleans can also be read as text: see `as_written`.

    Raises:
        ConfigError: it is not YAML, or has a key twice; the message begins with the line.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        kind = ": " if isinstance(error, _Refused) else " is no YAML: "
        raise ConfigError(f"line {line}{kind}{error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError, KeyError, RecursionError) as error:
        raise ConfigError(f"some line is no YAML: {str(error).splitlines()[0]}") from None


def write_yaml(tree: Any) -> str:
    """Text that `read_yaml`, or any reader of YAML 1.1 or 1.2, reads back unchanged; keys in their order."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, width=120)


def as_written(tree: Any, errors: Iterable[Any]) -> bool:
    """Where pydantic expected text and found a number or a boolean: put the text there as it was written.

    Returns whether there was any.
    """
    found = False
    for error in errors:
        written = _written(error["input"])
        if error["type"] not in TEXT_EXPECTED or written is None:
            continue
        block = tree
        with suppress(KeyError, IndexError, TypeError):  # a place that only pydantic knows
            *path, last = _keys(tree, error["loc"])
            for key in path:
                block = block[key]
            block[last] = written
            found = True
    return found


def _written(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return getattr(value, "written", None)


def _keys(tree: Any, location: Iterable[Any]) -> list[Any]:
    """The keys that lead to a place in `tree`: pydantic's location without the names of union members."""
    keys = []
    for item in location:
        unnamed = isinstance(item, str) and item.startswith("<")
        if unnamed or (isinstance(tree, dict) and item not in tree and tree.get("name") == item):
            continue
        keys.append(item)
        tree = tree[item]
    return keys
