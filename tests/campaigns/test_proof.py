"""The short form of the proof: sixteen ranks, forked after one import of torch."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from tests.campaigns.proof.compare import counts, differences
from tests.support.commands import ROOT, command
from tests.support.runs import wait_for


@pytest.mark.slow
def test_sixteen_processes_make_the_model_of_one() -> None:
    done = command("-m", "tests.campaigns.proof", "--large", "16", "--only", "mlp")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 of 3" in done.stdout


def states(bias: float, weight: float, mean: float = 0.0) -> dict[str, dict[str, torch.Tensor]]:
    """Of two players with two parameters each; the gradient of the bias is nothing but rounding."""
    moments = {"bias.exp_avg": 1e-17 * bias, "bias.exp_avg_sq": 1e-34, "weight.exp_avg_sq": 1e-4, "bias.step": 6.0}
    moments |= {"small.exp_avg": 1e-6}  # 1e-4 of the largest
    own = {"bias": 1e-13 * bias, "weight": weight, "small": 1.0}
    average = own | {"norm.running_mean": mean}
    pictures = {"images": weight}
    found = {"generator": own, "ema": average, "discriminator": own, "augment": {"bias": 1.0}, "pictures": pictures}
    named = found | {"generator_optimizer": moments, "discriminator_optimizer": moments}
    return {member: {name: torch.tensor(v) for name, v in each.items()} for member, each in named.items()}


def test_only_parameters_that_nothing_depends_on_are_left_out() -> None:
    right = states(1, 1)
    counting = counts(right)
    for player in ("generator", "discriminator"):
        assert counting[player] == {"bias": 0, "weight": 1, "small": pytest.approx(0.1)}
    assert set(differences(states(-2, 1), right, counting).values()) == {0.0}
    assert differences(states(1, 1.5), right, counting)["G"] == 0.5
    assert differences(states(-2, 1), right)["G"] == pytest.approx(3)


def test_a_small_gradient_counts_less_and_measured_statistics_follow_it() -> None:
    right, other = states(1, 1), states(1, 1, mean=1)
    other["generator"]["small"] = torch.tensor(1.5)
    found = differences(other, right, counts(right))
    assert found["G"] == pytest.approx(0.05)
    assert found["EMA"] == 0
    everything = {player: dict.fromkeys(own, 1.0) for player, own in counts(right).items()}
    assert differences(other, right, everything)["EMA"] > 1
    other["pictures"]["images"] = torch.tensor(2.0)
    assert differences(other, right, counts(right))["pictures"] == 1


def test_a_whole_network_is_one_vector() -> None:
    right, other = states(0, 3), states(0, 3)
    other["generator"] = {"bias": torch.tensor(0.0), "weight": torch.tensor(3.0), "small": torch.tensor(2.0)}
    assert differences(other, right, whole=True)["G"] == pytest.approx(1 / 10**0.5)
    assert differences(other, right)["G"] == 1


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
