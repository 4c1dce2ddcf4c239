"""On a GPU: each shipped recipe, small, makes the model that a CPU makes; and the same bits twice."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from torch import Tensor

from dist_gan.config.command_line import load
from dist_gan.config.schema import Config
from dist_gan.distributed.numerics import preserved
from dist_gan.distributed.processes import Processes, accelerate_preserved
from dist_gan.optim.optimizers import SGD
from dist_gan.run.build import game_of, stream_of
from tests.support.commands import ROOT
from tests.support.shrunk import shrunk

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU (make gpu)")]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
UPDATES = 5
State = dict[str, Tensor]


def played(config: Config) -> State:
    """All tensors of the game after a few updates, on the CPU, by "member.name"."""
    processes = Processes(config.precision, exact=config.exact)
    assert (processes.device.type == "cpu") == ("ACCELERATE_USE_CPU" in os.environ)
    dataset = config.data.open(processes.device)
    game = game_of(config, processes, dataset)
    batches = stream_of(config, processes, dataset).batches(0)
    for _ in range(UPDATES):
        game.update(batches)
    return {f"{member}.{name}": t.cpu() for member, own in game.state().items() for name, t in own.items()}


def small(path: Path, precision: str, *, exact: bool = False) -> Config:
    config = shrunk(load(path), 16, count=100)
    return config.model_copy(update={"precision": precision, "exact": exact})


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    with preserved(), accelerate_preserved():
        AcceleratorState._reset_state(reset_partial_state=True)
        yield


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_gpu_makes_the_model_of_a_cpu(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Not Adam: it divides by the size of a gradient, and makes a move of the noise where that is zero but for rounding.
    # The rate is a number that float32 has, since a GPU's optimizers take it as one.
    plain = SGD(learning_rate=2**-7)
    config = small(path, "fp64").model_copy(update={"generator_optimizer": plain, "discriminator_optimizer": plain})
    on_gpu = played(config)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    AcceleratorState._reset_state(reset_partial_state=True)  # else the device stays what it was
    on_cpu = played(config)
    assert on_gpu.keys() == on_cpu.keys()
    far = {
        # The floor: a bias in front of batch normalization that began at 0 holds rounding alone, far below 1e-6.
        name: float((on_gpu[name].double() - tensor.double()).norm() / (tensor.double().norm() + 1e-6))
        for name, tensor in on_cpu.items()
    }
    worst = sorted(far.items(), key=lambda item: -item[1])[:8]
    assert worst[0][1] < 1e-9, worst


@pytest.mark.parametrize("exact", [False, True], ids=["usual", "exact"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_same_bits_twice(path: Path, precision: str, exact: bool) -> None:
    config = small(path, precision, exact=exact)
    first, second = played(config), played(config)
    unlike = [name for name in first if not torch.equal(first[name], second[name])]
    assert not unlike
    assert all(tensor.isfinite().all() for tensor in first.values())
