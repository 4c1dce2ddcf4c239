"""Real launches of two ranks, to which a cluster's faults are done at random times: how long each takes to end well."""

import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from dist_gan.run import checkpoint
from tests.campaigns.faults.runs import SMALL, Tally, lines
from tests.support.launched import left_of, ranks_of, saved, started, status

TIMEOUT = 5
RUN = [*SMALL, "images=100000000", "save.every=640", f"timeout={TIMEOUT}"]

Done = Callable[[subprocess.Popen[str], dict[int, psutil.Process], random.Random], str]


def signalled(launcher: subprocess.Popen[str], ranks: dict[int, psutil.Process], generator: random.Random) -> str:
    """A signal to the launcher or to one rank."""
    number = generator.choice([signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
    (launcher if generator.random() < 0.5 else generator.choice(list(ranks.values()))).send_signal(number)
    return f"signal {int(number)}"


def launcher_killed(launcher: subprocess.Popen[str], ranks: dict[int, psutil.Process], generator: random.Random) -> str:
    launcher.kill()
    return f"signal {int(signal.SIGTERM)}"


def rank_killed(launcher: subprocess.Popen[str], ranks: dict[int, psutil.Process], generator: random.Random) -> str:
    rank = generator.choice(list(ranks))
    ranks[rank].kill()
    return f"PeerFailed: rank {rank} ("


def rank_stopped(launcher: subprocess.Popen[str], ranks: dict[int, psutil.Process], generator: random.Random) -> str:
    rank = generator.choice(list(ranks))
    ranks[rank].suspend()
    return f"PeerFailed: no progress for {TIMEOUT} s: rank {rank} ("


FAULTS: dict[str, tuple[Done, bool]] = {
    "a signal": (signalled, True),
    "the launcher killed": (launcher_killed, True),
    "a rank killed": (rank_killed, False),
    "a rank stopped": (rank_stopped, False),
}
"""What is done; and whether the run must then stop cleanly, losing nothing."""


def peers(folder: Path, count: int, generator: random.Random) -> list[Tally]:
    """Each fault `count` times, each time to a run that begins or goes on."""
    tallies = []
    for number, (name, (fault, cleanly)) in enumerate(FAULTS.items()):
        tally = Tally(name)
        for _ in range(count):
            _once(tally, folder, folder / f"run{number}", fault, cleanly, generator)
        tallies.append(tally)
    return tallies


def _once(tally: Tally, folder: Path, run: Path, fault: Done, cleanly: bool, generator: random.Random) -> None:
    tally.counts["times"] += 1
    before = checkpoint.existing(run / "checkpoints")
    with started(folder, "local.sh", "-n", "2", *RUN, f"run={run}") as launcher:
        saved(run)
        _until(lambda: checkpoint.existing(run / "checkpoints") != before)
        ranks = ranks_of(launcher.pid)
        time.sleep(generator.uniform(0, 1))
        begun = time.time()
        reason = fault(launcher, ranks, generator)
        ended = _until(lambda: not any(_lives(process) for process in [*ranks.values(), psutil.Process(launcher.pid)]))
        seconds = time.time() - begun
        tally.counts["orphans"] += sum(map(_lives, ranks.values()))
        tally.check(ended and not left_of(run), "did not end", str(run))
        if launcher.poll() is None:
            launcher.kill()
    found = status(run)
    reported = found.get("reason", "")
    tally.check(reported.startswith(reason), "wrong reason", f"expected {reason!r}, got {reported!r}")
    newest = int(checkpoint.existing(run / "checkpoints")[-1].name.removeprefix("images-"))
    if cleanly:
        tally.check(found["state"] == "stopped", "not stopped cleanly", str(found))
        tally.counts["updates lost"] += (found["images_seen"] - newest) // 64
        tally.check(found["images_seen"] == newest == max(lines(run)), "something lost", str(found))
        tally.seconds["until saved"].append(found["time"] - begun)
    else:
        tally.check(found["state"] == "failed" and found["exit_code"] == 6, "not named", str(found))
        tally.seconds["until named"].append(found["time"] - begun)
        tally.check(seconds <= TIMEOUT + 10, "ended too late", f"{seconds:.1f} s")
    tally.seconds["until nothing was left"].append(seconds)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _until(condition: Callable[[], Any], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not (holds := bool(condition())) and time.monotonic() < deadline:
        time.sleep(0.02)
    return holds
