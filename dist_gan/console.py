"""What a person sees in the terminal: a table, a bar (or plain lines in a log file), a summary. Only rank 0 speaks."""

import os
import stat
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress

from rich.console import Console as RichConsole
from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dist_gan.formatting import duration

PLAIN_SECONDS = 30.0
"""Between two plain lines."""
FIRST_SECONDS = 5.0
"""Until the first plain line: by then the time that is left is known."""
WINDOW_SECONDS = 30.0
"""The speed is measured over this time."""
SAMPLE_SECONDS = 0.25
"""Between two points from which the speed is measured."""
MARKS = {"ok": "green", "advice": "yellow", "problem": "red"}


def say_early(text: str) -> None:
    """A line before there is a console, to a terminal or a log file; another program that reads is not disturbed."""
    with suppress(OSError, ValueError, AttributeError):  # a stream that is closed, or none at all
        if sys.stdout.isatty() or stat.S_ISREG(os.fstat(sys.stdout.fileno()).st_mode):
            print(text, flush=True)


class Progress:
    """How far something is, how fast, and when it ends, computed from a count."""

    def __init__(self, first: int, total: int) -> None:
        """`first` of `total` are done before it begins."""
        self.first = first
        self.done = first
        self.total = total
        self.begun = time.monotonic()
        self._points = deque([(self.begun, first)])
        self._starting = True

    def advance(self, done: int) -> None:
        """`done` are done now. Cheap: it is called with every update."""
        self.done = min(done, self.total)
        now = time.monotonic()
        if self._starting and len(self._points) == 2:  # the first step sets everything up, and is slower than others
            self._points.popleft()
            self._starting = False
        if now - self._points[-1][0] >= SAMPLE_SECONDS or len(self._points) == 1:
            self._points.append((now, self.done))
            while len(self._points) > 2 and now - self._points[1][0] >= WINDOW_SECONDS:
                self._points.popleft()

    @property
    def rate(self) -> float:
        """Per second; 0 where it is not known yet."""
        (then, before), (now, done) = self._points[0], self._points[-1]
        return (done - before) / (now - then) if now > then else 0.0

    @property
    def fraction(self) -> str:
        """In percent, rounded down: 100% means that all is done."""
        return f"{100 * self.done // max(1, self.total)}%"

    @property
    def left(self) -> str:
        """`12 min left`; empty where it is not known, or nothing is left."""
        rate, left = self.rate, self.total - self.done
        return f"{duration(left / rate)} left" if rate and left else ""

    @property
    def elapsed(self) -> str:
        """The time since it began."""
        return duration(time.monotonic() - self.begun)


class _Bar:
    """What is redrawn all the time: a bar with its numbers, and a line below it."""

    def __init__(self, progress: Progress, what: str, unit: str, console: RichConsole) -> None:
        """`what` is being done, counted in `unit`; `what` is empty where the unit says enough."""
        self.progress = progress
        self.what = what
        self.unit = unit
        self.console = console
        self.details: Sequence[str] = ()

    def __rich__(self) -> RenderableType:
        own, width = self.progress, self.console.width - 1
        numbers = f" {own.fraction:>4}  {own.done:,} of {own.total:,}"
        left = own.left
        elapsed = f"{own.elapsed} elapsed"
        for times in (f"{elapsed}, {left}" if left else elapsed, left, ""):
            if not times or len(numbers) + 2 + len(times) + 4 <= width:
                numbers += f"  {times}" if times else ""
                break
        bar = Table.grid()
        bar.add_column(width=max(0, min(40, width - len(numbers))))
        bar.add_column(no_wrap=True)
        bar.add_row(ProgressBar(total=max(1, own.total), completed=own.done), Text(numbers))
        line = ""
        for detail in self._below():  # the first ones are the most important
            if len(line) + 2 + len(detail) > width:
                break
            line += ("  " if line else "") + detail
        return Group(bar, Text(line, no_wrap=True)) if line else bar

    def plain(self) -> str:
        """The same as one line of a log file."""
        own = self.progress
        done = f"{own.done:,} of {own.total:,} {self.unit} ({own.fraction})"
        below = self._below()
        head = [below.pop(0)] if self.what else []
        return "  ".join(part for part in [*head, done, *below, own.left] if part)

    def _below(self) -> list[str]:
        rate = self.progress.rate
        speed = f"{rate:,.0f} {self.unit}/s" if rate else ""
        return [part for part in (self.what, speed, *self.details) if part]


class Console:
    """Rank 0's output; other ranks print nothing."""

    def __init__(self, *, speaks: bool, style: str = "auto") -> None:
        """`auto`: a bar in a terminal, plain lines in a log file and under SLURM."""
        self.out = RichConsole(quiet=not speaks, highlight=False, soft_wrap=True)
        if not self.out.is_terminal:
            self.out.width = 200  # a log file has no width at which paths must be wrapped
        in_terminal = self.out.is_terminal and not self.out.is_dumb_terminal and not os.environ.get("SLURM_JOB_ID")
        self.bar = speaks and (style == "bar" or (style == "auto" and in_terminal))
        self._shown: _Bar | None = None
        self._live: Live | None = None
        self._said = 0.0
        self._warned: set[str] = set()

    def table(self, title: str, rows: Sequence[tuple[str, str]]) -> None:
        """A list of facts with a title."""
        table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
        table.add_column(style="bold" if self.bar else None, no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in rows:
            table.add_row(name, escape(value))
        self._print(table)

    def columns(self, titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table with a line of titles."""
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        for title in titles:
            table.add_column(title, overflow="fold")
        for row in rows:
            table.add_row(*map(escape, row))
        self._print(table)

    def row(self, name: str, mark: str, text: str) -> None:
        """A row of a table that is printed row by row; `mark` is ok, advice, problem or another word."""
        table = Table(show_header=False, box=None, padding=(0, 2, 0, 0), pad_edge=False)
        table.add_column(width=10, no_wrap=True, style="bold" if self.bar else None)
        table.add_column(width=7, no_wrap=True, style=MARKS.get(mark))
        table.add_column(overflow="fold")
        table.add_row(name, mark, escape(text))
        self._print(table)

    def say(self, text: str) -> None:
        """A line."""
        self._print(escape(text))

    def urgent(self, text: str) -> None:
        """A line, from a signal's handler: the interrupted code may be in the middle of printing."""
        try:
            self.say(text)
        except RuntimeError:  # a buffered stream cannot be entered again
            with suppress(OSError):
                os.write(self.out.file.fileno(), f"{text}\n".encode())

    def warn(self, text: str) -> None:
        """A warning, printed once, however often it is given."""
        if text not in self._warned:
            self._warned.add(text)
            self._print(f"[yellow]warning:[/yellow] {escape(text)}")

    def reading(self, what: str, done: int, total: int, unit: str = "files") -> None:
        """How far `what` is, such as the reading of many files, before training begins."""
        if done >= total:
            self.stop()
            return
        if self._shown is None or self._shown.what != what:
            self.stop()
            self._show(_Bar(Progress(0, total), what, unit, self.out))
        self.advance(done)

    def working(self, what: str, done: int, total: int) -> None:
        """Training waits while `what` is done: a line below the bar, or now and then one in a log file."""
        if self._shown is None or not what:
            return
        line = f"{what}: {done:,} of {total:,}"
        self._shown.details = [line]
        if not self.bar and time.monotonic() - self._said >= PLAIN_SECONDS:
            self._said = time.monotonic()
            self._print(line)

    def start(self, images_seen: int, images: int) -> None:
        """Training begins."""
        self._show(_Bar(Progress(images_seen, images), "", "images", self.out))

    def progress(self, images_seen: int, images: int, metrics: Mapping[str, float], checkpoint: str) -> None:
        """The newest metrics, and the name of the newest checkpoint."""
        if self._shown is not None:
            saved = [f"saved {checkpoint}"] if checkpoint else []
            self._shown.details = [f"D {metrics['D/loss']:.3f}  G {metrics['G/loss']:.3f}", *saved]
        self.advance(images_seen)

    def advance(self, done: int) -> None:
        """An update is done: the bar moves to the images seen. Nothing is read from the device."""
        if self._shown is None:
            return
        self._shown.progress.advance(done)
        if not self.bar and time.monotonic() - self._said >= PLAIN_SECONDS:
            self._said = time.monotonic()
            self._print(escape(self._shown.plain()))

    def stop(self) -> None:
        """Training ends, for whatever reason."""
        self._shown = None
        live, self._live = self._live, None
        if live is not None:
            with suppress(OSError):
                live.stop()

    def _show(self, bar: _Bar) -> None:
        self._shown = bar
        self._said = time.monotonic() - PLAIN_SECONDS + FIRST_SECONDS
        if self.bar:
            with suppress(OSError):
                self._live = Live(get_renderable=bar.__rich__, console=self.out, refresh_per_second=4)
                self._live.start(refresh=True)

    def _print(self, what: RenderableType) -> None:
        """Print; a log on a full disk does not end a run."""
        with suppress(OSError):
            self.out.print(what)
