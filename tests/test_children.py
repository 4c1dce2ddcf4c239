"""What the tests promise of the processes that they start: ordinary signals, and nothing left."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.children import CHILD, SESSION, SIGNALS, child, finished, mark_session, marked
from tests.support.commands import ROOT
from tests.support.runs import wait_for

SLEEPER = [sys.executable, "-c", "import time; time.sleep(1000)"]
GRANDPARENT = [
    *(sys.executable, "-c"),
    f"import subprocess; subprocess.Popen({SLEEPER!r}, start_new_session=True); print('begun', flush=True)",
]
"""Ends at once, and leaves a process in a session of its own, which nobody's child is any more."""


def _own_session() -> dict[str, str]:
    """The environment of a suite that is nobody's worker."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    return {**environment, "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize("number", SIGNALS)
def test_children_start_with_default_signals_though_they_are_ignored_here(number: int) -> None:
    """As under nohup, or in the background of a script. This process does not end by them either."""
    show = f"import signal; print(signal.getsignal({int(number)}) in (signal.SIG_DFL, signal.default_int_handler))"
    before = signal.signal(number, signal.SIG_IGN)
    try:
        assert finished([sys.executable, "-c", show]).stdout == "False\n"
        mark_session()
        assert finished([sys.executable, "-c", show]).stdout == "True\n"
        signal.raise_signal(number)
    finally:
        signal.signal(number, before)


def test_all_of_a_child_ends_with_its_block_whatever_happened() -> None:
    with pytest.raises(KeyError), child(GRANDPARENT, stdout=subprocess.PIPE) as process:  # noqa: PT012
        assert process.stdout
        assert process.stdout.readline() == b"begun\n"
        process.wait()
        mark = next(p.environ()[CHILD] for p in marked(SESSION, os.environ[SESSION]) if p.cmdline() == SLEEPER)
        raise KeyError
    assert marked(CHILD, mark) == []


@pytest.mark.slow
def test_a_suite_that_is_terminated_ends_its_children(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_sessionfinish\n")
    (tmp_path / "test_it.py").write_text(
        f"from tests.support.children import finished\ndef test_one(): finished({SLEEPER!r})\n"
    )
    suite = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", tmp_path]
    with child(suite, env=_own_session(), cwd=tmp_path, stdout=subprocess.DEVNULL) as inner:
        own = str(inner.pid)
        wait_for(lambda: any(process.cmdline() == SLEEPER for process in marked(SESSION, own)))
        inner.terminate()
        assert inner.wait(60) == pytest.ExitCode.INTERRUPTED
        assert marked(SESSION, own) == []


def test_what_takes_too_long_is_ended_too() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        finished(SLEEPER, timeout=0.5)
    assert not [process for process in marked(SESSION, os.environ[SESSION]) if process.cmdline() == SLEEPER]


@pytest.mark.slow
@pytest.mark.parametrize("leaves", [True, False])
def test_a_session_that_leaves_a_process_fails_and_names_the_test(tmp_path: Path, leaves: bool) -> None:
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_sessionfinish\n")
    start = f"import subprocess\ndef test_one(): subprocess.run({GRANDPARENT!r})\n"
    (tmp_path / "test_it.py").write_text(start if leaves else "def test_one(): pass\n")
    suite = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", tmp_path]
    inner = finished(suite, env=_own_session(), cwd=tmp_path)
    assert "1 passed" in inner.stdout, inner.stdout + inner.stderr
    assert inner.returncode == leaves
    assert ("processes that tests have left behind" in inner.stderr) == leaves
    assert ("test_it.py::test_one (call): pid " in inner.stderr) == leaves
