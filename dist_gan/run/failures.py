"""What is said, written down and returned when a run fails: the first cause, once."""

import contextlib
import faulthandler
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from dist_gan.run.checkpoint import CheckpointError, finish_save
from dist_gan.data.source import worker_failure
from dist_gan.game.meter import Diverged
from dist_gan.part import ConfigError
from dist_gan.distributed.processes import PeerFailed, is_peer_failure, leave
from dist_gan.run.folder import RunFolder

EXIT_CODES = ((ConfigError, 2), (CheckpointError, 3), (Diverged, 4), (OSError, 5))
IO_FAILED, PEER_FAILED = 5, 6
PATIENCE = 15
"""Seconds that rank 0 may be behind the others."""
LAST_WORDS = 2.0
"""Seconds for each thing that a process that stands still does before it ends."""


@contextmanager
def its_status(folder: RunFolder, kind: type[Exception] = Exception) -> Iterator[None]:
    """What fails inside is written to the folder's status.json, which belongs to this run by now."""
    try:
        yield
    except kind as error:
        error.folder = folder  # type: ignore[attr-defined]
        raise


def failed(error: Exception, rank: int, run: Path, begun: float) -> int:
    """Tell the first cause once, write it down, and choose the exit code.

    Args:
        error: what ended this process.
        rank: this process's.
        run: the run's folder, in which a peer may have written the cause.
        begun: when this process began to train, in seconds since the epoch.
    """
    code = next((code for kind, code in EXIT_CODES if isinstance(error, kind)), 1)
    if told := worker_failure(error):
        code = IO_FAILED
    if is_peer_failure(error):
        code = PEER_FAILED
        named, speaks = (True, error.speaks) if isinstance(error, PeerFailed) else (False, True)
        if _someone_tells(run, begun, seconds=0 if named else 5) or not speaks:
            return code
    if rank != 0 and getattr(error, "everywhere", False):
        let_rank_0_speak()
        return code
    if code == 1:
        traceback.print_exception(error)
    tell(told or error, rank)
    folder: RunFolder | None = getattr(error, "folder", None)
    if folder is not None:
        folder.status("failed", reason=told or f"{type(error).__name__}: {error}", rank=rank, exit_code=code)
    return code


def hung(folder: RunFolder, rank: int, begun: float, reason: str, speaks: bool) -> NoReturn:
    """End a process that stands still: its stacks into the run's folder, the reason told and written down once.

    The disk may be what hangs: nothing here waits for it for long.
    """
    path = folder.stacks / f"rank-{rank:05d}.txt"

    def write_down() -> None:
        with contextlib.suppress(OSError):
            folder.stacks.mkdir(exist_ok=True)
            with open(path, "w") as file:
                faulthandler.dump_traceback(file)
        if speaks and not _told(folder, begun):
            folder.status("failed", reason=f"PeerFailed: {reason}", rank=rank, exit_code=PEER_FAILED)

    if speaks:
        tell(f"{reason} (what each process was doing: {folder.stacks})", rank)
    for action in (write_down, finish_save):
        thread = threading.Thread(target=action, daemon=True)
        thread.start()
        thread.join(LAST_WORDS)
    if not speaks:
        time.sleep(LAST_WORDS)  # a launcher ends all when the first one ends
    leave(PEER_FAILED)


def _told(folder: RunFolder, begun: float) -> bool:
    """Whether a process that failed before this one has written the cause."""
    status = folder.read_status()
    return status.get("state") == "failed" and status["time"] > begun


def _someone_tells(run: Path, begun: float, *, seconds: float) -> bool:
    """The process that failed first says why, and its peers only lost a connection: give it time."""
    deadline = time.monotonic() + seconds
    while not (told := _told(RunFolder(run), begun)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return told


def let_rank_0_speak() -> None:
    """Wait, where all ranks fail alike: a launcher that sees this one end first would end rank 0 before it spoke.

    When rank 0 has ended the launcher ends this one by SIGTERM, so that nobody waits for long.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    time.sleep(PATIENCE)


def tell(error: Exception | str, rank: int = 0) -> None:
    """One message, to stderr; on a disk that takes nothing more it is lost, and nothing else."""
    where = f" (rank {rank})" if rank else ""
    with contextlib.suppress(OSError):
        print(f"dist_gan{where}: {error}", file=sys.stderr, flush=True)
