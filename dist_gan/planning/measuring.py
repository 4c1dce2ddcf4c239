"""What can be measured on this machine: an update of one process, what gloo costs the processors, copies of memory."""

import resource
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed import HashStore, ProcessGroupGloo
from torch.nn.parallel import DistributedDataParallel

from dist_gan.config.schema import Config
from dist_gan.data.source import Batch
from dist_gan.distributed.processes import Processes
from dist_gan.distributed.reduction import Reduction
from dist_gan.game.game import Game
from dist_gan.game.turn import Mover
from dist_gan.planning.cadence import Due, example, kinds, steady
from dist_gan.planning.counting import Arrival, arriving, made, of_last_backward, on_made_up
from dist_gan.planning.estimate import reduced_at_once
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
    """Bytes: the most that the device has held; on a CPU the whole process, with all that it did before."""
    repeated: bool
    """Whether turns were repeated as graphs, or compiled."""


def measured(config: Config, processes: Processes, images: int, *, reduces: bool) -> Measured:
    """Real updates on `images` made-up images each, with the penalties that are due as often as in a run.

    Args:
        config: what is played.
        processes: this one.
        images: of the process's part of a batch.
        reduces: whether gradients go through DDP as in a run of several processes, though nothing is sent.

    Raises:
        RuntimeError, MemoryError: there is not enough memory.
    """
    config = steady(config)
    if processes.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(processes.device)
    game, batches = made(on_made_up(config, images, config.used_microbatch), processes)
    if not reduces or reduced_at_once(config, repeated=game.runner.flat):
        return _measured(config, game, batches)
    with _group_of_one(processes.device) as group:
        reduce_alone(game, group)
        return _measured(config, game, batches)


def _measured(config: Config, game: Game, batches: Iterator[Batch]) -> Measured:
    processes = game.processes
    shares = kinds(config)
    places = {kind: example(config, game.batch_size, kind) for kind in shares}
    for kind in [*shares, *shares, next(iter(shares))]:
        game.images_seen = places[kind]
        one = _timed(lambda: game.update(batches), processes)
    times: dict[Due, list[float]] = {kind: [] for kind in shares}
    for _ in range(max(3, min(50, int(SECONDS / one / len(shares))))):
        for kind in shares:
            game.images_seen = places[kind]
            times[kind].append(_timed(lambda: game.update(batches), processes))
    seconds = sum(share * statistics.median(times[kind]) for kind, share in shares.items())

    game.images_seen = places[next(iter(shares))]
    arrivals: dict[Mover, tuple[Arrival, ...]] = {
        name: (Arrival(sum(p.numel() for p in player.parameters), 0.0),) for name, player in game.players.items()
    }
    if not game.runner.flat:  # what is repeated calls no hooks, and its gradients are reduced at the end
        with arriving(game, lambda: _now(processes)) as found:
            begun = _now(processes)
            game.update(batches)
            whole = _now(processes) - begun
        arrivals = {name: of_last_backward(game, name, noted, whole) for name, noted in found.items()}
    stalls = []
    for _ in range(3):  # as `Writer.save` of run/checkpoint.py does it
        copied: list[Tensor] = []  # a run has one copy at a time
        begun = _now(processes)
        copied = [t.detach().to("cpu", copy=True) for own in game.state().values() for t in own.values()]
        stalls.append(_now(processes) - begun)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if processes.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(processes.device)
    state = sum(t.nbytes for t in copied)
    return Measured(seconds, arrivals, state, statistics.median(stalls), peak, game.runner.flat)


class _Unshared(Reduction):
    """DDP as in a run, but with no other process: what it costs by itself."""

    def __init__(self, network: nn.Module, batch_size: int, group: Any) -> None:
        self.gradients = []
        self.wrapped = DistributedDataParallel(network, process_group=group, gradient_as_bucket_view=True)
        self.wrapped.broadcast_buffers = False
        self.scale = 1 / batch_size

    def around(self, *, last: bool) -> AbstractContextManager[None]:
        return nullcontext() if last else self.wrapped.no_sync()  # type: ignore[operator]  # DDP's own


def reduce_alone(game: Game, group: Any) -> None:
    """From now on this game of one process reduces its gradients by DDP, over a group that has no other process."""
    for player in game.players.values():
        for parameter in player.parameters:
            parameter.requires_grad_(True)  # DDP never reduces others
        player.reduction = _Unshared(player.network, game.batch_size, group)
        for parameter in player.parameters:
            parameter.requires_grad_(False)


@contextmanager
def _group_of_one(device: torch.device) -> Iterator[Any]:
    """The process group of this process alone, without a port."""
    backend = "nccl" if device.type == "cuda" else "gloo"
    store: Any = HashStore()
    torch.distributed.init_process_group(backend, store=store, rank=0, world_size=1)
    try:
        yield torch.distributed.group.WORLD
    finally:
        torch.distributed.destroy_process_group()


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
        # Two steps with one number; four with many, of which each of the two sends as many as there are.
        found.append(Host(per_call / 2, max(0.0, whole - 2 * per_call) / (4 * SUMMED)))

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
