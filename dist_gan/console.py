"""What a person sees in the terminal: a table, a bar (or plain lines in a log file), a summary. Only rank 0 speaks."""

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from rich.console import Console as RichConsole
from rich.console import RenderableType
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from dist_gan.formatting import duration

PLAIN_SECONDS = 30.0
"""Between two plain lines."""
MARKS = {"ok": "green", "advice": "yellow", "problem": "red"}


class Console:
    """Rank 0's voice; on other ranks it is silent."""

    def __init__(self, *, speaks: bool, style: str = "auto") -> None:
        """`auto`: a bar in a terminal, plain lines in a log file and under SLURM."""
        self.out = RichConsole(quiet=not speaks, highlight=False, soft_wrap=True)
        if not self.out.is_terminal:
            self.out.width = 200  # a log file has no edge to wrap paths at
        in_terminal = self.out.is_terminal and not os.environ.get("SLURM_JOB_ID")
        self.bar = speaks and (style == "bar" or (style == "auto" and in_terminal))
        self._progress: Progress | None = None
        self._said = 0.0
        self._warned: set[str] = set()

    def table(self, title: str, rows: Sequence[tuple[str, str]]) -> None:
        """A titled list of facts."""
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
        """A row of a table that is told while it is found; `mark` is ok, advice, problem or another word."""
        table = Table(show_header=False, box=None, padding=(0, 2, 0, 0), pad_edge=False)
        table.add_column(width=10, no_wrap=True, style="bold" if self.bar else None)
        table.add_column(width=7, no_wrap=True, style=MARKS.get(mark))
        table.add_column(overflow="fold")
        table.add_row(name, mark, escape(text))
        self._print(table)

    def say(self, text: str) -> None:
        """A line."""
        self._print(escape(text))

    def warn(self, text: str) -> None:
        """A warning, once however often it is given."""
        if text not in self._warned:
            self._warned.add(text)
            self._print(f"[yellow]warning:[/yellow] {escape(text)}")

    def start(self, images_seen: int, images: int) -> None:
        """Training begins."""
        self._said = time.monotonic()
        if self.bar:
            self._progress = Progress(
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.description}"),
                TimeRemainingColumn(),
                console=self.out,
                refresh_per_second=4,
            )
            self._task = self._progress.add_task("images", completed=images_seen, total=images)
            self._progress.start()

    def progress(self, images_seen: int, images: int, metrics: Mapping[str, float], checkpoint: str) -> None:
        """How far, how fast, how it goes."""
        rate = metrics["images_per_second"]
        text = f"{rate:,.0f} images/s  D {metrics['D/loss']:.3f}  G {metrics['G/loss']:.3f}"
        if checkpoint:
            text += f"  saved {checkpoint}"
        if self._progress is not None:
            self._progress.update(self._task, completed=min(images_seen, images), description=text)
        elif time.monotonic() - self._said >= PLAIN_SECONDS:
            self._said = time.monotonic()
            left = duration((images - images_seen) / rate) if rate else "?"
            self._print(f"{images_seen:,} of {images:,} images  {escape(text)}  {left} left")

    def reading(self, what: str, done: int, total: int) -> None:
        """How far the reading of many files is."""

    def advance(self, images_seen: int) -> None:
        """An update is done: the bar moves. Nothing is asked of the device."""
        if self._progress is not None:
            self._progress.update(self._task, completed=images_seen)

    def stop(self) -> None:
        """Training ends, however."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _print(self, what: RenderableType) -> None:
        """A log on a disk that takes nothing more ends no run."""
        with suppress(OSError):
            self.out.print(what)
