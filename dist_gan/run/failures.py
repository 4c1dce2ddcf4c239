"""What is reported, recorded and returned when a run fails: the first cause, once."""

import contextlib
import ctypes
import faulthandler
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from dist_gan.config.schema import Config
from dist_gan.data.streamed import worker_died
from dist_gan.distributed.launch import is_peer_failure, leave
from dist_gan.distributed.timing import CAUSE_SECONDS, LAST_WORDS, RANK_0_SECONDS
from dist_gan.errors import INTERRUPTED, PeerFailed, RunError, WorkerDied, exit_code_of
from dist_gan.own_parts import owned, reference_of
from dist_gan.run.checkpoint import finish_save
from dist_gan.run.folder import RunFolder

FAILED = " failed"
"""The end of the note that names a part of the user's own."""


@dataclass
class Attempt:
    """This process's attempt at a run, and where its failure is recorded."""

    run: Path
    """The run's folder, where another process may have written the cause."""
    rank: int
    begun: float = field(default_factory=time.time)
    """Seconds since the epoch."""
    folder: RunFolder | None = None
    """The folder, as soon as its status.json belongs to this attempt."""


def as_our_own(error: Exception) -> Exception:
    """`error`, or the error that it means: a peer is gone, or a process that reads images died."""
    if died := worker_died(error):
        return died
    if is_peer_failure(error) and not isinstance(error, PeerFailed):
        return PeerFailed(str(error).strip().partition("\n")[0])
    return error


def name_own_part(error: Exception, config: Config) -> None:
    """Where `error` was raised in a part of the user's own, a note on it says which one, and where.

    Called in the function from which the training was called, so that no script of the user's is taken for the part.
    """
    if exit_code_of(error) != 1 or isinstance(error, RunError):
        return
    parts = [(key, type(part), reference_of(type(part))) for key, part in owned(config)]
    frames = list(traceback.walk_tb(error.__traceback__))
    used = {type(frame.f_locals.get("self")) for frame, _ in frames}
    for frame, line in reversed(frames):
        file = frame.f_code.co_filename
        here = [(key, kind) for key, kind, found in parts if found and found.file == file]
        if here:  # several parts may be in one file
            keys = [key for key, kind in here if kind in used] or [key for key, _ in here]
            name = keys[0] if len(keys) == 1 else "code of your own"
            error.add_note(f"{name} ({Path(file).name}, line {line}){FAILED}")
            return


def described(error: Exception) -> str:
    """Kind and text of an error; before them the part of the user's own in which it was raised."""
    return ": ".join([*_own_part(error), type(error).__name__, str(error)])


def _own_part(error: Exception) -> list[str]:
    """The note of `name_own_part`, or nothing."""
    return [note for note in getattr(error, "__notes__", ()) if note.endswith(FAILED)][:1]


def record_failure(error: Exception, attempt: Attempt) -> Exception:
    """Write the cause into status.json, unless the process that failed first has; returns `as_our_own(error)`, whose
    `reports` says whether this process should report it."""
    named = isinstance(error, PeerFailed)
    error = as_our_own(error)
    # A launcher that ends this process because a peer failed ends the processes that read images for it too.
    may_follow = isinstance(error, WorkerDied)
    if isinstance(error, PeerFailed) or may_follow:
        wait = 0 if named or may_follow else CAUSE_SECONDS
        assert isinstance(error, RunError)
        error.reports = error.reports and not _cause_is_known(attempt, seconds=wait)
    if isinstance(error, RunError) and (not error.reports or (attempt.rank and error.everywhere)):
        error.reports = False
        return error
    if attempt.folder is not None and not _is_recorded(attempt, by_peers=isinstance(error, PeerFailed)):
        reason = described(error)
        attempt.folder.status("failed", reason=reason, rank=attempt.rank, exit_code=exit_code_of(error))
    return error


def record_interrupt(attempt: Attempt) -> None:
    """After a second Ctrl-C: status.json says that the run was stopped, and a checkpoint in progress is finished."""
    if attempt.folder is not None and not attempt.rank:
        status = attempt.folder.read_status()
        if status.get("state") in ("starting", "running"):
            attempt.folder.status("stopped", reason="a second Ctrl-C", exit_code=INTERRUPTED)
    finish_save()


def report_failure(error: Exception, rank: int) -> int:
    """Print what ended this process, if this process is the one to report it; returns the exit code."""
    code = exit_code_of(error)
    if isinstance(error, RunError) and error.everywhere and rank:
        let_rank_0_report()
        return code
    if isinstance(error, RunError) and not error.reports:
        return code
    if _own_part(error):
        report(" ".join(described(error).split()), rank)
        error.__notes__.clear()  # it has been said
        traceback.print_exception(error)
        return code
    if code == 1 and not isinstance(error, RunError):
        traceback.print_exception(error)
    report(error, rank)
    return code


def end_hung_run(folder: RunFolder, attempt: Attempt, reason: str, reports: bool) -> NoReturn:
    """End a process that makes no progress: its stacks into the run's folder, the reason reported and recorded once.

    The disk may be what hangs: nothing here waits for it for long.
    """

    def record() -> None:
        _write_stacks(folder, attempt)
        if reports and not _is_recorded(attempt):
            code = PeerFailed.exit_code
            folder.status("failed", reason=f"PeerFailed: {reason}", rank=attempt.rank, exit_code=code)

    if reports:
        report(f"{reason} (what each process was doing: {folder.stacks})", attempt.rank)
    for action in (record, finish_save):
        thread = threading.Thread(target=action, daemon=True)
        thread.start()
        thread.join(LAST_WORDS)
    if not reports:
        time.sleep(LAST_WORDS)  # a launcher ends all when the first one ends
    leave(PeerFailed.exit_code)


def raise_in_hung_run(folder: RunFolder, attempt: Attempt, reason: str, thread: int) -> None:
    """Raise PeerFailed in the thread that trains, as soon as it executes Python again: for a process that goes on."""
    _write_stacks(folder, attempt)
    text = f"{reason} (what this process was doing: {folder.stacks})"
    # The interpreter makes the exception itself, from a class without arguments.
    hung = type("PeerFailed", (PeerFailed,), {"__init__": lambda self: PeerFailed.__init__(self, text)})
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(hung))


def _write_stacks(folder: RunFolder, attempt: Attempt) -> None:
    with contextlib.suppress(OSError):
        folder.stacks.mkdir(exist_ok=True)
        with open(folder.stacks / f"rank-{attempt.rank:05d}.txt", "w") as file:
            faulthandler.dump_traceback(file)


def let_rank_0_report() -> None:
    """Wait, where all ranks fail alike: if this one ended first, the launcher would end rank 0 before it has reported.

    When rank 0 has ended the launcher ends this one by SIGTERM, so that nobody waits for long.
    """
    with contextlib.suppress(ValueError):  # not the main thread
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    time.sleep(RANK_0_SECONDS)


def report(error: Exception | str, rank: int = 0) -> None:
    """One message, to stderr. If that is on a full disk, only the message is lost."""
    where = f" (rank {rank})" if rank else ""
    with contextlib.suppress(OSError):
        print(f"dist_gan{where}: {error}", file=sys.stderr, flush=True)


def _is_recorded(attempt: Attempt, *, by_peers: bool = True) -> bool:
    """Whether a process that failed before this one has written the cause. The first cause stays, except that (unless
    `by_peers`) a peer's failure is no cause for a process that knows a better one."""
    with contextlib.suppress(OSError):
        status = RunFolder(attempt.run).read_status()
        cause = by_peers or status.get("exit_code") != PeerFailed.exit_code
        return cause and status.get("state") == "failed" and status.get("time", 0) > attempt.begun
    return False


def _cause_is_known(attempt: Attempt, *, seconds: float) -> bool:
    """Whether the cause is recorded. The process that failed first knows it, and gets this time to write it."""
    deadline = time.monotonic() + seconds
    while not (known := _is_recorded(attempt)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return known
