"""The arguments of a command: `COMMAND WHAT [key=value ...]`. Options are declared; a mistake is one message.

OPTIONS = {"count": Whole(64, least=1), "out": Text("samples.png"), "trust_code": Flag()}

def main(arguments: Sequence[str] | None = None) -> int:
    return run_command("dist_gan.sample", USAGE, _work, arguments)

def _work(arguments: Sequence[str]) -> str:
    options = read_options(arguments[1:], OPTIONS)
"""

import difflib
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dist_gan.errors import ConfigError, RunError


@dataclass(frozen=True)
class Option(ABC):
    """What may stand behind `key=`."""

    default: Any
    """The value where the key is not given; None where that itself has a meaning."""
    example: str = field(default="", kw_only=True)
    """Text that could stand there, for messages; empty: the default."""

    @abstractmethod
    def read(self, key: str, text: str) -> Any:
        """The value of `text`. Raises ConfigError; ValueError where something like the example is expected."""

    @property
    def shown(self) -> str:
        """The example as text."""
        return self.example or str(self.default)


@dataclass(frozen=True)
class Text(Option):
    """Any text but an empty one."""

    default: str | None

    def read(self, key: str, text: str) -> str:
        if not text:
            raise ValueError
        return text


@dataclass(frozen=True)
class Whole(Option):
    """A whole number from `least` to `most`."""

    default: int | None
    least: int = 0
    most: int = 2**63 - 1

    def read(self, key: str, text: str) -> int:
        if not (text.isascii() and text.isdecimal()):
            raise ValueError
        # Longer than any limit: Python itself refuses to read a text of some thousand digits.
        number = int(text) if len(text) < 100 else self.most + 1
        if number > self.most:
            raise ConfigError(f"{key}: at most {self.most:,}, got {text[:100]}")
        if number < self.least:
            raise ConfigError(f"{key} must be at least {self.least:,}, got {text}")
        return number


@dataclass(frozen=True)
class Number(Option):
    """A number from `least` to `most`."""

    default: float | None
    least: float = 0.0
    most: float = 1.0

    def read(self, key: str, text: str) -> float:
        number = float(text)
        if not self.least <= number <= self.most:
            raise ConfigError(f"{key}: expected a number from {self.least:g} to {self.most:g}, got {text}")
        return number


@dataclass(frozen=True)
class Flag(Option):
    """`true` or `false`."""

    default: bool = False

    @property
    def shown(self) -> str:
        return str(self.default).lower()

    def read(self, key: str, text: str) -> bool:
        if text not in ("true", "false"):
            raise ConfigError(f"{key}: expected true or false, got {text!r}")
        return text == "true"


def read_options(arguments: Sequence[str], options: Mapping[str, Option]) -> dict[str, Any]:
    """The value of every option: what was given (of several the last), else its default.

    Raises:
        ConfigError: a key is none of `options` (the nearest is named), or its value cannot be used.
    """
    values = {key: option.default for key, option in options.items()}
    for argument in arguments:
        key, _, text = argument.partition("=")
        if key not in options:
            near = difflib.get_close_matches(key, options, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            there = ", ".join(f"{name}={option.shown}" for name, option in options.items())
            raise ConfigError(f"{argument!r}: expected one of {there}{hint}")
        try:
            values[key] = options[key].read(key, text)
        except ConfigError:
            raise
        except ValueError:
            raise ConfigError(f"{key}: expected something like {key}={options[key].shown}, got {argument!r}") from None
    return values


def run_command(
    name: str, usage: str, work: Callable[[Sequence[str]], str], arguments: Sequence[str] | None = None
) -> int:
    """A command from its arguments to its exit code.

    Args:
        name: before each message of an error.
        usage: what `--help` prints, and a call without arguments.
        work: gets the arguments, at least one, and returns what is printed at the end. A RunError ends the command with
            its message on stderr and its exit code.
        arguments: None: those of this process.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or {"-h", "--help"} & set(arguments):
        print(usage, end="", file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    try:
        said = work(arguments)
    except RunError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return error.exit_code
    if said:
        print(said)
    return 0
