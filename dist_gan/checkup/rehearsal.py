"""Lines about the training itself: data, memory, speed. A few real updates of the config, whose result is discarded."""

import itertools
import re
import resource
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from dist_gan.checkup.lines import Line, Mark, Problem
from dist_gan.checkup.machine import synchronize
from dist_gan.config.schema import Config
from dist_gan.data import Batch, Dataset, Stream
from dist_gan.data.fetch import on_disk_only
from dist_gan.data.source import Resident
from dist_gan.data.streamed import Streamed
from dist_gan.distributed.processes import Processes
from dist_gan.formatting import duration, plural, size
from dist_gan.game.game import Game
from dist_gan.run.build import game_of, stream_of

KINDS = 20
"""Updates in which turns may be prepared, at most."""
SECONDS = 2.0
"""How long updates are timed, at most about."""
READ_SECONDS = 1.0
"""How long reading is timed."""
PREFETCHED = 4
"""Batches that each worker reads ahead (data/source.py)."""


@dataclass(frozen=True)
class Trial:
    """Two updates of this rank alone."""

    game: Game | None
    """None with several processes: the game that they play together is another one."""
    batch: Batch
    seconds: float
    """Of the second update."""
    checkpoint: int
    """Bytes."""
    gradients: int
    """How many parameters the larger player has."""


def opened(config: Config, processes: Processes) -> tuple[Line, Stream]:
    """The data, opened as a run would open it, but not downloaded."""
    begun = time.perf_counter()
    with on_disk_only():
        dataset = config.data.open(processes.device)
    stream = stream_of(config, processes, dataset)
    images = next(stream.batches(0)).images
    seconds = time.perf_counter() - begun
    shape = "x".join(map(str, dataset.shape))
    found = f"{config.data.name}: {plural(len(dataset), 'image')} of {shape}"
    found += f", opened in {duration(seconds)}" if seconds > 5 else ""
    if isinstance(dataset, Streamed) and dataset.workers:
        ahead = PREFETCHED * dataset.workers * images.numel()  # uint8
        free = shutil.disk_usage("/dev/shm").free if Path("/dev/shm").is_dir() else ahead
        found += f"; {plural(dataset.workers, 'worker')}, {size(free)} of /dev/shm free"
        if ahead > free:
            advice = "give the container more (docker --shm-size), or data.workers=0"
            return Line(f"{found}, and {size(ahead)} are read ahead", Mark.PROBLEM, advice), stream
    return Line(found), stream


def memory(config: Config, processes: Processes, stream: Stream | None, ranks_here: int) -> tuple[Line, Trial]:
    """Two updates on this rank's part of a batch, without the others: the memory that they need, and what there is."""
    share = config.batch_size // processes.count
    on_gpu = processes.device.type == "cuda"
    available = _available(processes, ranks_here)
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(processes.device)
    try:
        batch = next(stream.batches(0)) if stream else _made_up(config, processes, share)
        game = game_of(
            config.model_copy(update={"batch_size": share}),
            processes.alone(),
            stream.dataset if stream else _blank(config),
        )
        for _ in range(2):  # only the second has the optimizers' state beside its activations
            begun = time.perf_counter()
            game.update(itertools.repeat(batch))
            synchronize(processes)
            seconds = time.perf_counter() - begun
        _prepare(game, batch)
        checkpoint = sum(tensor.nbytes for own in game.state().values() for tensor in own.values())
        synchronize(processes)
    except (RuntimeError, MemoryError) as error:
        if not is_memory(error):
            raise
        raise Problem(f"not enough{_asked(error)}", _less(config, share)) from None
    gradients = max(sum(p.numel() for p in player.parameters) for player in (game.generator, game.discriminator))
    trial = Trial(game if processes.count == 1 else None, batch, seconds, checkpoint, gradients)
    peak = torch.cuda.max_memory_allocated(processes.device) if on_gpu else _peak()
    used = peak * (1 if on_gpu else ranks_here)
    found = f"{size(peak)} at most" + ("" if on_gpu or ranks_here == 1 else f" in each of {ranks_here} processes")
    found += f", in updates of {plural(share, 'image')}"
    if config.used_microbatch:
        found += f" in microbatches of {config.used_microbatch}"
    if available is None:
        return Line(found), trial
    found += f"; {size(available)} are available"
    if used > 0.9 * available:
        return Line(f"{found}: little is left", Mark.ADVICE, _less(config, share)), trial
    return Line(found), trial


def _prepare(game: Game, batch: Batch) -> None:
    """Where turns are captured or compiled, play until an update prepares nothing more."""
    for _ in range(0 if game.runner.watched else KINDS):
        before = game.runner.prepared
        game.update(itertools.repeat(batch))
        if game.runner.prepared == before:
            return


def speed(config: Config, processes: Processes, trial: Trial, first: int, reduction: float) -> tuple[Line, float]:
    """Real updates of all ranks together. `reduction`: seconds of an all-reduce of one player's gradients.

    Returns:
        The line, and images per second of all ranks.
    """
    updates = processes.broadcast(max(1, min(100, int(SECONDS / trial.seconds))))
    batches = itertools.repeat(trial.batch)
    game = trial.game
    if game is None:
        game = game_of(config, processes, _blank(config))
        game.warm_up_reduction(batches)
        _prepare(game, trial.batch)
    processes.wait()
    begun = time.perf_counter()
    for _ in range(updates):
        game.update(batches)
    synchronize(processes)
    processes.wait()
    seconds = (time.perf_counter() - begun) / updates
    rate = processes.broadcast(game.images_per_update / seconds)
    update = f"{seconds:.2g} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"
    left = config.images - first
    which = f"the {left:,} images that are left" if first else f"all {left:,} images"
    which = f"{which} in {duration(left / rate)}" if left > 0 else "the run is finished"
    found = f"{rate:,.0f} images/s ({update} an update): {which}"
    waits = (game.discriminator_turns + 1) * reduction / seconds
    if waits > 0.5:
        return Line(
            f"{found}; the all-reduces alone take {min(1, waits):.0%} of it",
            Mark.ADVICE,
            "fewer processes, or a larger batch_size (which makes another model). Do the nodes use the fast network "
            "(NCCL_DEBUG=INFO says; NCCL_SOCKET_IFNAME, GLOO_SOCKET_IFNAME)?",
        ), rate
    return Line(found), rate


def reading(config: Config, processes: Processes, stream: Stream, rate: float) -> Line:
    """How fast all ranks read images, compared with the `rate` of updates."""
    batches = stream.batches(0)
    next(batches)  # the workers start
    count = 0
    begun = time.perf_counter()
    while (seconds := time.perf_counter() - begun) < READ_SECONDS:
        count += len(next(batches).ordinals)
        synchronize(processes)
    reads = processes.count * count / seconds
    found = f"{reads:,.0f} images/s"
    if reads >= rate:
        return Line(found)
    advice = ["a faster disk"]
    workers, resident = (getattr(config.data, key, None) for key in ("workers", "resident_megabytes"))
    if isinstance(stream.dataset, Streamed) and workers is not None and resident is not None:
        all_of_it = -(-len(stream.dataset) * torch.Size(stream.dataset.shape).numel() // 2**20)
        advice = [
            f"data.workers={2 * max(1, workers)} (now {workers}), as long as there are cores",
            f"data.resident_megabytes={all_of_it} keeps all images on the device",
        ]
    return Line(f"{found}, slower than the updates: training will wait for data", Mark.ADVICE, "; or ".join(advice))


def _less(config: Config, share: int) -> str:
    multiple = config.networks.batch_multiple
    now = config.used_microbatch or share
    smaller = next((p for p in range(now // 2, 0, -1) if share % p == 0 and p % multiple == 0), 0)
    advice = f"microbatch={smaller} (now {now}) needs less at once; or " if smaller else ""
    return f"{advice}a smaller batch_size, smaller networks, or more processes"


def _blank(config: Config) -> Dataset:
    return Resident(torch.zeros(1, *config.data.shape, dtype=torch.uint8), None, torch.device("cpu"), "")


def _made_up(config: Config, processes: Processes, share: int) -> Batch:
    images = torch.rand(share, *config.data.shape, device=processes.device, dtype=processes.dtype).mul_(2).sub_(1)
    first = processes.rank * share
    labels = torch.empty(0, dtype=torch.int64, device=processes.device)
    return Batch(images, labels, range(first, first + share))


def is_memory(error: BaseException) -> bool:
    """Whether `error` means that there was not enough memory."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(sign in str(error) for sign in ("can't allocate memory", "not enough memory", "out of memory"))


def _asked(error: BaseException) -> str:
    """How much was needed, where torch says it: `... you tried to allocate 400 bytes`, `Tried to allocate 2.00 GiB`."""
    found = re.search(r"tried to allocate ([\d.]+) (\w+)", str(error), re.IGNORECASE)
    if found is None:
        return ""
    return f": {size(int(found[1])) if found[2] == 'bytes' else ' '.join(found.groups())} more were needed at once"


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _available(processes: Processes, ranks_here: int) -> int | None:
    """Bytes that this process (on a CPU: all of this machine's processes) may use; None if that is not known."""
    if processes.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(processes.device)
        return free + torch.cuda.memory_reserved(processes.device)
    try:
        found = re.search(r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        return None
    own = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return min([int(found[1]) * 1024, *_limits()]) + ranks_here * own if found else None


def _limits() -> list[int]:
    """Bytes left in this process's control groups (version 2), such as those of a container or a SLURM job."""
    left = []
    try:
        name = re.search(r"^0::/(.*)$", Path("/proc/self/cgroup").read_text(), re.MULTILINE)
        root = Path("/sys/fs/cgroup")
        group = root / name[1] if name else root
        for folder in [group, *group.parents]:
            if (folder / "memory.max").exists() and (limit := (folder / "memory.max").read_text().strip()) != "max":
                cache = re.search(r"^inactive_file (\d+)$", (folder / "memory.stat").read_text(), re.MULTILINE)
                now = int((folder / "memory.current").read_text()) - (int(cache[1]) if cache else 0)
                left.append(int(limit) - now)
    except OSError:
        pass
    return left
