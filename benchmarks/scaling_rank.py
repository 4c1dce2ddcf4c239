"""One process of scaling.py: rounds of updates alone, by one process and by all at once, and together, in turn."""

import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import shaped
import torch

from dist_gan.config.command_line import configured
from dist_gan.data import Generated
from dist_gan.distributed.launch import leave
from dist_gan.distributed.processes import Processes
from dist_gan.distributed.traffic import Traffic
from dist_gan.planning import measuring
from dist_gan.planning.counting import arriving, count, made, of_last_backward, on_made_up
from dist_gan.planning.estimate import memory
from dist_gan.run.build import game_of, stream_of

PHASE = 0.3
"""Seconds of a phase of a round, about."""
SIZES = (4, 40_000, 1_000_000, 4_000_000)
"""Bytes of the all-reduces that are timed."""


PAUSE = 0.3
"""Seconds between two rounds, in which other work on the machine goes on."""


@contextmanager
def urgent() -> Iterator[None]:
    """Inside, where that is allowed, other work on this machine waits."""
    shaped.take_cores(True)
    try:
        yield
    finally:
        shaped.take_cores(False)


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(1)
    found = grown(job) if job["kind"] == "growth" else rounds(job)
    if os.environ.get("RANK", "0") == "0":
        Path(job["out"]).write_text(json.dumps(found))
    leave(0)


def rounds(job: dict[str, Any]) -> dict[str, Any]:
    """Milliseconds of an update in each round, by the way it is played; all-reduces; what the prediction needs."""
    config = configured(job["config"])
    processes = Processes("fp32")
    share = config.batch_size // processes.count
    config = on_made_up(config, config.batch_size)
    alone, own = made(on_made_up(config, share), processes)
    if processes.count > 1:
        groups = [torch.distributed.new_group([rank]) for rank in range(processes.count)]
        measuring.reduce_alone(alone, groups[processes.rank])
    dataset = config.data.open(processes.device)
    together = game_of(config, processes, dataset)
    batches = stream_of(config, processes, dataset).batches(0)
    together.warm_up_reduction(batches)
    for _ in range(3):
        alone.update(own)
        together.update(batches)
    took = [_timed(lambda: alone.update(own)), _timed(lambda: together.update(batches))]
    few, fewer = (max(1, round(PHASE / seconds)) for seconds in processes.broadcast(took))

    def several(game: Any, source: Any, updates: int) -> float:
        return _timed(lambda: [game.update(source) for _ in range(updates)]) / updates

    found: dict[str, Any] = {"one": [], "all": [], "together": [], "host": [], "all_reduce": {s: [] for s in SIZES}}
    arrivals = []
    for _ in range(job["rounds"]):
        time.sleep(PAUSE)
        with urgent():
            processes.wait()
            if processes.is_first:
                found["one"].append(several(alone, own, few))
            if processes.is_first and processes.count > 1 and job["host"]:
                found["host"].append(vars(measuring.host()))
        processes.wait()
        time.sleep(PAUSE)
        with urgent():
            processes.wait()
            each = processes.gather(several(alone, own, few))
            found["all"].append(statistics.mean(each))
        time.sleep(PAUSE)
        with urgent():
            processes.wait()
            found["together"].append(several(together, batches, fewer))
            with arriving(alone, time.perf_counter) as noted:
                whole = _timed(lambda: alone.update(own))
            arrivals.append({name: of_last_backward(alone, name, seen, whole) for name, seen in noted.items()})
            for size in SIZES if processes.count > 1 else ():
                found["all_reduce"][size].append(_all_reduce(processes, size))
    found["arrivals"] = {
        name: [
            (parts[0].numbers, statistics.median(part.left for part in parts))
            for parts in zip(*(seen[name] for seen in arrivals), strict=True)
        ]
        for name in ("D", "G")
    }
    with Traffic() as traffic:
        together.update(batches)
    found["collectives"] = traffic.totals()
    processes.close()
    return found


def _all_reduce(processes: Processes, size: int) -> float:
    numbers = torch.zeros(size // 4)
    times = []
    for _ in range(3):
        processes.wait()
        times.append(_timed(lambda: torch.distributed.all_reduce(numbers)))
    return statistics.median(times)


def grown(job: dict[str, Any]) -> dict[str, Any]:
    """An update of one process: seconds, FLOPs, the memory that it needs beside what stands when nothing is trained."""
    processes = Processes("fp32")
    config = configured(job["config"])
    shape = config.data.shape
    data = Generated(size=shape.height, channels=shape.channels, count=256)
    config = config.model_copy(update={"data": data})
    before = _resident()
    times: list[float] = []
    game, batches = made(on_made_up(config, config.batch_size, config.microbatch), processes)
    begun = time.perf_counter()
    while len(times) < 6 or (time.perf_counter() - begun < job["seconds"] and len(times) < 200):
        with urgent():
            times.append(_timed(lambda: game.update(batches)))
    seen = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    costs = count(config, processes)
    microbatches = config.batch_size // config.microbatch if config.microbatch else 1
    kept = costs.kept(config.microbatch or config.batch_size)
    needed = memory(config, costs.state_bytes, max(costs.parameters.values()), kept, images=config.batch_size)
    return {
        "seconds": min(times[2:]),
        "median": statistics.median(times[2:]),
        "flops": costs.work(config.batch_size, microbatches).flops,
        "counted": needed,
        "peak": seen,
    }


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _timed(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
