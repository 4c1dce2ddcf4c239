import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

# One thread a process: tests start several, and threads that wait for each other on few cores take minutes.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch

from dist_gan.data.fetch import fetch_mnist
from dist_gan.distributed.processes import Processes
from dist_gan.errors import ConfigError
from tests.support.commands import command


@pytest.fixture(autouse=True)
def _nobody_else_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test speaks to W&B's server, whatever keys this machine has."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")


@pytest.fixture
def processes() -> Processes:
    return Processes("fp32")


@pytest.fixture
def double() -> Processes:
    return Processes("fp64")


@pytest.fixture(scope="session")
def mnist() -> Path:
    """The data root with MNIST in it; fetched once."""
    try:
        return fetch_mnist()
    except ConfigError as error:
        pytest.skip(f"MNIST is not to be had on this machine: {error}")


@pytest.fixture
def ranks(tmp_path: Path) -> Callable[..., Any]:
    """Run a scenario of tests/support/ranks.py on several ranks; returns what rank 0 wrote."""

    def run(scenario: str, count: int = 2) -> Any:
        out = tmp_path / f"{scenario}.pt"
        done = command("-m", "tests.support.ranks", scenario, str(out), ranks=count)
        assert done.returncode == 0, done.stderr[-4000:]
        return torch.load(out, weights_only=True)

    return run
