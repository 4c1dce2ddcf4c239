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
