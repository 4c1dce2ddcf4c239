"""Nodes that do not come together: said in one message, in time, and signals are answered meanwhile."""

import signal
import socket
import time
from pathlib import Path

import psutil
import pytest

from tests.support.launched import done, free_port, started
from tests.support.runs import SMALL, wait_for


def nodes(rank: int, port: str) -> list[str]:
    return ["--nodes", "2", "--rank", str(rank), "--head", "127.0.0.1", "--port", port, "-n", "1", *SMALL, "images=64"]


@pytest.mark.parametrize(("rank", "expected"), [(1, "(Connection refused)"), (0, "not all 2 nodes reached 127.0.0.1:")])
def test_a_node_alone_ends_after_timeout_and_names_the_heads_address(rank: int, expected: str, tmp_path: Path) -> None:
    port = free_port()
    code, out, error = done(tmp_path, "multi_node.sh", *nodes(rank, port), "timeout=5", "run=a")
    assert (code, out) == (6, "")
    assert expected in error
    assert f"127.0.0.1:{port}" in error
    assert "in 5 s" in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_node_that_waits_for_the_others_answers_signals(rank: int, number: int, tmp_path: Path) -> None:
    port = free_port()
    with started(tmp_path, "multi_node.sh", *nodes(rank, port), "run=a") as launcher:
        process = psutil.Process(launcher.pid)
        # What waits for other nodes has a thread beside the main one.
        wait_for(lambda: "launcher.py" in " ".join(process.cmdline()) and process.num_threads() > 1)
        launcher.send_signal(number)
        begun = time.monotonic()
        out, error = launcher.communicate(timeout=60)
        assert time.monotonic() - begun < 10, "at once, where the wait itself would take 600 s"
    assert (launcher.returncode, out, error) == (128 + number, "", "")
    assert list(tmp_path.iterdir()) == []


def test_a_port_in_use_is_one_message(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        port = str(other.getsockname()[1])
        code, out, error = done(tmp_path, "multi_node.sh", *nodes(0, port), "run=a")
    assert (code, out) == (2, "")
    assert error.startswith(f"launcher: port {port} of this machine cannot be used (Address already in use).")
    assert "--port" in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_head_that_is_something_else_is_no_traceback(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        port = str(other.getsockname()[1])
        code, out, error = done(tmp_path, "multi_node.sh", *nodes(1, port), "timeout=5", "run=a")
    assert (code, out) == (6, "")
    assert f"127.0.0.1:{port}" in error
    assert error.count("\n") == 1, error
