"""Ranks without a launcher: children of this process, which has imported torch once for all of them."""

import ctypes
import os
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import IO, NoReturn

import torch

from dist_gan.distributed.launch import leave

DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def forked(count: int, action: Callable[[], object], *, timeout: float) -> None:
    """Run `action` on `count` ranks under gloo, one thread each, and wait for them.

    None of them is left behind: all are killed when one fails, after `timeout` seconds, and when this process is
    interrupted or killed. This process must not have had threads of its own (a fork copies none): no backward, and
    OMP_NUM_THREADS=1 before torch was imported.

    Raises:
        RuntimeError: one failed, or they took too long; with what the ranks printed.
    """
    with tempfile.TemporaryFile() as said:
        running: list[int] = []
        group = 0
        worlds = _worlds(count)
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            for world in worlds:
                running.append(_fork(world, action, said))
                os.setpgid(running[-1], group or running[-1])  # one group, so that what they start ends with them
                group = group or running[-1]
            problem = _wait(running, time.monotonic() + timeout)
        finally:
            for pid in running:
                os.kill(pid, signal.SIGKILL)
            if running and group:
                with suppress(ProcessLookupError):
                    os.killpg(group, signal.SIGKILL)
            for pid in running:
                os.waitpid(pid, 0)
        if problem:
            said.seek(0)
            raise RuntimeError(f"of {count} ranks, {problem}:\n{said.read().decode(errors='replace')[-4000:]}")


def _wait(running: list[int], deadline: float) -> str:
    """Take away from `running` what has ended. Returns what went wrong; empty where all ended well."""
    while running:
        for pid in running.copy():
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                running.remove(pid)
                if status:
                    return f"one ended with exit code {os.waitstatus_to_exitcode(status)}"
        if time.monotonic() > deadline:
            return f"{len(running)} were not done in time"
        time.sleep(0.01)
    return ""


def _fork(world: dict[str, str], action: Callable[[], object], said: IO[bytes]) -> int:
    parent = os.getpid()
    return os.fork() or _rank(world, action, said, parent)


def _rank(world: dict[str, str], action: Callable[[], object], said: IO[bytes], parent: int) -> NoReturn:
    code = 1
    try:
        ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
        if os.getppid() != parent:
            leave(1)
        os.environ.update(world)
        os.dup2(said.fileno(), sys.__stdout__.fileno())  # type: ignore[union-attr]  # it is there in a command
        os.dup2(said.fileno(), sys.__stderr__.fileno())  # type: ignore[union-attr]
        torch.set_num_threads(1)
        action()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        leave(code)


def _worlds(count: int) -> list[dict[str, str]]:
    """What a launcher would put into the environment of each rank."""
    if count == 1:
        return [{"ACCELERATE_USE_CPU": "true"}]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    everyone = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1"}
    everyone |= {"MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
    return [{**everyone, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
