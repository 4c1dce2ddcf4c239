"""Errors that end a run. Each class declares its exit code, and whether all processes raise it at once."""

from typing import ClassVar

INTERRUPTED = 130
"""The exit code of a command that Ctrl-C has ended at once."""


class RunError(Exception):
    """Base of the errors that users see: one message, no traceback, an exit code for each class."""

    exit_code: ClassVar[int] = 1
    """The exit code of the commands."""
    everywhere: bool = False
    """Whether all ranks raise it: then only rank 0 reports it."""
    rank: int | None = None
    """The rank on which it happened, where that is known and another rank raises it too."""
    reports: bool = True
    """Whether this process is the one that reports it."""


class ConfigError(RunError, ValueError):
    """What the user asked for cannot be done; the message says what, where, what was expected and what to do."""

    exit_code = 2
    everywhere = True


class FeaturesMissing(ConfigError):
    """The weights of a feature network are not on this machine. Training goes on without its metrics."""


class EvaluationFailed(RunError, RuntimeError):
    """A metric could not be computed. Training goes on without its numbers."""

    everywhere = True


class CheckpointError(RunError, RuntimeError):
    """No checkpoint can be used where one was expected."""

    exit_code = 3
    everywhere = True


class Diverged(RunError, RuntimeError):
    """The gradients of a player were not finite in many turns in a row. All ranks find this at the same time."""

    exit_code = 4
    everywhere = True


class InputOutputError(RunError, OSError):
    """A disk or a network share failed while a run used it."""

    exit_code = 5


class DataError(InputOutputError):
    """An image that existed at the start cannot be read any more; the message names it and says how to go on."""


class WorkerDied(InputOutputError):
    """A process that reads images died."""


class PeerFailed(RunError, RuntimeError):
    """Another process died, hangs, or cannot be reached."""

    exit_code = 6

    def __init__(self, text: str, *, reports: bool = True) -> None:
        """`reports`: whether this process is the one that reports it."""
        super().__init__(text)
        self.reports = reports


class CheckFailed(RunError, RuntimeError):
    """Debug mode: a check failed."""


def exit_code_of(error: BaseException) -> int:
    """The exit code for an error: as our own errors declare, 5 where input or output failed, else 1 (a defect)."""
    if isinstance(error, RunError):
        return error.exit_code
    return InputOutputError.exit_code if isinstance(error, OSError) else 1
