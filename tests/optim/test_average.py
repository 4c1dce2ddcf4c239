"""The moving average's arithmetic."""

import pytest
import torch

from dist_gan.optim.ema import EMA, Average
from dist_gan.shapes import DataShape
from tests.support import tiny


@pytest.mark.parametrize(("weight", "which"), [(0.0, "own"), (1.0, "the generator's"), (0.25, "between")])
def test_it_goes_as_far_as_the_weight_says_and_the_ends_are_exact(weight: float, which: str) -> None:
    generator = tiny.MLP_PLAIN.build(DataShape(tiny.DATA.shape), 0).generator
    average = Average(EMA(), generator, 0)
    own = [parameter.clone() for parameter in average.network.parameters()]
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.mul_(-3.1).add_(0.7)
    average.follow(torch.tensor(weight))
    for found, a, b in zip(average.network.parameters(), own, generator.parameters(), strict=True):
        if which == "between":
            torch.testing.assert_close(found.double(), a.double() * 0.75 + b.double() * 0.25)
        else:
            assert torch.equal(found, a if which == "own" else b)
