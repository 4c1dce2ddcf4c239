"""The short form of the proof: sixteen ranks, forked after one import of torch."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from tests.campaigns.proof.compare import differences, left_out
from tests.support.commands import ROOT, command
from tests.support.runs import wait_for


@pytest.mark.slow
def test_sixteen_processes_make_the_model_of_one() -> None:
    done = command("-m", "tests.campaigns.proof", "--large", "16", "--only", "mlp")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 of 3" in done.stdout


def test_only_parameters_that_nothing_depends_on_are_left_out() -> None:
    def states(bias: float, weight: float) -> dict[str, dict[str, torch.Tensor]]:
        moments = {"bias.exp_avg": 1e-17 * bias, "bias.exp_avg_sq": 1e-34, "weight.exp_avg_sq": 1e-4, "bias.step": 6.0}
        own = {"bias": 1e-13 * bias, "weight": weight}
        found = {"generator": own, "ema": own, "discriminator": own, "augment": {"bias": 1.0}}
        named = found | {"generator_optimizer": moments, "discriminator_optimizer": moments}
        return {member: {name: torch.tensor(v) for name, v in each.items()} for member, each in named.items()}

    right = states(1, 1)
    without = left_out(right)
    assert without == {"generator": ("bias",), "discriminator": ("bias",)}
    assert set(differences(states(-2, 1), right, without).values()) == {0.0}
    assert differences(states(1, 1.5), right, without)["G"] == 0.5
    assert differences(states(-2, 1), right, {})["G"] == pytest.approx(3)


FORKED = """
import os
os.environ["OMP_NUM_THREADS"] = "1"
import sys, time
from tests.support.forked import forked
def action():
    open(f"{sys.argv[1]}/{os.getpid()}", "w").close()
    if os.environ["RANK"] == "1" and sys.argv[2] == "fails":
        raise ValueError("this rank fails")
    time.sleep(600)
forked(3, action, timeout=5 if sys.argv[2] == "late" else 600)
"""
SIGNALS = {"killed": signal.SIGKILL, "interrupted": signal.SIGINT}
REASONS = {"fails": "this rank fails", "late": "were not done in time"}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["fails", "late", "killed", "interrupted"])
def test_no_rank_is_left_behind(tmp_path: Path, how: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", FORKED, tmp_path, how],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(lambda: len([*tmp_path.iterdir()]) == 3)
        if how in SIGNALS:
            parent.send_signal(SIGNALS[how])
        error = parent.communicate(timeout=60)[1]
    finally:
        parent.kill()
    assert parent.returncode != 0
    assert REASONS.get(how, "") in error
    wait_for(lambda: not any(lives(int(path.name)) for path in tmp_path.iterdir()))


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
