"""Where the time goes from a command's start to its first update, and what a checkpoint costs the training thread.

python benchmarks/start.py [--configs mnist_mlp,mnist_dcgan] [--shipped]
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.table import Table
from show import console

ROOT = Path(__file__).parent.parent


def main() -> None:
    """Each config in a process of its own, on made-up images; by default with the smallest batch: the shortest update,
    beside which a checkpoint weighs most."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", default="mnist_mlp,mnist_dcgan", help="comma-separated names of configs/")
    parser.add_argument("--shipped", action="store_true", help="with the batch of the config")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        one(asked.one, shipped=asked.shipped)
        return
    names = asked.configs.split(",")
    for name in names:
        subprocess.run([sys.executable, __file__, "--one", name, *["--shipped"] * asked.shipped], check=True)


def one(name: str, *, shipped: bool) -> None:
    """Prints the times of one config."""
    clock = Clock()
    import torch  # noqa: F401

    clock.note("import torch")
    import accelerate  # noqa: F401

    clock.note("import accelerate")
    from gpu_tools import made_up, play
    from measure import timed

    from dist_gan.config.command_line import dump, load
    from dist_gan.distributed.processes import Processes
    from dist_gan.run.build import game_of, stream_of
    from dist_gan.run.checkpoint import Writer

    clock.note("import dist_gan")
    config = load(ROOT / "configs" / f"{name}.yaml")
    if not shipped:
        config = config.model_copy(update={"batch_size": max(2, config.batch_multiple), "microbatch": 0})
    config = made_up(config)
    clock.note("the config")
    processes = Processes(config.precision)
    clock.note("the process")
    dataset = config.data.open(processes.device)
    clock.note("the data (made up)")
    game, batches = game_of(config, processes, dataset), stream_of(config, processes, dataset).batches(0)
    clock.note("the networks")
    for number in ("first", "second"):
        play(game, batches, 1)
        clock.note(f"the {number} update")

    def median(action: Any, count: int = 5) -> float:
        return sorted(timed(action, processes.device) for _ in range(count))[count // 2] * 1e3

    update = median(lambda: play(game, batches, 1))
    state = game.state()
    gather = median(game.state)
    snapshot = median(lambda: {f: {k: v.detach().to("cpu", copy=True) for k, v in o.items()} for f, o in state.items()})
    with tempfile.TemporaryDirectory() as folder:
        writer, facts, text = Writer(Path(folder), keep=2, keep_every=0, warn=print), {"images_seen": 0}, dump(config)
        stalls = []
        for k in range(5):
            stalls.append(timed(lambda n=k: writer.save(n, state, facts, text), processes.device) * 1e3)  # type: ignore[misc]
            writer.wait()
    stall = sorted(stalls)[2]
    table = Table(title=f"{name}: seconds, on {processes.describe()}")
    for heading in clock.parts:
        table.add_column(heading, justify="right")
    table.add_row(*(f"{seconds:.2f}" for seconds in clock.parts.values()))
    console.print(table)
    console.print(
        f"batch {config.batch_size}: an update {update:.1f} ms; a checkpoint: {gather:.1f} ms to gather the state, "
        f"{snapshot:.1f} ms to copy it, and {max(0.0, stall - snapshot):.1f} ms more until training goes on"
    )


class Clock:
    """Seconds by what they were needed for."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = {}
        self._last = time.perf_counter()

    def note(self, what: str) -> None:
        """What ended now."""
        now = time.perf_counter()
        self.parts[what] = now - self._last
        self._last = now


if __name__ == "__main__":
    main()
