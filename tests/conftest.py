import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# One thread a process: tests start several, and threads that wait for each other on few cores take minutes.
os.environ["OMP_NUM_THREADS"] = "1"
# Tests say what a CPU does, on any machine, but for those marked `gpu`, which `make gpu` runs with this variable.
if "DIST_GAN_TEST_GPU" not in os.environ:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

import pytest
import torch

from dist_gan.data.fetch import fetch_mnist
from dist_gan.distributed.processes import Processes
from dist_gan.errors import ConfigError
from tests.support.children import left_behind, mark_session
from tests.support.commands import command
from tests.support.runs import SMALL, run

SESSION = mark_session()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """The session fails where a process is left that any of its tests started."""
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()  # its service lives as long as this process
    if hasattr(session.config, "workerinput"):
        return  # one of several workers (pytest-xdist); the tests of the others may still run
    if left := left_behind(SESSION):
        print("\n\nprocesses that tests have left behind:", *left, sep="\n", file=sys.stderr)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(autouse=True)
def _no_service_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
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


@pytest.fixture
def own_statistics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is measured of reals does not go into the user's folder, but into this one."""
    monkeypatch.setenv("DIST_GAN_DATA", str(tmp_path / "data"))
    return tmp_path / "data" / "statistics"


@pytest.fixture(scope="session")
def conditional(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run with the four classes of generated data. Nobody changes it."""
    folder = tmp_path_factory.mktemp("conditional")
    assert run(folder, 256, small=[*SMALL, "networks.conditional=true"]) == 0
    return folder
