"""Errors that a run ends with. Each class declares its exit code, and how many processes meet it at once."""

from typing import ClassVar


class RunError(Exception):
    """Base of the errors that users meet: one message, no traceback, an exit code of its own."""

    exit_code: ClassVar[int] = 1
    """What the commands end with."""
    everywhere: bool = False
    """Whether all ranks raise it alike: then rank 0 alone reports it."""
    rank: int | None = None
    """The rank that it happened on, where that is known and another one raises it too."""
    reports: bool = True
    """Whether this process is the one that reports it."""


class ConfigError(RunError, ValueError):
    """What the user asked for cannot be done; the message says what, where, what was expected and what to do."""

    exit_code = 2
    everywhere = True


class CheckpointError(RunError, RuntimeError):
    """There is no checkpoint that can be used, where one was expected."""

    exit_code = 3
    everywhere = True


class Diverged(RunError, RuntimeError):
    """The gradients of a player were not finite, turn after turn. All ranks find it at the same time."""

    exit_code = 4
    everywhere = True


class InputOutputError(RunError, OSError):
    """A disk or a share failed while a run used it."""

    exit_code = 5


class DataError(InputOutputError):
    """An image that was there at the start can no longer be read; the message names it and says how to go on."""


class PeerFailed(RunError, RuntimeError):
    """Another process died, hangs, or cannot be reached."""

    exit_code = 6

    def __init__(self, text: str, *, reports: bool = True) -> None:
        """`reports`: whether this process is the one that reports it."""
        super().__init__(text)
        self.reports = reports


class CheckFailed(RunError, RuntimeError):
    """Debug mode: something that must hold in every run does not hold."""


def exit_code_of(error: BaseException) -> int:
    """What a command ends with: declared by our own errors, 5 where input or output failed, else 1 (a defect)."""
    if isinstance(error, RunError):
        return error.exit_code
    return InputOutputError.exit_code if isinstance(error, OSError) else 1
