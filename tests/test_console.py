import io
import os
import pty
import sys
from pathlib import Path

import pytest
from rich.console import Console as RichConsole

from dist_gan import console
from dist_gan.console import Console
from dist_gan.formatting import duration
from tests.support.children import child
from tests.support.commands import ROOT
from tests.support.runs import SMALL

METRICS = {"images_per_second": 1000.0, "D/loss": 1.25, "G/loss": 0.75}


def test_plain_lines_at_a_sane_cadence(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    out = Console(speaks=True)
    assert not out.bar
    out.start(0, 100_000)
    for second in range(1, 100):
        now = float(second)
        out.advance(second * 1000)
        if second == 8:
            out.progress(second * 1000, 100_000, METRICS, "images-5")
    now = 200.0
    out.advance(100_000)
    assert capsys.readouterr().out.splitlines() == [
        "5,000 of 100,000 images (5%)  1,000 images/s  2 min left",
        "35,000 of 100,000 images (35%)  1,000 images/s  D 1.250  G 0.750  saved images-5  65 s left",
        "65,000 of 100,000 images (65%)  1,000 images/s  D 1.250  G 0.750  saved images-5  35 s left",
        "95,000 of 100,000 images (95%)  1,000 images/s  D 1.250  G 0.750  saved images-5  5 s left",
        "100,000 of 100,000 images (100%)  10 images/s  D 1.250  G 0.750  saved images-5",
    ]


def test_reading_many_files_is_seen(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    out = Console(speaks=True)
    out.reading("reading images", 300, 300)  # a small folder: nothing to see
    for second in range(20):
        now = float(second)
        out.reading("reading images", 1000 * second, 20_000)
    out.reading("reading images", 20_000, 20_000)
    assert capsys.readouterr().out == ("reading images  5,000 of 20,000 files (25%)  1,000 files/s  15 s left\n")


def test_the_end_is_known_after_the_first_update_and_the_slow_start_does_not_count() -> None:
    clock = iter([0.0, 8.0, 8.5, 9.0, 9.5])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(console.time, "monotonic", lambda: next(clock))
        progress = console.Progress(0, 100_000)
        progress.advance(64)
        assert progress.left == "3 h 28 min left"
        for done in (1064, 2064, 3064):
            progress.advance(done)
        assert progress.rate == 2000
        assert progress.left == "48 s left"
    progress.done = 100_000
    assert progress.left == ""


@pytest.mark.parametrize("width", [40, 60, 80, 150])
def test_the_bar_fits_the_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    out = Console(speaks=True, style="bar")
    out.out = RichConsole(width=width, file=io.StringIO(), force_terminal=True, soft_wrap=True)
    out.start(0, 3_000_000_000)
    for second in range(1, 100):
        now = float(second)
        out.progress(1_234_567 * second, 3_000_000_000, METRICS, "images-000123456789")
    assert out._shown is not None
    shown = RichConsole(width=width, file=io.StringIO())
    shown.print(out._shown)
    lines = shown.file.getvalue().splitlines()  # type: ignore[attr-defined]
    out.stop()
    assert len(lines) == 2, lines
    assert "4%" in lines[0]
    assert "122,222,133 of 3,000,000,000" in lines[0]
    assert ("39 min left" in lines[0]) == (width >= 60)
    assert ("2 min elapsed, 39 min left" in lines[0]) == (width >= 80)
    assert "1,234,567 images/s" in lines[1]
    assert ("D 1.250  G 0.750" in lines[1]) == (width >= 40)
    assert ("saved" in lines[1]) == ("saved images-000123456789" in lines[1]) == (width >= 80)


def test_other_ranks_are_silent(capsys: pytest.CaptureFixture[str]) -> None:
    out = Console(speaks=False, style="bar")
    out.start(0, 10)
    out.say("x")
    out.warn("y")
    out.table("t", [("a", "b")])
    out.progress(5, 10, METRICS, "")
    out.stop()
    assert capsys.readouterr().out == ""


def test_a_warning_is_given_once_and_markup_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    out = Console(speaks=True)
    for _ in range(3):
        out.warn("[1, 2] is no list")
    assert capsys.readouterr().out == "warning: [1, 2] is no list\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(3, "3 s"), (89, "89 s"), (120, "2 min"), (7260, "2 h 1 min"), (200_000, "2 d 8 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def in_terminal(tmp_path: Path, **env: str) -> str:
    """What a run prints when its output is a terminal."""
    ours, theirs = pty.openpty()
    with child(
        [sys.executable, "-m", "dist_gan.train", *SMALL, f"run={tmp_path}/a", "images=6400"],
        cwd=ROOT,
        stdout=theirs,
        stderr=theirs,
        stdin=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "150", **env},
    ) as process:
        os.close(theirs)
        seen = io.BytesIO()
        while True:
            try:
                seen.write(os.read(ours, 65536))
            except OSError:
                break
        os.close(ours)
        assert process.wait() == 0
    return seen.getvalue().decode()


@pytest.mark.slow
def test_a_bar_in_a_terminal_and_lines_under_slurm(tmp_path: Path) -> None:
    text = in_terminal(tmp_path / "bar")
    assert "6,400 of 6,400" in text
    assert "images/s" in text
    assert "\x1b[" in text
    text = in_terminal(tmp_path / "slurm", SLURM_JOB_ID="7")
    assert "6,400 of 6,400" not in text
    assert "finished" in text
