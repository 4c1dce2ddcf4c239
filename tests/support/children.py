"""Processes that tests start: with the signals of an ordinary shell, and none of them outlives its test.

Every process that the suite starts inherits `SESSION` in its environment, and what `child` starts a mark of its own
too. By these it is found and ended, however it was reparented meanwhile. After the last test the whole session fails
where any is left (`tests/conftest.py`).
"""

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

SESSION = "DIST_GAN_TESTS"
"""Environment variable: the pid of the suite that a process belongs to."""
CHILD = "DIST_GAN_TESTS_CHILD"
"""Environment variable: which `child` a process belongs to."""
SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
Command = Sequence[str | Path]


def mark_session() -> str:
    """From now on children are marked as this session's, or as that of the session which this process works for, and
    start with default signal handlers. Returns the mark.

    What is ignored (by `nohup`, or in the background of a script) is inherited through exec, and what has a handler
    becomes the default there. So here a handler that does nothing takes the place of each that is ignored. What would
    end this process at once interrupts it instead, as Ctrl-C does: then it ends its children.
    """
    for number in SIGNALS:
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
        elif number in (signal.SIGHUP, signal.SIGTERM) and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)
    if "PYTEST_XDIST_WORKER" not in os.environ:
        os.environ[SESSION] = str(os.getpid())
    return os.environ[SESSION]


@contextmanager
def child(command: Command, **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """`subprocess.Popen`. When the block ends, however it does, so does every process that the command started."""
    mark = uuid.uuid4().hex
    env = {**(options.pop("env", None) or os.environ), CHILD: mark}
    process = None
    try:
        process = subprocess.Popen(command, env=env, **options)  # inside: an interrupt may come before it returns
        yield process
    finally:
        end(marked(CHILD, mark))
        if process is not None:
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()


def finished(command: Command, *, timeout: float = 300, **options: Any) -> subprocess.CompletedProcess[str]:
    """`subprocess.run` with what was printed, as text. Where it takes longer than `timeout` seconds nothing of it is
    left either."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    with child(command, **options) as process:
        out, error = process.communicate(timeout=timeout)
    return subprocess.CompletedProcess(command, process.returncode, out, error)


def marked(name: str, value: str) -> list[psutil.Process]:
    """The processes that began with this environment variable, and live."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(name) == value and lives(process):
                found.append(process)
    return found


def lives(process: psutil.Process) -> bool:
    """Whether it runs, and is not one that has ended and was not waited for."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def end(processes: Sequence[psutil.Process]) -> None:
    """Kill them, and wait until they are gone."""
    for process in processes:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(processes, timeout=10)


def left_behind(session: str, patience: float = 10) -> list[str]:
    """What of this session still lives after `patience` seconds: its test and its command line. It is ended then.

    Python's own helper for shared memory ends with the process that it serves.
    """
    deadline = time.monotonic() + patience
    while (left := _left(session)) and time.monotonic() < deadline:
        time.sleep(0.2)
    found = []
    for process in left:
        with suppress(psutil.Error):
            test = process.environ().get("PYTEST_CURRENT_TEST", "unknown test")
            found.append(f"{test}: pid {process.pid}: {' '.join(process.cmdline())[:300]}")
    end(left)
    return found


def _left(session: str) -> list[psutil.Process]:
    forked = psutil.Process().children(recursive=True)  # they have the environment that this process began with
    everything = {process.pid: process for process in [*marked(SESSION, session), *forked] if lives(process)}
    return [process for process in everything.values() if not _is_ours(process)]


def _is_ours(process: psutil.Process) -> bool:
    try:
        line = " ".join(process.cmdline())
    except psutil.Error:
        return True  # it has just ended
    return "multiprocessing.resource_tracker" in line
