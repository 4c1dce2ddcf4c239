"""What can be measured on this machine: an update of one process, what gloo costs the processors, copies of memory."""

import resource
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch.distributed import HashStore, ProcessGroupGloo

from dist_gan.config.schema import Config
from dist_gan.distributed.processes import Processes
from dist_gan.game.turn import Mover
from dist_gan.planning.counting import Arrival, arriving, example, kinds, made, of_last_backward, on_made_up
from dist_gan.planning.links import Host

SECONDS = 3.0
"""How long updates are timed, at most about."""
SUMMED = 2**20
"""Numbers in the all-reduce by which gloo's cost for each byte is measured: 4 MiB, the size of a bucket of DDP."""


@dataclass(frozen=True)
class Measured:
    """An update of one process, alone on this machine."""

    seconds: float
    """The mean over all kinds of updates, by how often they come; of each kind the median."""
    arrivals: dict[Mover, tuple[Arrival, ...]]
    """By player."""
    state_bytes: int
    """All that a checkpoint holds."""
    stall: float
    """Seconds for which a checkpoint holds up training: the state is gathered and copied."""
    peak: int
    """Bytes: the most that the device has held; on a CPU, the whole process."""


def measured(config: Config, processes: Processes, images: int) -> Measured:
    """Real updates on `images` made-up images each, with the penalties that are due as often as in a run.

    Raises:
        RuntimeError, MemoryError: there is not enough memory.
    """
    game, batches = made(on_made_up(config, images, config.used_microbatch), processes)
    shares = kinds(config)
    places = {kind: example(config, images, kind) for kind in shares}
    for kind in [*shares, next(iter(shares))]:
        game.images_seen = places[kind]
        one = _timed(lambda: game.update(batches), processes)
    times: dict[tuple[int, ...], list[float]] = {kind: [] for kind in shares}
    for _ in range(max(3, min(50, int(SECONDS / one / len(shares))))):
        for kind in shares:
            game.images_seen = places[kind]
            times[kind].append(_timed(lambda: game.update(batches), processes))
    seconds = sum(share * statistics.median(times[kind]) for kind, share in shares.items())

    game.images_seen = places[next(iter(shares))]
    with arriving(game, lambda: _now(processes)) as found:
        begun = _now(processes)
        game.update(batches)
        whole = _now(processes) - begun
    arrivals = {name: of_last_backward(game, name, noted, whole) for name, noted in found.items()}
    stalls = []
    for _ in range(3):  # as `Writer.save` of run/checkpoint.py does it
        begun = _now(processes)
        copied = [t.detach().to("cpu", copy=True) for own in game.state().values() for t in own.values()]
        stalls.append(_now(processes) - begun)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if processes.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(processes.device)
    return Measured(seconds, arrivals, sum(t.nbytes for t in copied), statistics.median(stalls), peak)


def host() -> Host:
    """What gloo costs the processors: all-reduces between two threads of this process, through the machine itself."""
    store = HashStore()
    found: list[Host] = []

    def take_part(rank: int) -> None:
        group: Any = ProcessGroupGloo(store, rank, 2, timedelta(seconds=60))
        one, many = torch.zeros(1), torch.zeros(SUMMED)
        times: dict[int, list[float]] = {1: [], SUMMED: []}
        for _ in range(15):
            for numbers in (one, many):
                group.allreduce([one]).wait()  # both begin at once
                begun = time.perf_counter()
                group.allreduce([numbers]).wait()
                times[len(numbers)].append(time.perf_counter() - begun)
        per_call, whole = (statistics.median(taken[3:]) for taken in times.values())
        found.append(Host(per_call, max(0.0, whole - per_call) / (4 * SUMMED)))

    other = threading.Thread(target=take_part, args=(1,), daemon=True)
    other.start()
    take_part(0)
    other.join(60)
    return found[0]


def copy_bandwidth() -> float:
    """Bytes per second at which this machine's memory is copied, which bounds the copy of a GPU's state too."""
    block = torch.zeros(2**24)
    times = []
    for _ in range(7):
        begun = time.perf_counter()
        block.clone()
        times.append(time.perf_counter() - begun)
    return block.nbytes / statistics.median(times)


def _now(processes: Processes) -> float:
    if processes.device.type == "cuda":
        torch.cuda.synchronize(processes.device)
    return time.perf_counter()


def _timed(action: Callable[[], None], processes: Processes) -> float:
    begun = _now(processes)
    action()
    return _now(processes) - begun
