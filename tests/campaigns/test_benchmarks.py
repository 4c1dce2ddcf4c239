"""The benchmarks themselves: their parity gates, and that `make gpu` goes on where it was cut off."""

import json
import sys
from pathlib import Path

import pytest

from tests.support.children import finished
from tests.support.commands import ROOT

pytestmark = pytest.mark.slow


def call(script: str, *words: str) -> tuple[int, str]:
    done = finished([sys.executable, f"benchmarks/{script}", *words], cwd=ROOT)
    return done.returncode, done.stdout + done.stderr


def test_every_loop_does_what_dist_gan_does(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    words = ["--networks", "mlp", "--recipes", "r3gan,sngan,biggan,stylegan2", "--rounds", "0"]
    code, printed = call("bench.py", *words, "--device", "cpu", "--out", str(out))
    assert code == 0, printed
    found = json.loads(out.read_text())
    assert not found["networks"]["mlp"]["gate"]["wrong"]
    assert {name: one["largest_difference"]["fp64"] < 1e-9 for name, one in found["recipes"].items()} == {
        "r3gan": True,
        "sngan": True,
        "biggan": True,
        "stylegan2": True,
    }


def test_make_gpu_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    words = ["--device", "cpu", "--small", "--seconds", "0.05", "--parts", "command,evaluation", "--out", str(out)]
    known = {"resumed": {"tensors": 1, "unlike": 0, "largest": 0.0}, "mark": 7}
    out.write_text(json.dumps({"cells": {"command: mnist_dcgan": known, "evaluation: dcgan64": known}}))
    code, printed = call("gpu.py", *words)
    assert code == 0, printed
    found = json.loads(out.read_text())
    assert found["cells"]["command: mnist_dcgan"] == known
    assert found["cells"]["command: mnist_mlp"]["resumed"]["unlike"] == 0
    assert "command: mnist_mlp: resumed to the bit" in printed
    evaluated = found["cells"]["evaluation: cifar10_r3gan"]
    assert evaluated["made_per_second"] > evaluated["made_and_seen_per_second"] > 0


def test_a_part_that_is_not_there(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    words = ["--device", "cpu", "--small", "--seconds", "0.05", "--parts", "profile,none", "--out", str(out)]
    code, printed = call("gpu.py", *words)
    assert (code, "unknown none" in printed) == (2, True)
    assert not out.exists()


def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    code, printed = call("gpu.py", "--out", str(tmp_path / "found.json"))
    assert (code, "there is no GPU" in " ".join(printed.split())) == (2, True)
