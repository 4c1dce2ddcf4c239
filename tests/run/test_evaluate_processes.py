"""Evaluations of runs in processes of their own: longer than the watchdog's patience, signals, kills, several ranks."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dist_gan.run import checkpoint
from dist_gan.run.scores import images_of, read_scores
from tests.support.children import child
from tests.support.commands import ROOT
from tests.support.runs import SMALL, assert_same, newest, run, wait_for

pytestmark = pytest.mark.slow
SLOW = """
import time
from pathlib import Path

from dist_gan.metrics.features import Features
from dist_gan.metrics.pixels import PixelNetwork


class Network(PixelNetwork):
    def forward(self, images):
        Path(self.mark).touch()
        time.sleep(self.seconds)
        return super().forward(images)


class Slow(Features):
    mark: str
    seconds: float = 0.3
    resizing = property(lambda self: "area4")

    def identity(self):
        return {"name": "slow"}  # neither the mark nor the time changes what is seen

    def open(self, device):
        network = Network(4)
        network.mark, network.seconds = self.mark, self.seconds
        return network
"""


def options(folder: Path, run_folder: Path, seconds: float, every: int = 640) -> list[str]:
    """Half a second of training, and an evaluation of 28 chunks of images (ten of them of real ones)."""
    (folder / "slow.py").write_text(SLOW)
    sees = f"{{name: '{folder / 'slow.py'}:Slow', mark: '{folder / 'mark'}', seconds: {seconds}}}"
    judged = f"evaluate=[{{name: fid, features: {sees}, images: 280, every: {every}}}]"
    return [*SMALL, "data.count=160", judged, "images=1280", f"run={run_folder}", "console=plain"]


def command_line(ranks: int, *arguments: str) -> list[str]:
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)] if ranks > 1 else []
    return [sys.executable, *launch, str(ROOT / "dist_gan" / "train.py"), *arguments]


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "DIST_GAN_DATA": str(folder / "data"), "OMP_NUM_THREADS": "1"}


def test_an_evaluation_may_take_longer_than_a_run_may_stand_still(tmp_path: Path, own_statistics: Path) -> None:
    """The watchdog sees its progress: 28 times 0.3 s with a patience of 5 s."""
    assert run(tmp_path / "run", 1280, *options(tmp_path, tmp_path / "run", 0.3, 1280)[6:], "timeout=5") == 0
    assert list(read_scores(tmp_path / "run")) == [1280]


def test_one_that_hangs_is_named(tmp_path: Path) -> None:
    line = command_line(1, *options(tmp_path, tmp_path / "run", 1000), "timeout=5")
    with child(line, cwd=tmp_path, env=environment(tmp_path), stderr=subprocess.PIPE, text=True) as process:
        _, error = process.communicate(timeout=120)
    assert process.returncode == 6
    assert "after 640 images, in the evaluation" in error


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_what_ends_it_loses_nothing(ranks: int, how: signal.Signals, tmp_path: Path) -> None:
    """Every process gets the signal while images are looked at; the same command then finds what a whole run finds."""
    folder, env = tmp_path / "run", environment(tmp_path)
    line = command_line(ranks, *options(tmp_path, folder, 0.3))
    with child(line, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_for((tmp_path / "mark").exists, 120)
        if how == signal.SIGTERM:
            process.send_signal(how)
        else:
            os.killpg(os.getpgid(process.pid), how) if os.getpgid(process.pid) == process.pid else process.kill()
        process.communicate(timeout=120)
    if how == signal.SIGTERM:
        assert json.loads((folder / "status.json").read_text())["state"] == "stopped"
        assert [images_of(path) for path in checkpoint.existing(folder / "checkpoints")] == [640]
    assert not read_scores(folder)
    for each in (folder, tmp_path / "whole"):
        line = command_line(ranks, *options(tmp_path, each, 0))
        with child(line, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            _, error = process.communicate(timeout=240)
        assert process.returncode == 0, error[-3000:]
    assert list(read_scores(folder)) == [640, 1280]
    assert read_scores(folder) == read_scores(tmp_path / "whole")
    assert_same(newest(folder), newest(tmp_path / "whole"))
