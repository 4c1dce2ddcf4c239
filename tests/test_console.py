import io
import os
import pty
import sys
from pathlib import Path

import pytest

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
    for second in range(100):
        now = float(second)
        out.progress(second * 1000, 100_000, METRICS, "images-5")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0] == "30,000 of 100,000 images  1,000 images/s  D 1.250  G 0.750  saved images-5  70 s left"


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


def test_a_bar_in_a_terminal_and_lines_under_slurm(tmp_path: Path) -> None:
    text = in_terminal(tmp_path / "bar")
    assert "6400/6400" in text
    assert "images/s" in text
    assert "\x1b[" in text
    text = in_terminal(tmp_path / "slurm", SLURM_JOB_ID="7")
    assert "6400/6400" not in text
    assert "finished" in text
