"""`accelerate launch` for several processes, with some repairs (observed with accelerate 1.15, torch 2.14).

- SIGTERM, SIGINT and SIGUSR1 are passed on to the ranks, which save and end; then this ends. accelerate itself would be
  ended by SIGUSR1 and leave orphans, and after a SIGTERM it would kill ranks that still save after 30 seconds.
- Where SIGUSR1 was ignored (slurm/common.sh), one that comes during the start waits for the ranks, and in them until
  they can answer it.
- When a rank has failed, the others have a few seconds to name it. accelerate would wait 30 seconds for a stopped one.
- The exit code is that of the failed rank, with one line at most. accelerate would return 1 and show a traceback.
- Nodes that have ended cleanly do not report that they lost the head node's store, which closes first. torch would show
  a traceback.

torch waits up to ten minutes for the other nodes, in C++, where signals have no effect. So it runs in a thread here,
while the main thread answers signals and ends the wait after the run's `timeout`.
"""

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, NoReturn

import psutil  # accelerate needs it too

os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # read when torch is imported

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the clone that this file is in, installed or not
from dist_gan.distributed.timing import LAUNCHER_SECONDS, SLACK
from dist_gan.distributed.warning import WARNING, keep_warning

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP, signal.SIGQUIT)
UNUSABLE, NOT_MET = 2, 6
"""Exit codes, as in dist_gan/errors.py: a mistake in the launch; another process is not there."""
waiting: deque[int] = deque()
"""Signals to be passed on as soon as the ranks are started."""
early: set[signal.Signals] = set()
"""Signals that wait for the ranks, instead of ending this."""
begun, there = threading.Event(), threading.Event()
"""`begun`: the nodes have met, and the ranks are about to start. `there`: the ranks are started."""


class Nodes(NamedTuple):
    """The nodes, as the command line says."""

    number: int
    rank: int
    head: str
    port: int
    seconds: float
    """How long they may take to meet."""


def main() -> int:
    """Launch as the command line says; returns the exit code of the rank that failed first, or 0."""
    if keep_warning():
        early.update(WARNING)
    for number in SIGNALS:
        ignored = signal.getsignal(number) == signal.SIG_IGN  # as with nohup; the ranks inherit it
        if not ignored or number in early:
            signal.signal(number, answer)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, early)
    if sys.stdout.isatty():
        print("launching", flush=True)  # what follows takes seconds, and a person should see that something happens
    from accelerate.commands.launch import launch_command, launch_command_parser

    arguments = launch_command_parser().parse_args()
    nodes = Nodes(
        arguments.num_machines or 1,
        arguments.machine_rank or 0,
        arguments.main_process_ip or "127.0.0.1",
        arguments.main_process_port or 0,
        timeout_of(arguments.training_script_args),
    )
    if nodes.rank == 0 and (problem := cannot_listen(nodes.port)):
        print(f"launcher: {problem}", file=sys.stderr)
        return UNUSABLE
    if nodes.number > 1:
        arguments.rdzv_conf = f"timeout={int(nodes.seconds + 2 * SLACK)}"  # torch's own error comes after ours
    codes: list[int] = []
    thread = threading.Thread(
        target=lambda: codes.append(launch(lambda: launch_command(arguments), nodes)), daemon=True
    )
    signal.pthread_sigmask(signal.SIG_BLOCK, early)  # the ranks inherit it from the thread
    thread.start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, early)
    deadline = time.monotonic() + nodes.seconds
    while thread.is_alive():
        thread.join(0.2)  # signals are answered in between
        if nodes.number > 1 and not begun.is_set() and time.monotonic() > deadline:
            end(NOT_MET, not_met(nodes))
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # the ranks have ended; only the exit code is left
    return codes[0] if codes else 1  # without a code, the thread has shown a traceback


def launch(action: Callable[[], object], nodes: Nodes) -> int:
    """Run `action`, which launches; returns the exit code."""
    from torch.distributed import DistError
    from torch.distributed.elastic.multiprocessing.api import PContext
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    # Their messages are reported below, in short.
    logging.getLogger("torch.distributed.elastic.multiprocessing.api").setLevel(logging.CRITICAL)
    agent = logging.getLogger("torch.distributed.elastic.agent.server.api")
    agent.addFilter(lambda record: "exit barrier" not in record.getMessage())
    close = PContext.close  # torch has an option for how long this may take, and forgets it when a rank has failed

    def close_in_time(self: PContext, death_sig: Any = None, timeout: Any = LAUNCHER_SECONDS) -> None:
        close(self, death_sig, timeout)

    PContext.close = close_in_time  # type: ignore[method-assign]
    start = PContext.start

    def started(self: PContext) -> None:
        begun.set()
        start(self)
        there.set()
        pass_on()

    PContext.start = started  # type: ignore[method-assign]
    try:
        action()
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode > 0:
            return int(failure.exitcode)
        name = signal.Signals(-failure.exitcode).name
        print(f"launcher: rank {rank} (pid {failure.pid}) was killed by {name}", file=sys.stderr)
        return 1
    except DistError as error:
        if begun.is_set():
            raise
        print(f"launcher: {not_met(nodes, str(error))}", file=sys.stderr)
        return NOT_MET
    return 0


def answer(number: int, frame: FrameType | None) -> None:
    """Pass a signal on to the ranks; before they are started, end, unless it is one that waits for them."""
    if not begun.is_set() and number not in early:
        end(128 + number, "")
    waiting.append(number)
    if there.is_set():
        pass_on()


def pass_on() -> None:
    """Send waiting signals to the ranks. Each has a session of its own, so the terminal's signals do not reach it."""
    while True:
        try:
            number = waiting.popleft()
        except IndexError:  # all are passed on: here, or meanwhile by the handler or the thread
            return
        for rank in psutil.Process().children():
            with contextlib.suppress(psutil.NoSuchProcess):
                rank.send_signal(signal.SIGTERM if number == signal.SIGHUP else number)


def timeout_of(arguments: Sequence[str]) -> float:
    """The run's `timeout`; the default where the config is wrong, which the ranks report."""
    from dist_gan.config.command_line import configured
    from dist_gan.config.schema import Config
    from dist_gan.errors import ConfigError

    try:
        return configured([argument for argument in arguments if argument != "--print-config"]).timeout
    except ConfigError:
        return Config().timeout


def cannot_listen(port: int) -> str:
    """Why the ranks could not meet at this port of this machine; empty where they can."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("", port))
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            return f"port {port} of this machine cannot be used ({why}). Choose another with --port, on all nodes alike"
    return ""


def not_met(nodes: Nodes, detail: str = "") -> str:
    """The message where the nodes did not meet."""
    where = f"{nodes.head}:{nodes.port}"
    ask = f"Does the same command run on all {nodes.number} nodes, with --rank 0 to {nodes.number - 1}"
    if nodes.rank == 0:
        return f"not all {nodes.number} nodes reached {where} in {nodes.seconds:g} s. {ask}, and can they reach it?"
    try:
        socket.create_connection((nodes.head, nodes.port), SLACK).close()
        why = detail.strip().partition("\n")[0] or "it answers, but not all nodes are there"
    except OSError as error:
        why = str(error.strerror or error)
    return f"node {nodes.rank} did not meet the others at the head, {where}, in {nodes.seconds:g} s ({why}). {ask}?"


def end(code: int, message: str) -> NoReturn:
    """End now: the thread that launches waits where nothing can interrupt it."""
    if message:
        print(f"launcher: {message}", file=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
