"""`accelerate launch` for several processes, with some things mended (seen with accelerate 1.15, torch 2.14).

SIGTERM, SIGINT and SIGUSR1 go on to the ranks and nothing else happens: they save, and this ends when they have. The
launcher itself would end by SIGUSR1 and leave orphans, and kill ranks that still save 30 seconds after a SIGTERM. When
a rank has failed the others have a few seconds to name it, where the launcher would wait 30 for one that is stopped.
And its failure gives its exit code and at most a line, where the launcher would give 1 and a traceback. Several nodes
that have ended well report nothing of how they lost the head node's store, which closes first (torch shows a
traceback).
"""

import contextlib
import logging
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import psutil  # accelerate needs it too

os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # read when torch is imported
os.environ["PET_SIGNALS_TO_HANDLE"] = "SIGQUIT"  # torchrun's --signals-to-handle: the others are handled here

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the clone that this file is in, installed or not
from dist_gan.distributed.timing import LAUNCHER_SECONDS

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
stopping: list[int] = []


def pass_on(number: int, frame: FrameType | None) -> None:
    """Each rank is in a session of its own: neither the terminal nor the end of this process reaches it."""
    ranks = psutil.Process().children()
    if not ranks and not stopping:
        sys.exit(128 + number)  # there is none yet
    stopping.append(number)
    for rank in ranks:
        with contextlib.suppress(psutil.NoSuchProcess):
            rank.send_signal(signal.SIGTERM if number == signal.SIGHUP else number)


def main() -> int:
    """Launch as the command line says; returns the exit code of the rank that failed first, or 0."""
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # as with nohup; the ranks inherit it
            signal.signal(number, pass_on)
    if sys.stdout.isatty():
        print("launching", flush=True)  # what follows takes seconds, and a person should see that something happens
    from accelerate.commands.launch import main as accelerate_launch
    from torch.distributed.elastic.multiprocessing.api import PContext
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    # What they would say is reported below, shorter.
    logging.getLogger("torch.distributed.elastic.multiprocessing.api").setLevel(logging.CRITICAL)
    agent = logging.getLogger("torch.distributed.elastic.agent.server.api")
    agent.addFilter(lambda record: "exit barrier" not in record.getMessage())
    close = PContext.close  # torch has an option for how long this may take, and forgets it when a rank has failed

    def close_in_time(self: PContext, death_sig: Any = None, timeout: Any = LAUNCHER_SECONDS) -> None:
        close(self, death_sig, timeout)

    PContext.close = close_in_time  # type: ignore[method-assign]
    try:
        accelerate_launch()
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode > 0:
            return int(failure.exitcode)
        name = signal.Signals(-failure.exitcode).name
        print(f"launcher: rank {rank} (pid {failure.pid}) was killed by {name}", file=sys.stderr)
        return 1
    finally:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # the ranks have ended, and how is all there is to say
    return 0


if __name__ == "__main__":
    sys.exit(main())
