"""The entry commands, debug mode and samples, as a user types them."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from dist_gan.run import checkpoint
from dist_gan.sample import main as sample_main
from tests.support.children import finished
from tests.support.commands import ROOT, train
from tests.support.runs import SMALL, SMALL_DCGAN, newest, run


@pytest.mark.slow
@pytest.mark.parametrize(
    "launch",
    [
        [sys.executable, "-m", "accelerate.commands.launch", "dist_gan/train.py"],
        [sys.executable, "dist_gan/train.py"],
        [sys.executable, "-m", "dist_gan.train"],
    ],
    ids=["accelerate launch", "script", "-m"],
)
def test_entry_commands_from_a_plain_clone(tmp_path: Path, launch: list[str]) -> None:
    """Without the package installed: the tree is copied, and nothing else of it is on the path."""
    shutil.copytree(ROOT / "dist_gan", tmp_path / "dist_gan", ignore=shutil.ignore_patterns("__pycache__"))
    probe = ["run=out/here", "images=1280", "track.wandb=disabled", *SMALL[:2]]
    done = finished([*launch, *probe], cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "images seen    1,280" in done.stdout
    assert json.loads((tmp_path / "out/here/status.json").read_text())["state"] == "finished"
    where = finished(
        [sys.executable, "-m", "dist_gan.sample", "out/here", "count=4", "out=pictures/a.png"],
        cwd=tmp_path,
        timeout=60,
    )
    assert where.returncode == 0, where.stderr
    assert Image.open(tmp_path / "pictures/a.png").size == (22 * 24, 22 * 24)


def test_debug_writes_and_reads_everything_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        assert run(tmp_path / "a", 10**9, "debug=true") == 0
        assert run(tmp_path / "a", 10**9, "debug=true", small=SMALL_DCGAN) == 0
    finally:
        torch.autograd.set_detect_anomaly(False)
        torch.use_deterministic_algorithms(False)
    out = capsys.readouterr().out
    assert len(re.findall(r"debug: \d+ checks passed", out)) == 2
    assert out.count("debug: going on from 128 images") == 2
    assert out.count("run folder") == 2, "once for each"
    assert [path.name for path in tmp_path.iterdir()] == ["a-debug"]
    assert (tmp_path / "a-debug" / "samples" / "000000000256.png").exists()
    assert newest(tmp_path / "a-debug").state["images_seen"] == 256


def test_debug_finds_a_network_that_leaves_its_range(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dist_gan.networks.mlp.torch.tanh", lambda x: x * 100)
    try:
        assert run(tmp_path / "a", 10**9, "debug=true") == 1
    finally:
        torch.autograd.set_detect_anomaly(False)
        torch.use_deterministic_algorithms(False)
    error = capsys.readouterr().err
    assert error.startswith("dist_gan: debug: after G's turn it must hold that fake images lie in [-1, 1]")
    assert "Traceback" not in error


def test_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "a", 256, small=SMALL_DCGAN) == 0
    path = checkpoint.existing(tmp_path / "a" / "checkpoints")[-1]

    def sample(*options: str) -> int:
        return sample_main([str(options[0]), *options[1:]])

    assert sample(str(tmp_path / "a"), "count=5", f"out={tmp_path}/five") == 0
    assert sample(str(path), "count=2", f"out={tmp_path}/two") == 0
    assert sample(str(path), "count=2", "seed=1", f"out={tmp_path}/other") == 0
    five, two, other = ([p.read_bytes() for p in sorted((tmp_path / x).iterdir())] for x in ("five", "two", "other"))
    assert five[:2] == two
    assert other != two
    assert sample(str(path), "count=3", "interpolate=6", f"out={tmp_path}/strip.png") == 0
    assert Image.open(tmp_path / "strip.png").size == (5 * (6 * 18 + 2), 5 * (3 * 18 + 2))
    strip, grid = (tmp_path / "strip.png"), (tmp_path / "grid.png")
    assert sample(str(path), "count=4", f"out={grid}") == 0
    first = [
        Image.open(path).crop((2 * k, 2 * k, 18 * k, 18 * k)).resize((16, 16), Image.Resampling.NEAREST).tobytes()
        for path, k in ((strip, 5), (grid, 14))
    ]
    assert first[0] == first[1]
    capsys.readouterr()
    assert sample(str(tmp_path)) == 2
    assert sample(str(path), "cuont=3") == 2
    assert sample(str(path), "count=none") == 2
    assert f"{tmp_path} is no run. Give one of those in it: {tmp_path / 'a'}\n" in capsys.readouterr().err
    assert sample(str(tmp_path / "none")) == 2
    assert "none is neither a checkpoint nor a run with one: it does not exist" in capsys.readouterr().err
    (path / "ema.safetensors").write_bytes(b"")
    assert sample(str(path)) == 3


def test_help_and_print_config(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert train.main(["--help"]) == 0
    assert "networks.dropout=0.3" in capsys.readouterr().out
    assert train.main(["configs/mnist_dcgan.yaml", "seed=9", "--print-config"]) == 0
    (tmp_path / "x.yaml").write_text(capsys.readouterr().out)
    assert train.main([str(tmp_path / "x.yaml"), "--print-config"]) == 0
    assert capsys.readouterr().out == (tmp_path / "x.yaml").read_text()
