from pathlib import Path

import pytest
import torch

from dist_gan.metrics.digits import DigitNetwork, Digits


@pytest.fixture(scope="session")
def digit_network(mnist: Path) -> DigitNetwork:
    """Trained once on each machine, into the same cache that users have; other workers wait for that."""
    network = Digits().open(torch.device("cpu"))
    assert isinstance(network, DigitNetwork)
    return network


@pytest.fixture
def own_statistics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is measured of reals does not go into the user's folder, but into this one."""
    monkeypatch.setenv("DIST_GAN_DATA", str(tmp_path / "data"))
    return tmp_path / "data" / "statistics"
