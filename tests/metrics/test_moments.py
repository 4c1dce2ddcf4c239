"""Mean and covariance are exact sums: the same bits in any order, in any parts."""

import numpy as np
import pytest
import torch

from dist_gan.metrics import moments as module
from dist_gan.metrics.moments import ExactMoments, moments

CPU = torch.device("cpu")


def features(n: int, size: int) -> torch.Tensor:
    """float32, of very different magnitudes."""
    generator = torch.Generator().manual_seed(n)
    values = torch.randn(n, size, generator=generator) * 10.0 ** torch.arange(-3, size - 3).remainder(6)
    return values


def test_they_are_those_of_numpy() -> None:
    x = features(500, 20)
    found = moments(x)
    assert found.samples == 500
    wide = x.double().numpy()
    np.testing.assert_allclose(found.mean.numpy(), wide.mean(0), rtol=1e-13, atol=1e-10)
    scale = np.sqrt(np.outer(wide.var(0), wide.var(0)))
    assert np.abs((found.covariance.numpy() - np.cov(wide, rowvar=False)) / scale).max() < 1e-8


def test_the_same_bits_in_any_order_and_in_any_parts() -> None:
    x = features(3000, 17)
    whole = moments(x)
    order = torch.randperm(3000, generator=torch.Generator().manual_seed(1))
    for parts in (x[order].split(7), x.flip(0).split(1000), x.split(1)):
        exact = ExactMoments(17, CPU)
        for part in parts:
            exact.add(part)
        found = exact.result()
        assert torch.equal(found.mean, whole.mean)
        assert torch.equal(found.covariance, whole.covariance)


def test_an_ordinary_sum_would_not_do() -> None:
    """The test above can fail: sums in float64 depend on the order."""
    x = features(3000, 17).double()
    order = torch.randperm(3000, generator=torch.Generator().manual_seed(1))
    assert not torch.equal(x.T @ x, x[order].T @ x[order])


def test_the_largest_block_stays_exact() -> None:
    """As large as features and blocks may be: whole numbers below 2^53."""
    x = torch.full((module.BLOCK, 2), module.LARGEST * (1 - 2**-20))
    x[::2] = -x[::2]
    found = moments(x)
    assert found.mean.tolist() == [0, 0]
    square = float(x[0, 0]) ** 2
    assert found.covariance[0, 1].item() == pytest.approx(square * module.BLOCK / (module.BLOCK - 1), rel=1e-15)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), module.LARGEST])
def test_what_cannot_be_summed_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        ExactMoments(2, CPU).add(torch.tensor([[1.0, value]]))
