"""Learning rates by layer."""

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from dist_gan.errors import ConfigError
from dist_gan.optim.factors import LayerFactor, factors_of
from dist_gan.optim.optimizers import RATE, SGD, Adam, AdamW, Optimizer
from dist_gan.optim.schedules import Linear
from tests.support.own_parts import RMSProp

HALF = Linear(end=100, final=0.5)
FACTORS = (LayerFactor(pattern="mapping.*", factor=0.01), LayerFactor(pattern="*.bias", factor=2))
NAMES = ("mapping.0.weight", "mapping.0.bias", "body.weight", "body.bias")
FOUND = {"mapping.0.weight": 0.01, "mapping.0.bias": 0.01, "body.weight": 1, "body.bias": 2}
KINDS: list[Any] = [
    Adam(),
    Adam(beta2_schedule=HALF),
    AdamW(weight_decay=0.1),
    SGD(momentum=0.9, nesterov=True, weight_decay=0.1),
    RMSProp(),
]


def test_the_first_pattern_that_fits_counts() -> None:
    assert factors_of(FACTORS, NAMES) == FOUND


@pytest.mark.parametrize("recipe", KINDS, ids=lambda recipe: type(recipe).__name__)
def test_each_parameter_moves_as_by_an_optimizer_of_its_own_rate(recipe: Optimizer) -> None:
    """Whatever the optimizer, at the rate times its factor, along the schedule."""
    recipe = recipe.model_copy(update={"learning_rate": 0.01, "schedule": HALF})
    whole = recipe.model_copy(update={"factors": FACTORS})
    together = {name: torch.linspace(-1, 1, 4, dtype=torch.float64) for name in NAMES}
    alone = {name: tensor.clone() for name, tensor in together.items()}
    numbers = {name: torch.zeros((), dtype=torch.float64) for name in whole.numbers(0)}
    built = whole.assemble(together, numbers)
    each = {n: recipe.model_copy(update={"learning_rate": 0.01 * f}) for n, f in FOUND.items()}
    own = {n: {k: torch.zeros((), dtype=torch.float64) for k in each[n].numbers(0)} for n in NAMES}
    others = {name: each[name].assemble({name: alone[name]}, own[name]) for name in NAMES}
    for images in (0, 50, 100):
        for name, number in whole.numbers(images).items():
            numbers[name].fill_(number)
        for name in NAMES:
            together[name].grad = torch.linspace(1, 2, 4, dtype=torch.float64) * (images + 1)
            alone[name].grad = together[name].grad.clone()
            for key, number in each[name].numbers(images).items():
                own[name][key].fill_(number)
            each[name].step(others[name], torch.zeros((), dtype=torch.float64))
        whole.step(built, torch.zeros((), dtype=torch.float64))
        for name in NAMES:
            torch.testing.assert_close(together[name], alone[name], rtol=1e-12, atol=0)
    assert not torch.equal(together["mapping.0.weight"], together["body.weight"])


def test_without_factors_there_is_one_group_and_one_number() -> None:
    parameter, rate = torch.ones(3), torch.tensor(0.1)
    (group,) = Adam().assemble({"a": parameter}, {RATE: rate}).param_groups
    assert group["lr"] is rate


def test_a_pattern_that_fits_nothing_is_a_mistake_that_names_near_ones() -> None:
    recipe = Adam(factors=(FACTORS[0], LayerFactor(pattern="maping.*", factor=0.5)))
    numbers = {name: torch.zeros(()) for name in recipe.numbers(0)}
    with pytest.raises(ConfigError) as caught:
        recipe.assemble({name: torch.ones(1) for name in NAMES}, numbers, "generator_optimizer")
    text = str(caught.value)
    assert text.startswith("generator_optimizer.factors.1.pattern: maping.* fits no parameter that moves. Near it are ")
    assert "mapping.0.bias" in text


@pytest.mark.parametrize(
    ("patterns", "taken"), [(("*.bias", "b*.bias"), "*.bias"), (("mapping.*", "body.*", "*.bias"), "mapping.*, body.*")]
)
def test_a_pattern_that_is_never_the_first_is_a_mistake(patterns: tuple[str, ...], taken: str) -> None:
    factors = [LayerFactor(pattern=pattern, factor=2) for pattern in patterns]
    last = len(factors) - 1
    with pytest.raises(ConfigError) as caught:
        factors_of(factors, NAMES, "generator_optimizer.factors")
    text = str(caught.value)
    assert text.startswith(
        f"generator_optimizer.factors.{last}.pattern: all that {patterns[-1]} fits is taken by {taken} "
    )
    factors_of(factors[::-1], NAMES)


def test_factors_of_an_optimizer_with_groups_of_its_own_are_a_mistake() -> None:
    class Grouped(RMSProp):
        def build(self, parameters: list[Tensor], learning_rate: Tensor) -> torch.optim.Optimizer:
            optimizer = super().build(parameters[:1], learning_rate)
            optimizer.add_param_group({"params": parameters[1:]})
            return optimizer

    named = {name: torch.ones(1) for name in NAMES}
    recipe = Grouped(factors=FACTORS)
    with pytest.raises(ConfigError, match=r"^discriminator_optimizer\.factors: _RMSProp has 2 groups of parameters"):
        recipe.assemble(named, {name: torch.ones(()) for name in recipe.numbers(0)}, "discriminator_optimizer")
    assert len(Grouped().assemble(named, {RATE: torch.ones(())}).param_groups) == 2


def test_a_factor_of_nothing_is_a_mistake() -> None:
    with pytest.raises(ValidationError, match="greater than 0"):
        LayerFactor(pattern="*", factor=0)
