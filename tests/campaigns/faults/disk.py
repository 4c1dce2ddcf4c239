"""A disk that becomes full, or read-only, in the middle of a run."""

import os
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dist_gan.run import checkpoint
from tests.campaigns.faults.runs import BATCH, Tally, exit_code, finish, output, same_end, start


@contextmanager
def limited(run: Path, pid: int) -> Iterator[None]:
    """No file grows beyond some bytes, as under `ulimit -f`: not tensors, not the metrics, of which half a line fits.

    Nobody needs to be root for that.
    """
    most = (run / "metrics.jsonl").stat().st_size + 100
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, hard))
    yield
    with suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def full(run: Path, pid: int) -> Iterator[None]:
    """The disk (a small tmpfs) is full."""
    filler = run.parent / "filler"
    with suppress(OSError), open(filler, "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    yield
    filler.unlink()


@contextmanager
def read_only(run: Path, pid: int) -> Iterator[None]:
    """The run's folder, mounted over itself."""
    subprocess.run(["mount", "--bind", run, run], check=True)
    try:
        for _ in range(100):  # busy while the run has a file open through this mount
            if subprocess.run(["mount", "-o", "remount,bind,ro", run], capture_output=True).returncode == 0:
                break
        yield
    finally:
        subprocess.run(["umount", "-l", run], check=True)


def disk(folder: Path, ailment: Callable[[Path, int], Any]) -> Tally:
    """In the middle of a run: for a while (it goes on), and for good (exit 5; later it goes on). Nothing is lost."""
    tally = Tally(f"disk: {ailment.__name__.replace('_', ' ')}")
    images, cadence = BATCH * 60, f"save.every={BATCH * 4}"
    whole = folder / "whole"
    tally.check(finish(whole, images, cadence) == [0], "exit codes")
    for for_good in (False, True):
        run = folder / ("good" if for_good else "while")
        (pid,) = start(run, images, cadence)
        _wait_for(lambda run=run: len(checkpoint.existing(run / "checkpoints")) == 2, pid)
        with ailment(run, pid):
            before = [path.name for path in checkpoint.existing(run / "checkpoints")]
            if for_good:
                code = exit_code(os.waitpid(pid, 0)[1])
                tally.check(code == 5, "exit codes", f"{code}: {output(run).read_text()[-2000:]}")
                left = [path.name for path in (run / "checkpoints").iterdir()]
                tally.check(set(before) <= set(left), "checkpoints gone", f"{before}, now {left}")
                if ailment is read_only:  # what was being written stays, until the next start
                    tally.check(finish(run, images) == [2], "exit codes", "read-only at the start")
                else:
                    tally.check(not any(name.startswith(".tmp") for name in left), "strays left", str(left))
            else:
                _wait_for(lambda run=run: "could not be written" in output(run).read_text(), pid)
        warned = output(run).read_text().count("warning: a checkpoint could not be written")
        tally.check(1 <= warned <= 2, "not warned", output(run).read_text()[-2000:])
        if not for_good:
            code = exit_code(os.waitpid(pid, 0)[1])
            tally.check(code == 0, "exit codes", f"{code}: {output(run).read_text()[-2000:]}")
        bad = [path.name for path in checkpoint.existing(run / "checkpoints") if checkpoint.verify(path)]
        tally.check(not bad, "unusable checkpoints", str(bad))
        if for_good:
            tally.check(finish(run, images, cadence) == [0], "exit codes", "afterwards")
        same_end(tally, run, whole)
    return tally


def _wait_for(condition: Callable[[], bool], pid: int) -> None:
    """Or until the run has ended; what did not come is found by the checks."""
    while not condition() and not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        time.sleep(0.002)


@contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """A tmpfs of 2 MiB; None where this may not mount."""
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", folder], capture_output=True).returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
