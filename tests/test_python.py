"""dist_gan from Python: in a script, under launchers, in a notebook, in a thread; nothing is left set afterwards."""

import importlib
import os
import signal
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState

import dist_gan
from dist_gan import Config, given, load_generator, samples, train
from dist_gan.config.command_line import load
from dist_gan.errors import ConfigError, PeerFailed
from dist_gan.game.game import Game
from dist_gan.run import checkpoint
from dist_gan.run.events import Event
from dist_gan.run.records import Records
from tests.support.children import finished
from tests.support.commands import ROOT, command, sample
from tests.support.launched import status
from tests.support.runs import assert_same, newest
from tests.support.script import IMAGES, LABELS, make

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
TINY: dict[str, Any] = {
    "images": 64,
    "batch_size": 8,
    "networks": {"name": "mlp", "width": 4},
    "data": {"name": "generated", "size": 8},
    "track": {"wandb": "disabled"},
    "sample": {"count": 4},
    "console": "plain",
}


def tiny(folder: Path, **more: Any) -> Config:
    return Config(**{**TINY, "run": str(folder), **more})


def test_the_function_stays_the_function() -> None:
    module = importlib.import_module("dist_gan.train")
    assert module.main is not None
    assert dist_gan.train is train is importlib.import_module("dist_gan.run.session").train
    assert {"Config", "train", "load_generator", "samples", "given"} <= set(dir(dist_gan))
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        getattr(dist_gan, "trian")  # noqa: B009  # as a mistake of writing would


def test_the_package_is_light() -> None:
    code = "import sys, dist_gan; assert not {'torch', 'pydantic', 'yaml'} & set(sys.modules), sorted(sys.modules)"
    assert command("-c", code).returncode == 0


def state_of_the_process() -> dict[str, Any]:
    return {
        "signals": [
            signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
        ],
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "anomaly": torch.is_anomaly_enabled(),
        "gradients": torch.is_grad_enabled(),
        "dtype": torch.get_default_dtype(),
        "products": torch.backends.cuda.matmul.fp32_precision,
        "convolutions": torch.backends.cudnn.conv.fp32_precision,  # type: ignore[attr-defined]
        "cublas": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
        "accelerate": (dict(AcceleratorState._shared_state), dict(PartialState._shared_state)),
        "random": torch.get_rng_state().tolist(),
    }


class Fails(Event):
    name = "a failure"
    every = 8

    def happen(self, game: Game, records: Records) -> None:
        raise OSError("on purpose")


@pytest.mark.parametrize("ends", ["returns", "raises", "refuses"])
def test_everything_is_as_before(ends: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However it ends, and whatever was set: other threads, types and gradient modes, an Accelerator of one's own."""
    mine = Accelerator(cpu=True)
    handler = lambda *_: None  # noqa: E731  # it is compared
    before_all = signal.signal(signal.SIGUSR1, handler)
    torch.set_num_threads(2)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            before = state_of_the_process()
            if ends == "returns":
                train(tiny(tmp_path, exact=True, precision="tf32", batch_size=16))
                assert newest(tmp_path).tensors["generator"]["tower.layers.0.weight"].dtype == torch.float32
            else:
                with pytest.raises(OSError if ends == "raises" else ConfigError):
                    train(tiny(tmp_path, exact=True, batch_size=16 if ends == "raises" else 5000), events=[Fails()])
            assert state_of_the_process() == before
        assert mine.mixed_precision == "no"
        assert mine.num_processes == 1
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_num_threads(1)
        signal.signal(signal.SIGUSR1, before_all)


def test_a_run_with_own_classes_and_images_is_as_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resumed to the bit, sampled, and told apart by its data's fingerprint."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert make(str(whole), 128).images_seen == 128
    make(str(parts), 64)
    with pytest.raises(ConfigError, match="fingerprint"):
        make(str(parts), 128, data=IMAGES[::-1].copy())
    make(str(parts), 128)
    assert_same(newest(whole), newest(parts))
    assert newest(whole).state["code"].keys() == {"objective.loss", "generator_optimizer.schedule"}
    assert sample.main([str(whole), "count=20", "seed=3", "classes=2,0", f"out={tmp_path}/own.npy"]) == 0
    by_command = torch.from_numpy(np.load(tmp_path / "own.npy")).permute(0, 3, 1, 2)
    G = load_generator(whole, "cpu")
    by_hand = list(samples(G, 20, seed=3, classes=[2, 0]))
    assert [len(batch) for batch in by_hand] == [16, 4]
    assert torch.equal(torch.cat(by_hand), by_command)
    assert torch.equal(torch.cat(list(samples(G, 5, seed=3, classes=[2, 0]))), by_command[:5])
    with pytest.raises(ConfigError, match="7"):
        samples(G, 5, classes=7)
    # without the images: not the same run, and the message says where they come from
    with pytest.raises(ConfigError, match="data: given in the run, generated now"):
        train(tiny(whole))
    with pytest.raises(ConfigError, match="Give the array again"):
        train(load(whole / "checkpoints" / "images-000000000128" / "config.yaml"))


@pytest.mark.parametrize("layout", ["MHW", "MHWC", "MCHW", "dataset"])
def test_images_in_memory(layout: str, tmp_path: Path) -> None:
    grey = IMAGES[..., 0]
    data: Any = {
        "MHW": grey,
        "MHWC": IMAGES,
        "MCHW": IMAGES.transpose(0, 3, 1, 2),
        "dataset": torch.utils.data.TensorDataset(torch.from_numpy(IMAGES), torch.from_numpy(LABELS)),
    }[layout]
    result = train(tiny(tmp_path, networks={"name": "mlp", "width": 4, "conditional": layout == "dataset"}), data=data)
    read = newest(result.run)
    assert read.state["image_shape"] == [1 if layout == "MHW" else 3, 16, 16]
    assert read.state["classes"] == (["0", "1", "2"] if layout == "dataset" else [])
    assert Config(data=given(IMAGES)).data.shape == (3, 16, 16)


def run_script(tmp_path: Path, *launcher: str) -> list[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true"}
    done = finished([*launcher, "-m", "tests.support.script", str(tmp_path)], cwd=ROOT, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if line.startswith("done")]


@pytest.mark.slow
def test_a_script_alone_and_under_launchers(tmp_path: Path) -> None:
    """Several runs in one process each, of several precisions, with an error in between; the same images."""
    alone = run_script(tmp_path / "alone", sys.executable)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    two = run_script(tmp_path / "two", *torchrun)
    accelerate = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "launch/cpu.yaml", "--multi_gpu"]
    three = run_script(
        tmp_path / "three", *accelerate, "--num_processes", "2", "--num_machines", "1", "--main_process_port", "0"
    )
    assert (len(alone), len(two), len(three)) == (1, 2, 2)
    assert all(line.startswith("done: True") for line in alone + two + three)
    assert len(set(two + three)) == 1


def test_in_a_thread(tmp_path: Path) -> None:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(train(tiny(tmp_path))))
    thread.start()
    thread.join()
    assert found[0].images_seen == 64
    assert checkpoint.existing(tmp_path / "checkpoints")


class Hangs(Event):
    """In Python, where an exception can reach it; in one call it could not be interrupted before that returns."""

    name = "a hang"
    every = 8

    def happen(self, game: Game, records: Records) -> None:
        while True:
            time.sleep(0.05)


@pytest.mark.slow
def test_a_run_that_hangs_raises_and_the_interpreter_lives(tmp_path: Path) -> None:
    with pytest.raises(PeerFailed, match=r"no progress for 5 s.*in a hang"):
        train(tiny(tmp_path, timeout=5), events=[Hangs()])
    assert status(tmp_path)["state"] == "failed"
    assert "happen" in (tmp_path / "stacks" / "rank-00000.txt").read_text()
    assert train(tiny(tmp_path / "next")).images_seen == 64


NOTEBOOK = [
    """
    import numpy as np
    from accelerate import notebook_launcher
    from dist_gan import Config, load_generator, samples, train
    from dist_gan.optim.schedules import Schedule

    class Half(Schedule):
        def factor(self, images_seen: int) -> float:
            return 0.5

    images = np.random.default_rng(0).integers(0, 256, (64, 8, 8), dtype=np.uint8)

    def work(run, count=64):
        optimizer = {"name": "adam", "schedule": Half()}
        config = Config(run=run, images=count, batch_size=8, networks={"name": "mlp", "width": 4},
                        generator_optimizer=optimizer, track={"wandb": "disabled"}, sample={"count": 4})
        return train(config, data=images)
    """,
    "notebook_launcher(work, ('two',), num_processes=2, use_port='PORT')",
    "one = work('one')\nassert one.images_seen == 64\none = work('one', 128)\none.images_seen",
    "print(next(samples(load_generator('two'), 4)).shape, next(samples(load_generator(one.run), 4)).shape)",
    "import json; print([json.load(open(f'{r}/checkpoints/{n}/state.json'))['processes'] for r, n in "
    "(('two', 'images-000000000064'), ('one', 'images-000000000128'))])",
]


@pytest.mark.slow
def test_in_a_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell, and `notebook_launcher` with two processes; in this order, because it refuses a notebook that has used
    an Accelerator."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    from tests.support.launched import free_port

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    cells = [textwrap.dedent(text).replace("PORT", free_port()) for text in NOTEBOOK]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells])
    kernel = {"name": "python3", "display_name": "python3", "language": "python"}
    notebook.metadata["kernelspec"] = kernel
    nbclient.NotebookClient(notebook, timeout=200, resources={"metadata": {"path": str(tmp_path)}}).execute()
    texts = ["".join(output.get("text", "") for output in cell.outputs) for cell in notebook.cells]
    assert "torch.Size([4, 1, 8, 8]) torch.Size([4, 1, 8, 8])" in texts[3]
    assert "[2, 1]" in texts[4]
    assert notebook.cells[2].outputs[-1]["data"]["text/plain"] == "128"


BLOCKED = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in ("fcntl", "resource"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
for name in ("fcntl", "resource"):
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Missing())
import signal
del signal.SIGHUP, signal.SIGUSR1
from dist_gan import load_generator, samples
G = load_generator(sys.argv[1], "cpu")
training = [name for name in sys.modules if name.startswith(("accelerate", "dist_gan.distributed", "dist_gan.game"))]
print(sum(batch.long().sum().item() for batch in samples(G, 5)), training)
"""


def test_a_model_alone(tmp_path: Path) -> None:
    """From a run, a checkpoint, and two files of one; where there is no fcntl; nothing that only training needs."""
    train(tiny(tmp_path / "run"))
    path = checkpoint.existing(tmp_path / "run" / "checkpoints")[-1]
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("ema.safetensors", "config.yaml"):
        (bare / name).write_bytes((path / name).read_bytes())
    found = set()
    for place in (tmp_path / "run", path, bare):
        done = command("-c", BLOCKED, str(place))
        assert done.returncode == 0, done.stderr
        found.add(done.stdout.strip())
    assert len(found) == 1
    assert found.pop().endswith("[]")
    for name in ("run", "bare"):
        assert sample.main([str(tmp_path / name), "count=4", f"out={tmp_path}/{name}.png"]) == 0
    assert (tmp_path / "run.png").read_bytes() == (tmp_path / "bare.png").read_bytes()


def test_memory_does_not_grow_with_the_count(tmp_path: Path) -> None:
    train(tiny(tmp_path))
    G = load_generator(tmp_path, "cpu")
    batches = samples(G, 10**12)
    first, second = next(batches), next(batches)
    assert first.shape == second.shape == (16, 1, 8, 8)
    assert not torch.equal(first, second)
