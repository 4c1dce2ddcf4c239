import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# One thread a process: tests start several, and threads that wait for each other on few cores take minutes.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch

from dist_gan.data.fetch import fetch_mnist
from dist_gan.part import ConfigError
from dist_gan.distributed.processes import Processes

ROOT = Path(__file__).resolve().parents[1]


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


def command(*arguments: str, ranks: int = 1, env: dict[str, str] | None = None, **options: Any) -> Any:
    """Run python (with `ranks` > 1 under torchrun) in the repository's root."""
    launch = [sys.executable]
    if ranks > 1:
        launch += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)]
    return subprocess.run(
        [*launch, *arguments],
        cwd=options.pop("cwd", ROOT),
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
        capture_output=True,
        text=True,
        timeout=options.pop("timeout", 300),
        check=False,
    )


@pytest.fixture
def ranks(tmp_path: Path) -> Callable[..., Any]:
    """Run a scenario of tests/ranks.py on several ranks; returns what rank 0 wrote."""

    def run(scenario: str, count: int = 2) -> Any:
        out = tmp_path / f"{scenario}.pt"
        done = command("-m", "tests.ranks", scenario, str(out), ranks=count)
        assert done.returncode == 0, done.stderr[-4000:]
        return torch.load(out, weights_only=True)

    return run


def last_metrics(run: Path) -> dict[str, float]:
    return json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
