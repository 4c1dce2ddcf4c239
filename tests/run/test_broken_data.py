"""An image that breaks while a run streams it: named once, exit code 5, nothing lost, and a way on."""

import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dist_gan.run import checkpoint
from tests.support.commands import ROOT, command
from tests.support.launched import assert_nothing_left, begun, done, started, status

COUNT = 64
STREAMED = [
    "networks={name: mlp, width: 4, latent: 8}",
    "batch_size=4",
    "track={every: 8, wandb: disabled}",
    "sample={every: 100000000, count: 4}",
    "save.every=100000000",
    "timeout=20",
]


def arguments(folder: Path, workers: int) -> list[str]:
    data = f"{{name: folder, path: {folder / 'data'}, size: 16, resident_megabytes: 0, workers: {workers}}}"
    return [*STREAMED, f"data={data}", f"run={folder / 'run'}"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    random = np.random.default_rng(0)
    for i in range(COUNT):
        pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "data" / f"{i:04d}.png")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "workers"), [(1, 0), (1, 2), (2, 0), (2, 1)])
def test_named_saved_and_gone_on_with(folder: Path, ranks: int, workers: int) -> None:
    run, broken = folder / "run", folder / "data" / "0007.png"
    content = broken.read_bytes()
    given = arguments(folder, workers)
    with started(ROOT, "local.sh", "-n", str(ranks), *given, "images=100000000") as process:
        begun(run)
        broken.write_bytes(content[:600])
        _, error = process.communicate(timeout=120)
    assert process.returncode == 5, error
    assert error.count("0007.png") == 1, error
    assert "Traceback" not in error
    assert "data.skip_broken=true" in error
    said = status(run)
    assert said["state"] == "failed"
    assert said["exit_code"] == 5
    assert "0007.png" in said["reason"]
    assert_nothing_left(run)
    saved = checkpoint.read(checkpoint.existing(run / "checkpoints")[-1]).state["images_seen"]
    assert saved > 0
    # Once the file is repaired, the same command goes on where it was, to the bits of a run that was left alone.
    broken.write_bytes(content)
    more = saved + 64
    code, _, error = done(ROOT, "local.sh", "-n", str(ranks), *given, f"images={more}")
    assert code == 0, error
    alone = [*given[:-1], f"run={folder / 'alone'}"]
    code, _, error = done(ROOT, "local.sh", "-n", str(ranks), *alone, f"images={more}")
    assert code == 0, error
    both = [checkpoint.read(checkpoint.existing(path / "checkpoints")[-1]) for path in (run, folder / "alone")]
    assert both[0].state["images_seen"] == both[1].state["images_seen"] == more
    for member, own in both[0].tensors.items():
        for name, tensor in own.items():
            assert tensor.equal(both[1].tensors[member][name]), f"{member}: {name}"


@pytest.mark.slow
def test_a_share_that_is_away_for_a_second(folder: Path) -> None:
    run = folder / "run"
    with started(ROOT, "local.sh", *arguments(folder, 1), "images=100000000") as process:
        begun(run)
        (folder / "data").rename(folder / "away")
        time.sleep(1)
        (folder / "away").rename(folder / "data")
        lines = len((run / "metrics.jsonl").read_text().splitlines())
        while process.poll() is None and len((run / "metrics.jsonl").read_text().splitlines()) < lines + 100:
            time.sleep(0.05)
        assert process.poll() is None, process.communicate()
        process.terminate()
        _, error = process.communicate(timeout=60)
    assert process.returncode == 0, error


def test_truncated_from_the_start(folder: Path) -> None:
    broken = folder / "data" / "0007.png"
    broken.write_bytes(broken.read_bytes()[:600])
    found = command("dist_gan/train.py", *arguments(folder, 0), "images=64")
    assert found.returncode == 2
    assert "0007.png" in found.stderr
    assert not (folder / "run").exists()
    found = command("dist_gan/train.py", *arguments(folder, 0), "images=64", "data.skip_broken=true")
    assert found.returncode == 0, found.stderr
