"""Tiny real runs: children of this process, which has imported all that a run needs. And what is counted."""

import json
import os
import socket
import sys
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Set
from pathlib import Path

import torch
import torch._dynamo
import torch.distributed.tensor
import torchvision  # noqa: F401  # these three take seconds, and each child would import them

from dist_gan.run import checkpoint
from dist_gan.run.checkpoint import Checkpoint
from tests.support.commands import train

BATCH = 64
SMALL = [
    "data={name: generated, size: 8}", "networks={name: mlp, width: 4, dropout: 0.3}", f"track.every={BATCH}",
    "track.wandb=disabled", "sample={every: 1000000, count: 4}",
]  # fmt: skip


class Tally:
    """What one part of the campaign did, and what went wrong in it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.counts: Counter[str] = Counter()
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)
        self.failures: list[str] = []

    def check(self, holds: bool, failure: str, detail: str = "") -> bool:
        """Count `failure` (0 as well), and keep `detail` where it does not hold."""
        self.counts[failure] += not holds
        if not holds:
            self.failures.append(f"{self.name}: {failure}: {detail}")
        return holds


def fork(action: Callable[[], int | None], out: Path, env: dict[str, str] | None = None) -> int:
    """A child that does `action` and leaves with what it returns; its output goes to `out`. Returns its pid."""
    sys.stdout.flush()
    out.touch()
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        os.environ.update(env or {})
        with open(out, "ab") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        code = action() or 0
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def start(run: Path, images: int, *more: str, ranks: int = 1) -> list[int]:
    """The pids of a run's ranks; what they say goes to the file `RUN.out`."""
    arguments = [*SMALL, f"run={run}", f"images={images}", *more]
    worlds: list[dict[str, str]] = [{}]
    if ranks > 1:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        common = {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks), "MASTER_PORT": port}
        common["MASTER_ADDR"] = "127.0.0.1"
        worlds = [{**common, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)]
    return [fork(lambda: train.main(arguments), output(run), world) for world in worlds]


def finish(run: Path, images: int, *more: str, ranks: int = 1) -> list[int]:
    """The exit codes of a run that nobody disturbs."""
    return [exit_code(os.waitpid(pid, 0)[1]) for pid in start(run, images, *more, ranks=ranks)]


def exit_code(status: int) -> int:
    return os.waitstatus_to_exitcode(status)


def output(run: Path) -> Path:
    return run.with_name(run.name + ".out")


def newest(run: Path) -> Checkpoint:
    return checkpoint.read(checkpoint.existing(run / "checkpoints")[-1])


def lines(run: Path) -> list[int]:
    """The times in metrics.jsonl, where there is one; -1 for a torn line."""
    times = []
    if (run / "metrics.jsonl").exists():
        for line in (run / "metrics.jsonl").read_text().splitlines():
            try:
                times.append(json.loads(line)["images"])
            except ValueError:
                times.append(-1)
    return times


def same_end(tally: Tally, run: Path, whole: Path, unwritten: Set[int] = frozenset()) -> None:
    """All tensors, and the times of the metrics, as in the uninterrupted run; nothing hidden is left behind.

    `unwritten`: times whose metrics were not written, for a reason that is known.
    """
    a, b = newest(run), newest(whole)
    equal = a.tensors.keys() == b.tensors.keys() and a.state["images_seen"] == b.state["images_seen"]
    for file, own in a.tensors.items():
        equal = equal and own.keys() == b.tensors[file].keys()
        equal = equal and all(torch.equal(tensor, b.tensors[file][name]) for name, tensor in own.items())
    tally.counts["compared with an uninterrupted run"] += 1
    tally.check(equal, "not bitwise equal", str(run))
    mine, expected = lines(run), [time for time in lines(whole) if time not in unwritten]
    differ = sorted({*mine} ^ {*expected}) or [time for time in mine if mine.count(time) > 1]
    tally.check(mine == expected, "metrics missing or twice", f"{run}: {len(mine)} of {len(expected)} lines: {differ}")
    strays = [str(path) for path in run.rglob(".*")]
    tally.check(not strays, "strays left", str(strays))
