"""Adam whose numbers change: beta2 along a schedule, both betas and the step size for lazy penalties."""

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from dist_gan.optim.optimizers import NEW_SQUARES, RATE, SGD, Adam, AdamW
from dist_gan.optim.scheduled_adam import ScheduledAdam
from dist_gan.optim.schedules import Constant, Cosine, Linear
from tests.support.own_parts import RMSProp

BATCH = 512
UPDATES = 12
TWENTY_UPDATES = Cosine(end=20 * BATCH, final=0.1)


def weights(dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in ((6, 4), (5,), ())]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=str)
@pytest.mark.parametrize("kind", [Adam, AdamW])
@pytest.mark.parametrize(("beta1", "beta2"), [(0.0, 0.9), (0.5, 0.999), (0.9, 0.0)])
def test_a_scheduled_beta2_is_torchs_adam_with_betas_set_before_each_step(
    kind: type[Adam | AdamW], beta1: float, beta2: float, dtype: torch.dtype, tolerance: float
) -> None:
    """As brownvc/R3GAN's training_loop.py sets param_groups[...]["betas"]."""
    recipe = kind(beta1=beta1, beta2=beta2, beta2_schedule=TWENTY_UPDATES, schedule=TWENTY_UPDATES, learning_rate=0.01)
    mine, theirs = weights(dtype), weights(dtype)
    numbers = {name: torch.zeros((), dtype=dtype) for name in recipe.numbers(0)}
    own = recipe.assemble(dict(zip("abc", mine, strict=True)), numbers)
    plain: dict[str, Any] = {"fused": False, "foreach": False, "eps": recipe.eps}
    other = (torch.optim.Adam if kind is Adam else torch.optim.AdamW)(theirs, **plain)
    generator = torch.Generator().manual_seed(1)
    for update in range(UPDATES):
        images = update * BATCH
        for a, b in zip(mine, theirs, strict=True):
            a.grad = torch.randn(a.shape, generator=generator, dtype=torch.float64).to(dtype) * 10.0 ** (update % 5 - 3)
            b.grad = a.grad.clone()
        for name, number in recipe.numbers(images).items():
            numbers[name].fill_(number)
        factor = 0.1 + 0.9 * (1 + math.cos(math.pi * update / 20)) / 2
        other.param_groups[0].update(lr=0.01 * factor, betas=(beta1, 1 - (1 - beta2) * factor))
        recipe.step(own, torch.zeros((), dtype=dtype))
        other.step()
        for a, b in zip(mine, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)
            assert own.state[a].keys() == other.state[b].keys()
            for name, kept in own.state[a].items():
                torch.testing.assert_close(kept, other.state[b][name], rtol=tolerance, atol=0)


def test_r3gans_beta2_at_five_times() -> None:
    """brownvc/R3GAN, CIFAR-10: cosine_decay_with_warmup(nimg, 0.9, 2e7, 0.99)."""
    recipe = Adam(beta1=0, beta2=0.9, beta2_schedule=Cosine(end=20_000_000, final=0.1))
    for images in (0, 512, 5_000_000, 19_999_744, 40_000_000):
        theirs = 0.99 + 0.5 * (1 + math.cos(math.pi * min(1, images / 20_000_000))) * (0.9 - 0.99)
        assert 1 - recipe.numbers(images)[NEW_SQUARES] == pytest.approx(theirs, rel=1e-14)


@pytest.mark.parametrize("recipe", [Adam(), AdamW(weight_decay=0.2), Adam(beta2_schedule=Constant(), rescaled=True)])
def test_where_beta2_is_constant_it_is_torchs_fused_kernel(recipe: Adam | AdamW) -> None:
    parameter, rate = torch.ones(3), torch.tensor(0.1)
    assert recipe.numbers(0).keys() == {RATE}
    built = recipe.assemble({"a": parameter}, {RATE: rate})
    assert type(built) is (torch.optim.Adam if isinstance(recipe, Adam) else torch.optim.AdamW)
    (group,) = built.param_groups
    assert group["fused"]
    assert group["lr"] is rate
    assert (group["betas"], group["eps"]) == ((recipe.beta1, recipe.beta2), recipe.eps)
    assert group["weight_decay"] == getattr(recipe, "weight_decay", 0)


@pytest.mark.parametrize("schedule", [Constant(), TWENTY_UPDATES])
def test_lazy_penalties_rescale_as_nvlabs_does(schedule: Constant | Cosine) -> None:
    """NVlabs/stylegan2-ada-pytorch, training_loop.py: lr * mb_ratio, betas ** mb_ratio, for its CIFAR config."""
    for turns, rate, beta2 in [(16, 0.0025 * 16 / 17, 0.99 ** (16 / 17)), (4, 0.0025 * 4 / 5, 0.99 ** (4 / 5))]:
        recipe = Adam(learning_rate=0.0025, beta1=0.3, beta2=0.99, rescaled=True, beta2_schedule=schedule)
        found = recipe.rescale(turns)
        assert found.rate(0) == pytest.approx(rate, rel=1e-15)
        assert found.beta1 == pytest.approx(0.3 ** (turns / (turns + 1)), rel=1e-15)
        assert found.rescale(turns) == found  # once
        if schedule == Constant():
            assert found.beta2 == pytest.approx(beta2, rel=1e-15)
        else:
            assert found.numbers(0)[NEW_SQUARES] == pytest.approx(1 - beta2, rel=1e-12)


@pytest.mark.parametrize("images", [0, 5 * BATCH, 20 * BATCH])
def test_a_scheduled_beta2_is_rescaled_after_the_schedule(images: int) -> None:
    """beta2_t ** c, not a beta2 that was rescaled first, with the factor after."""
    recipe = Adam(beta2=0.9, rescaled=True, beta2_schedule=TWENTY_UPDATES)
    beta2 = 1 - 0.1 * TWENTY_UPDATES.factor(images)
    assert 1 - recipe.rescale(4).numbers(images)[NEW_SQUARES] == pytest.approx(beta2 ** (4 / 5), rel=1e-14)
    assert 1 - recipe.rescale(math.inf).numbers(images)[NEW_SQUARES] == pytest.approx(beta2, rel=1e-14)


@pytest.mark.parametrize("recipe", [Adam(), AdamW(), SGD(), RMSProp()])
def test_without_rescaled_nothing_is_rescaled(recipe: Any) -> None:
    assert recipe.rescale(4) is recipe


def test_no_move_alone_rescales_by_one() -> None:
    recipe = Adam(rescaled=True)
    assert recipe.rescale(math.inf) == recipe.model_copy(update={"rescaled": False})


def test_a_factor_that_makes_beta2_negative_is_a_mistake() -> None:
    Adam(beta2=0.9, beta2_schedule=Cosine(end=5, final=9.99))
    with pytest.raises(ValidationError, match=r"at most 10, not 10\.1: .* here 0\.1, and beta2 would be negative"):
        Adam(beta2=0.9, beta2_schedule=Cosine(end=5, final=10.1))


@pytest.mark.parametrize("kind", [Linear, Cosine])
@pytest.mark.parametrize(("start", "final", "at"), [(1, 0, "final"), (0, 1, "start")])
def test_a_factor_of_0_is_a_mistake(kind: type[Linear | Cosine], start: float, final: float, at: str) -> None:
    with pytest.raises(ValidationError, match=rf"beta2_schedule\.{at} above 0, not 0: "):
        Adam(beta2_schedule=kind(end=5, start=start, final=final))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("new_squares", [0.0, 1e-30, 1.0, 1.5])
def test_no_schedule_of_the_users_own_makes_nan(new_squares: float, dtype: torch.dtype) -> None:
    """Steps stay about as long as the learning rate, too."""
    parameter = torch.ones(3, dtype=dtype)
    rate, new = torch.tensor(0.1, dtype=dtype), torch.tensor(new_squares, dtype=dtype)
    built = ScheduledAdam([parameter], rate, 0.5, new, 1e-8)
    for _ in range(3):
        before = parameter.clone()
        parameter.grad = torch.tensor([1.0, 1e-3, 0], dtype=dtype)
        built.step()
        assert (parameter - before).abs().max() <= 0.1001
    assert parameter[:2].max() < 0.9
    assert parameter[2] == 1


def test_its_state_is_that_of_torchs_adam() -> None:
    """So that a run with another schedule can begin from it with `begin_from_optimizers`."""
    parameter = torch.ones(3)
    parameter.grad = torch.tensor([1.0, 2, 3])
    built = ScheduledAdam([parameter], torch.tensor(0.1), 0.5, torch.tensor(0.01), 1e-8)
    built.step()
    fused = torch.optim.Adam([torch.ones(3)], lr=0.1, fused=True)
    fused.param_groups[0]["params"][0].grad = torch.ones(3)
    fused.step()
    theirs = fused.state[fused.param_groups[0]["params"][0]]
    assert {k: (v.dtype, v.shape) for k, v in built.state[parameter].items()} == {
        k: (v.dtype, v.shape) for k, v in theirs.items()
    }
