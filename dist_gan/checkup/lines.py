"""A line of the doctor's table, and how all ranks agree on it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TypeVar

from dist_gan.console import Console
from dist_gan.distributed.launch import is_peer_failure
from dist_gan.distributed.processes import Processes
from dist_gan.errors import CheckpointError, ConfigError

T = TypeVar("T")


class Mark(IntEnum):
    """The mark of a line; the larger, the worse."""

    OK = 0
    SKIPPED = 1
    ADVICE = 2
    PROBLEM = 3


@dataclass(frozen=True)
class Line:
    """What was found; and what to do, where there is advice or a problem."""

    found: str
    mark: Mark = Mark.OK
    advice: str = ""


class Problem(Exception):
    """A line cannot give what later lines need; holds the line that says why."""

    def __init__(self, found: str, advice: str) -> None:
        """`found`: the problem; `advice`: what to do."""
        super().__init__(found)
        self.line = Line(found, Mark.PROBLEM, advice)


class Checkup:
    """Line after line, by all ranks together. A failure on one rank is known to all, so that none waits for it."""

    def __init__(self, processes: Processes, hosts: Sequence[str], console: Console) -> None:
        """`hosts`: each rank's."""
        self.processes = processes
        self.hosts = hosts
        self.console = console
        self.lines: dict[str, Line] = {}
        self.has: set[str] = set()
        """The lines that succeeded on all ranks, so that others can use their results."""

    def part(self) -> None:
        """From now on this rank examines alone."""
        self.processes = self.processes.alone()
        self.hosts = self.hosts[:1]

    @property
    def verdict(self) -> Mark:
        """The worst of all lines."""
        return max((line.mark for line in self.lines.values()), default=Mark.OK)

    def look(self, name: str, examine: Callable[[], tuple[Line, T]], needs: Sequence[str] = ()) -> T | None:
        """A line that each rank examines by itself: `examine` must not communicate, and may fail on any rank.

        Returns:
            What came with the line; None on all ranks where one failed, or where a line that it `needs` did.
        """
        if (missing := self._missing(name, needs)) is not None:
            self._show(name, missing)
            return None
        value: T | None = None
        try:
            line, value = examine()
            there = True
        except Exception as error:
            line, there = failure(name, error), False
        gathered = self.processes.gather((line, there))
        self._show(name, merged([line for line, _ in gathered], self.hosts))
        if not all(there for _, there in gathered):
            return None
        self.has.add(name)
        return value

    def measure(self, name: str, examine: Callable[[], tuple[Line, T]], needs: Sequence[str] = ()) -> T | None:
        """A line that all ranks examine together: `examine` communicates, and a failure on one rank ends all."""
        if (missing := self._missing(name, needs)) is not None:
            self._show(name, missing)
            return None
        if self.processes.count == 1:
            return self.look(name, examine)
        line, value = examine()
        self._show(name, line)
        self.has.add(name)
        return value

    def look_on_rank_0(self, name: str, examine: Callable[[], Line], needs: Sequence[str] = ()) -> None:
        """A line that rank 0 examines alone. Only other lines of rank 0 alone may need it."""
        self.look(name, lambda: (examine() if self.processes.is_first else Line(""), None), needs)

    def _missing(self, name: str, needs: Sequence[str]) -> Line | None:
        missing = [need for need in needs if need not in self.has]
        return Line(f"not examined: see {' and '.join(missing)}", Mark.SKIPPED) if missing else None

    def _show(self, name: str, line: Line) -> None:
        self.lines[name] = line
        if line.found:
            self.console.row(name, "-" if line.mark is Mark.SKIPPED else line.mark.name.lower(), line.found)


def merged(lines: Sequence[Line], hosts: Sequence[str]) -> Line:
    """The worst of all ranks' lines, with the ranks where it was found if not on all."""
    worst = max(line.mark for line in lines)
    ranks = [rank for rank, line in enumerate(lines) if line.mark == worst]
    line = lines[ranks[0]]
    if worst is Mark.OK or len(ranks) == len(lines) or (ranks == [0] and not any(line.found for line in lines[1:])):
        return line
    where = ", ".join(f"{rank} ({hosts[rank]})" for rank in ranks[:4]) + (", ..." if len(ranks) > 4 else "")
    return replace(line, found=f"on rank{'s' if len(ranks) > 1 else ''} {where}: {line.found}")


def failure(name: str, error: Exception) -> Line:
    """The line of a problem that was raised: the first sentence is what was found, the others are what to do."""
    if isinstance(error, Problem):
        return error.line
    text = str(error).strip().removeprefix(f"{name.split(maxsplit=1)[0]}: ") or type(error).__name__
    if isinstance(error, ConfigError | CheckpointError):
        found, _, advice = text.partition("\n" if "\n" in text else ". ")
        return Line(found, Mark.PROBLEM, advice or found)
    if isinstance(error, OSError):
        return Line(
            text, Mark.PROBLEM, f"the system says: {error.strerror or text}. Training would fail in the same way"
        )
    if is_peer_failure(error):
        raise error
    first = text.splitlines()[0]
    return Line(
        f"{type(error).__name__}: {first}", Mark.PROBLEM, "training would fail in the same way; debug=true shows more"
    )
