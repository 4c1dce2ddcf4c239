"""What is said, written down and returned when a run fails: the first cause, once."""

import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dist_gan.checkpoint import CheckpointError
from dist_gan.meter import Diverged
from dist_gan.part import ConfigError
from dist_gan.processes import is_peer_failure
from dist_gan.run_folder import RunFolder

EXIT_CODES = ((ConfigError, 2), (CheckpointError, 3), (Diverged, 4), (OSError, 5))
PEER_FAILED = 6
PATIENCE = 15
"""Seconds that rank 0 may be behind the others."""


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
    if is_peer_failure(error):
        code = PEER_FAILED
        for _ in range(50):  # the rank that failed first says why; its peers only lost a connection
            status = RunFolder(run).read_status()
            if status.get("state") == "failed" and status["time"] > begun:
                return code
            time.sleep(0.1)
    if rank != 0 and getattr(error, "everywhere", False):
        let_rank_0_speak()
        return code
    if code == 1:
        traceback.print_exception(error)
    tell(error, rank)
    folder: RunFolder | None = getattr(error, "folder", None)
    if folder is not None:
        folder.status("failed", reason=f"{type(error).__name__}: {error}", rank=rank, exit_code=code)
    return code


def let_rank_0_speak() -> None:
    """Wait, where all ranks fail alike: a launcher that sees this one end first would end rank 0 before it spoke.

    When rank 0 has ended the launcher ends this one by SIGTERM, so that nobody waits for long.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    time.sleep(PATIENCE)


def tell(error: Exception, rank: int = 0) -> None:
    """One message, to stderr."""
    where = f" (rank {rank})" if rank else ""
    print(f"dist_gan{where}: {error}", file=sys.stderr, flush=True)
