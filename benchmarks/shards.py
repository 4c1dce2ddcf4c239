"""What `shard=true` saves: the memory of each process of this launch, between updates and at its peaks. Linux only.

torchrun --nproc-per-node 4 benchmarks/shards.py [--width 256] [--shard]
"""

import argparse
import ctypes
import gc
import os
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from dist_gan.config.schema import Config
from dist_gan.data import Generated
from dist_gan.distributed.launch import leave
from dist_gan.distributed.processes import Processes
from dist_gan.game.game import Game
from dist_gan.networks import DCGAN
from dist_gan.run.build import game_of, stream_of

MIB = 2**20
RESIDENT = ("resident between updates", "at most in an update", "at most at a checkpoint")
"""Above what the process had before."""


def main() -> None:
    """Prints a table on the first process. Each way runs in this process after the one before, from the smallest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=256, help="of the DCGAN")
    parser.add_argument("--shard", action="store_true", help="with shard=true; else without")
    asked = parser.parse_args()
    processes = Processes("fp32")
    measured(processes, 8, shard=asked.shard)  # libraries are loaded, and threads are there
    ranks = measured(processes, asked.width, shard=asked.shard)
    if processes.is_first:
        table = Table(title=f"DCGAN of width {asked.width} at 32x32, {processes.count} processes: MiB of each process")
        for heading in ("shard", "parameters", "optimizers' states", "average", *RESIDENT):
            table.add_column(heading, justify="right")
        columns = zip(*ranks, strict=True)
        table.add_row(str(asked.shard).lower(), *(_range([each / MIB for each in one]) for one in columns))
        Console(width=150).print(table)
    leave(0)


def measured(processes: Processes, width: int, *, shard: bool) -> list[list[int]]:
    """For each process: bytes of parameters, states and average, and how much more is resident than before."""
    config = Config(
        networks=DCGAN(width=width, group=4),
        data=Generated(size=32, count=64),
        batch_size=4 * processes.count,
        shard=shard,
    )
    dataset = config.data.open(processes.device)
    before = resident()
    game = game_of(config, processes, dataset)
    batches = stream_of(config, processes, dataset).batches(0)
    game.warm_up_reduction(batches)
    for _ in range(3):
        game.update(batches)
    between = resident()
    update = at_most(lambda: game.update(batches))
    checkpoint = at_most(lambda: taken(game))
    game.update(batches)  # what was restored for the checkpoint is given up
    return processes.gather([*held(game), *(each - before for each in (between, update, checkpoint))])


def taken(game: Game) -> None:
    """What a checkpoint does before training goes on: rank 0 copies the state."""
    state = game.state() if game.processes.is_first or game.sharded else {}
    if game.processes.is_first:
        copied = [tensor.detach().to("cpu", copy=True) for own in state.values() for tensor in own.values()]
        del copied


def at_most(action: Callable[[], object]) -> int:
    """The largest number of bytes that were resident meanwhile."""
    resident()
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    action()
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def held(game: Game) -> list[int]:
    """Bytes of parameters, optimizers' states and average."""
    players = game.players.values()
    states = [t for player in players for own in player.optimizer.state.values() for t in own.values()]
    parts = [
        [p for player in players for p in player.network.parameters()],
        [t for t in states if isinstance(t, torch.Tensor)],
        list(game.average.network.parameters()),
    ]
    return [sum(tensor.numel() * tensor.element_size() for tensor in part) for part in parts]


def resident() -> int:
    """Bytes of main memory that this process has, without what was freed and not given back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _range(values: list[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:,.0f}" if round(low) == round(high) else f"{low:,.0f} to {high:,.0f}"


if __name__ == "__main__":
    main()
