"""What the cells of gpu.py share: playing updates, comparing states, running commands."""

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dist_gan.config.schema import Config
from dist_gan.data import Generated
from dist_gan.data.source import Batch
from dist_gan.game.game import Game
from dist_gan.run import checkpoint

ROOT = Path(__file__).parent.parent
Numbers = dict[str, Any]
State = dict[str, dict[str, Tensor]]


def that_fits(measured: Callable[[Config], Numbers], config: Config) -> Numbers:
    """Measured in smaller microbatches where a whole batch does not fit into the device's memory."""
    while True:
        try:
            return measured(config) | {"microbatch": config.used_microbatch}
        except torch.OutOfMemoryError:
            part = config.used_microbatch or config.batch_size
            if part == 1 or part // 2 % config.batch_multiple:
                raise
            config = config.model_copy(update={"microbatch": part // 2})
        gc.collect()
        torch.cuda.empty_cache()


def play(game: Game, batches: Iterator[Batch], count: int) -> None:
    for _ in range(count):
        game.update(batches)


def made_up(config: Config) -> Config:
    """The same on made-up images of the same shape, so that nothing has to be fetched."""
    shape = config.data.shape
    size = shape.height if shape.height == shape.width else f"{shape.height}x{shape.width}"
    data = Generated(size=size, channels=shape.channels, count=2 * config.batch_size, flip=config.data.flip)
    return config.model_copy(update={"data": data, "evaluate": ()})


def differences(one: State, other: State) -> Numbers:
    """How many tensors are not equal to the bit, and the largest difference of a number."""
    pairs = [(one[m][k], other[m][k]) for m in one for k in one[m]]
    unlike = [(a, b) for a, b in pairs if not torch.equal(a.cpu(), b.cpu())]
    largest = max((float((a.double().cpu() - b.double().cpu()).abs().max()) for a, b in unlike), default=0.0)
    return {"tensors": len(pairs), "unlike": len(unlike), "largest": largest}


def call(*words: str) -> "subprocess.CompletedProcess[str]":
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])  # where it is not installed
    env = os.environ | {"PYTHONPATH": path, "DIST_GAN_TEST_GPU": "1"}
    return subprocess.run([sys.executable, *words], cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def pytest(marker: str) -> Numbers:
    workers = ["-n", str(min(8, os.cpu_count() or 1))]
    done = call("-m", "pytest", "-q", *workers, "-m", marker, "-p", "no:cacheprovider")
    lines = (done.stdout + done.stderr).strip().splitlines()
    if done.returncode:
        raise RuntimeError(
            "\n".join(line for line in lines if line.startswith(("FAILED", "ERROR", "E  "))) or lines[-1]
        )
    return {"found": lines[-1]}


def newest(run: Path) -> State:
    """The tensors of a run's newest checkpoint."""
    return dict(checkpoint.read(checkpoint.existing(run / "checkpoints")[-1]).tensors)
