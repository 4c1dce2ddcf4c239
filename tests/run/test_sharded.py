"""The real command with `shard`: pictures, metrics of images, checkpoints and a resume, on two processes."""

from pathlib import Path

import pytest

from tests.support.commands import command
from tests.support.runs import SMALL, assert_same, newest

pytestmark = pytest.mark.slow
EVALUATE = "evaluate=[{name: fid, features: {name: pixels}, images: 128, every: 640}]"


def trained(folder: Path, images: int, *words: str) -> None:
    done = command(
        "-m", "dist_gan.train", *SMALL, EVALUATE, f"run={folder}", f"images={images}", "save.every=640", *words, ranks=2
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_sharded_run_goes_on_unsharded_and_ends_in_the_same_bits(tmp_path: Path) -> None:
    trained(tmp_path / "parts", 640, "shard=true")
    trained(tmp_path / "parts", 1280, "shard=true")
    trained(tmp_path / "parts", 1920)
    trained(tmp_path / "whole", 1920)
    assert_same(newest(tmp_path / "parts"), newest(tmp_path / "whole"))
    assert (tmp_path / "parts/scores.json").exists()
