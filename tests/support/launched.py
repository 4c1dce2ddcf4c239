"""Runs that are started by the scripts of launch/, as a user types them, and looked at from outside."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from dist_gan.run import checkpoint
from tests.support.children import child
from tests.support.commands import ROOT
from tests.support.runs import SMALL, wait_for

ENDLESS = [*SMALL, "images=100000000", "save.every=100000000"]


@contextmanager
def started(
    folder: Path, name: str, *arguments: str, inside: Sequence[str | Path] = (), **env: str
) -> Iterator[subprocess.Popen[str]]:
    """A script of launch/, on the CPU and in `folder`; whatever it started ends with the block. `inside` begins the
    command."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # where there is no .venv
    command = [*inside, ROOT / "launch" / name, *arguments]
    env = {**os.environ, "PATH": path, "CUDA_VISIBLE_DEVICES": "", **env}
    with child(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        yield process


def done(folder: Path, name: str, *arguments: str, **env: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr)"""
    with started(folder, name, *arguments, **env) as process:
        out, error = process.communicate(timeout=120)
    return process.returncode, out, error


def begun(run: Path) -> None:
    """Wait for its first metrics."""
    wait_for((run / "metrics.jsonl").exists)


def saved(run: Path) -> None:
    """Wait for its first checkpoint."""
    wait_for(lambda: checkpoint.existing(run / "checkpoints"))


def status(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "status.json").read_text()))


def free_port() -> str:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return str(s.getsockname()[1])


def ranks_of(launcher: int) -> dict[int, psutil.Process]:
    """Rank -> process, of a launcher's pid."""
    return {int(process.environ()["RANK"]): process for process in psutil.Process(launcher).children()}


def left_of(run: Path) -> list[str]:
    """The command lines of processes that still work on a run."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or ())
        if f"run={run}" in line and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
            found.append(line)
    return found


def assert_nothing_left(run: Path) -> None:
    """Soon, no process of the run is left."""
    wait_for(lambda: not left_of(run), 30)
