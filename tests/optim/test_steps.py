"""Every optimizer's contract: it makes the step of its reference, and none where a gradient is not finite."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from dist_gan.optim.optimizers import NEW_SQUARES, SGD, Adam, AdamW, Optimizer
from dist_gan.optim.optimizers import RATE as LEARNING_RATE
from dist_gan.optim.schedules import Linear
from tests.support.own_parts import RMSProp

RATE = 0.05
SLOWER = Linear(end=1000, final=0.1)
PLAIN: dict[str, Any] = {"fused": False, "foreach": False}
CASES: list[tuple[Optimizer, Callable[[list[Tensor]], torch.optim.Optimizer] | None]] = [
    (Adam(), lambda p: torch.optim.Adam(p, RATE, (0.5, 0.999), **PLAIN)),
    (Adam(beta2=0.9, beta2_schedule=SLOWER), lambda p: torch.optim.Adam(p, RATE, (0.5, 0.99), **PLAIN)),
    (
        AdamW(beta2=0.9, beta2_schedule=SLOWER, weight_decay=0.1),
        lambda p: torch.optim.AdamW(p, RATE, (0.5, 0.99), weight_decay=0.1, **PLAIN),
    ),
    (AdamW(weight_decay=0.1), lambda p: torch.optim.AdamW(p, RATE, (0.5, 0.999), weight_decay=0.1, **PLAIN)),
    (SGD(), lambda p: torch.optim.SGD(p, RATE, **PLAIN)),
    (SGD(momentum=0.9), lambda p: torch.optim.SGD(p, RATE, 0.9, **PLAIN)),
    (
        SGD(momentum=0.9, nesterov=True, weight_decay=0.1),
        lambda p: torch.optim.SGD(p, RATE, 0.9, nesterov=True, weight_decay=0.1, **PLAIN),
    ),
    (RMSProp(), None),
]


@pytest.mark.parametrize(("recipe", "reference"), CASES)
def test_a_gradient_that_is_not_finite_moves_nothing_at_any_step(recipe: Optimizer, reference: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    mine = [torch.randn(5, 3, generator=generator), torch.randn(4, generator=generator)]
    rate = torch.zeros(())
    theirs = [tensor.clone() for tensor in mine]
    numbers = {LEARNING_RATE: rate, NEW_SQUARES: torch.ones(())}
    own = recipe.assemble({"a": mine[0], "b": mine[1]}, {name: numbers[name] for name in recipe.numbers(0)})
    rate.fill_(RATE)  # after it was built: it must be read at each step
    numbers[NEW_SQUARES].fill_(recipe.numbers(1000).get(NEW_SQUARES, 0))
    other = reference(theirs) if reference else recipe.build(theirs, rate)
    for _ in range(4):
        before = [tensor.clone() for tensor in mine]
        for tensor in mine:
            tensor.grad = torch.full_like(tensor, torch.nan)
        recipe.step(own, torch.ones(()))
        assert all(torch.equal(a, b) for a, b in zip(mine, before, strict=True))
        for a, b in zip(mine, theirs, strict=True):
            a.grad = torch.randn(a.shape, generator=generator)
            b.grad = a.grad.clone()
        recipe.step(own, torch.zeros(()))
        other.step()
        for a, b in zip(mine, theirs, strict=True):
            torch.testing.assert_close(a, b)
