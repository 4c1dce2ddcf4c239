"""Losses, penalties and the objective: hand values, signs, finite differences, contracts over every member."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from dist_gan.networks import MLP, Discriminator
from dist_gan.objective.any_augment import AnyAugment
from dist_gan.objective.augment import Augment, DiffAugment, InstanceNoise, NoAugment
from dist_gan.objective.losses import (
    AnyLoss,
    Hinge,
    LeastSquares,
    Loss,
    Minimax,
    NonSaturating,
    Relativistic,
    Wasserstein,
)
from dist_gan.objective.objective import Due, Microbatch, Objective, latents_and_noise
from dist_gan.objective.penalties import R1, R2, WGANGP, AnyPenalty
from dist_gan.objective.penalty import Penalty
from dist_gan.optim.schedules import AnySchedule, Constant, Cosine, Linear
from dist_gan.randomness import Purpose, draw
from dist_gan.shapes import DataShape, ImageShape
from tests.support.unions import members

LOSSES: list[Loss] = [kind() for kind in members(AnyLoss)]
PENALTIES: list[Penalty] = [kind() for kind in members(AnyPenalty) if issubclass(kind, Penalty)]


def log_sigmoid(x: float) -> float:
    return -math.log(1 + math.exp(-x))


REAL, FAKE = 0.7, -0.4
HAND = [
    (NonSaturating(real_target=1), -log_sigmoid(REAL) - log_sigmoid(-FAKE), -log_sigmoid(FAKE)),
    (
        NonSaturating(real_target=0.9),
        -0.9 * log_sigmoid(REAL) - 0.1 * log_sigmoid(-REAL) - log_sigmoid(-FAKE),
        -log_sigmoid(FAKE),
    ),
    (Minimax(real_target=1), -log_sigmoid(REAL) - log_sigmoid(-FAKE), log_sigmoid(-FAKE)),
    (LeastSquares(), ((REAL - 1) ** 2 + FAKE**2) / 2, (FAKE - 1) ** 2 / 2),
    (Hinge(), (1 - REAL) + (1 + FAKE), -FAKE),
    (Wasserstein(), FAKE - REAL, -FAKE),
    (Relativistic(), -log_sigmoid(REAL - FAKE), -log_sigmoid(FAKE - REAL)),
]


@pytest.mark.parametrize(("loss", "discriminator", "generator"), HAND, ids=lambda x: getattr(x, "name", ""))
def test_losses_by_hand(loss: Loss, discriminator: float, generator: float) -> None:
    real, fake = torch.tensor([REAL], dtype=torch.float64), torch.tensor([FAKE], dtype=torch.float64)
    assert loss.discriminator(real, fake).item() == pytest.approx(discriminator, abs=1e-12)
    assert loss.generator(real, fake).item() == pytest.approx(generator, abs=1e-12)


def test_every_loss_has_a_hand_value() -> None:
    assert {type(loss) for loss in LOSSES} == {type(row[0]) for row in HAND}


def test_hinge_is_flat_beyond_the_margin() -> None:
    logits = torch.tensor([3.0])
    assert Hinge().discriminator(logits, -logits).item() == 0


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_losses_push_each_player_its_own_way(loss: Loss) -> None:
    """D raises the logits of real images and lowers those of fake ones; G raises those of fake ones. Per sample."""
    real = torch.linspace(-0.8, 0.8, 5, requires_grad=True)
    fake = torch.linspace(0.7, 0.1, 5, requires_grad=True)
    of_d = loss.discriminator(real, fake)
    assert of_d.shape == (5,)
    d_real, d_fake = torch.autograd.grad(of_d.sum(), [real, fake])
    assert (d_real < 0).all()
    assert (d_fake > 0).all()
    of_g = loss.generator(real if loss.pairs else None, fake)
    assert of_g.shape == (5,)
    (g_fake,) = torch.autograd.grad(of_g.sum(), fake)
    assert (g_fake < 0).all()


def test_the_saturating_loss_saturates_and_the_other_does_not() -> None:
    far = torch.tensor([-20.0], requires_grad=True)
    (slow,) = torch.autograd.grad(Minimax().generator(None, far).sum(), far)
    (fast,) = torch.autograd.grad(NonSaturating().generator(None, far).sum(), far)
    assert abs(slow.item()) < 1e-8
    assert abs(fast.item()) > 0.99


class Smooth(torch.nn.Module):
    """A D without kinks, whose derivatives can be checked by differences."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.linspace(-1, 1, 24, dtype=torch.float64).view(12, 2))

    def forward(self, images: Tensor) -> Tensor:
        return torch.tanh(images.flatten(1) @ self.weight).square().sum(1)


def by_differences(function: Any, x: Tensor, step: float = 1e-5) -> Tensor:
    """Central differences of a scalar function at every element of x."""
    gradient = torch.zeros_like(x)
    for i in range(x.numel()):
        shift = torch.zeros_like(x).view(-1)
        shift[i] = step
        shift = shift.view_as(x)
        gradient.view(-1)[i] = (function(x + shift) - function(x - shift)) / (2 * step)
    return gradient


@pytest.mark.parametrize("penalty", PENALTIES, ids=lambda penalty: penalty.name)
def test_penalties_and_their_gradients_by_differences(penalty: Penalty) -> None:
    D = Smooth()
    images = torch.linspace(-0.9, 0.8, 36, dtype=torch.float64).view(3, 3, 2, 2).requires_grad_()
    value = penalty.penalty(images, D(images))
    assert value.shape == (3,)

    def by_hand(weight: Tensor) -> Tensor:
        total = []
        for image in images.detach():
            slope = by_differences(lambda x: torch.tanh(x.flatten() @ weight).square().sum(), image)
            norm = slope.square().sum().sqrt()
            total.append((norm - 1) ** 2 if isinstance(penalty, WGANGP) else norm**2 / 2)
        return torch.stack(total)

    torch.testing.assert_close(value.detach(), by_hand(D.weight.detach()), rtol=1e-6, atol=1e-8)
    (gradient,) = torch.autograd.grad(value.sum(), D.weight)
    expected = by_differences(lambda weight: by_hand(weight).sum(), D.weight.detach(), 1e-4)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5)


def test_wgan_gp_survives_a_flat_d() -> None:
    images = torch.zeros(2, 3, 2, 2, requires_grad=True)
    value = WGANGP().penalty(images, (images * 0).flatten(1).sum(1))
    assert value.tolist() == [1, 1]


def test_lazy_penalties_keep_their_mean_strength() -> None:
    penalty = R1(weight=3, every=1000)
    strengths = [penalty.strength(images, 64) for images in range(0, 64_000_0, 64)]
    assert sum(s > 0 for s in strengths) == 640
    assert sum(strengths) / len(strengths) == pytest.approx(3)
    assert R1(weight=3).strength(640, 64) == 3


def terms(objective: Objective, D: Any, augment: Augment | None = None) -> Any:
    """A turn of D on six samples, all penalties due: (terms, fake images, microbatch, networks)."""
    shape = ImageShape(1, 4, 4)
    networks = MLP(latent=3, width=2, dropout=0.3).build(DataShape(shape), 0)
    augment = augment or NoAugment()
    needs = objective.needs(*networks, augment, "D") | objective.needs(*networks, augment, "G")
    real, fake = (torch.rand(6, *shape, generator=torch.Generator().manual_seed(i)) * 2 - 1 for i in (0, 1))
    given = Microbatch(real, None, draw(0, needs, range(6)))
    factors = [torch.tensor(penalty.strength(0, 6)) for penalty in objective.penalties]
    due = [Due(p.name, p, factor, {}, slice(0)) for p, factor in zip(objective.penalties, factors, strict=True)]
    return objective.discriminator(D or networks.discriminator, fake, given, augment, due), fake, given, networks


def test_d_sees_everything_in_one_call_and_what_is_penalised_in_full_precision() -> None:
    calls: list[tuple[int, bool]] = []

    def spy(images: Tensor, condition: Any, noise: Tensor | None, full_precision: bool = False) -> Tensor:
        calls.append((len(images), full_precision))
        return images.flatten(1).square().sum(1)

    terms(Objective(), spy)
    assert calls == [(12, False)]
    calls.clear()
    terms(Objective(penalties=(R1(), WGANGP())), spy)
    assert sorted(calls) == [(6, False), (6, True), (6, True)]


def test_mixed_images_lie_between_and_differ_by_sample() -> None:
    seen: list[Tensor] = []

    def spy(images: Tensor, condition: Any, noise: Tensor | None, full_precision: bool = False) -> Tensor:
        if full_precision:
            seen.append(images)
        return images.flatten(1).square().sum(1)

    _, fake, given, _ = terms(Objective(penalties=(WGANGP(),)), spy)
    mix = ((seen[0].detach() - given.real) / (fake - given.real)).flatten(1)
    assert torch.allclose(mix, mix[:, :1].expand_as(mix), atol=1e-3)
    assert mix[:, 0].min() > 0
    assert mix[:, 0].max() < 1
    assert mix[:, 0].std() > 0.1


@pytest.mark.parametrize("augment", [kind() for kind in members(AnyAugment)], ids=lambda augment: augment.name)
def test_augmentations_are_differentiable_and_act_by_sample(augment: Augment) -> None:
    images = torch.rand(5, 3, 16, 16, requires_grad=True)
    bits = draw(1, {Purpose.D_TURN_REAL: augment.bits((3, 16, 16))}, range(5))[Purpose.D_TURN_REAL]
    out = augment(images, bits)
    assert out.shape == images.shape
    out.square().sum().backward()
    assert images.grad is not None
    assert (images.grad.flatten(1).abs().sum(1) > 0).all()
    torch.testing.assert_close(augment(images, bits)[2:4], augment(images[2:4], bits[2:4]))


def test_translation_moves_by_whole_pixels_and_cutout_cuts() -> None:
    images = torch.arange(1.0, 65.0).view(1, 1, 8, 8).expand(200, 1, 8, 8)
    bits = draw(1, {Purpose.D_TURN_REAL: 7}, range(200))[Purpose.D_TURN_REAL]
    moved = DiffAugment(color=False, translation=0.25, cutout=0)(images, bits)
    shifts = set()
    for picture in moved[:, 0]:
        rows, columns = picture.nonzero(as_tuple=True)
        row, column = divmod(int(picture[rows[0], columns[0]]) - 1, 8)
        shifts.add((int(rows[0]) - row, int(columns[0]) - column))
        assert len(rows) == (8 - abs(int(rows[0]) - row)) * (8 - abs(int(columns[0]) - column))
    assert {a for a, _ in shifts} == {b for _, b in shifts} == {-2, -1, 0, 1, 2}
    cut = DiffAugment(color=False, translation=0, cutout=0.5)(images, bits)
    gone = (cut == 0).flatten(1).sum(1)
    assert gone.max() == 16
    assert gone.min() >= 4


def test_instance_noise_has_its_standard_deviation_and_is_of_each_pixel() -> None:
    bits = draw(1, {Purpose.D_TURN_REAL: 192}, range(100))[Purpose.D_TURN_REAL]
    noise = InstanceNoise(sigma=0.2)(torch.zeros(100, 3, 8, 8), bits)
    assert noise.std().item() == pytest.approx(0.2, rel=0.02)
    assert torch.corrcoef(noise.flatten(1).t()[:20]).fill_diagonal_(0).abs().max() < 0.5


def test_schedules() -> None:
    assert {Constant, Linear, Cosine} == set(members(AnySchedule))
    assert Constant().factor(10) == 1
    warm_up = Linear(start=0, final=1, begin=100, end=200)
    assert [warm_up.factor(x) for x in (0, 100, 150, 200, 300)] == [0, 0, 0.5, 1, 1]
    decay = Cosine(begin=0, end=100)
    assert [round(decay.factor(x), 6) for x in (0, 50, 100, 500)] == [1, 0.5, 0, 0]
    with pytest.raises(ValueError, match="end to come after begin"):
        Linear(begin=5, end=5)


def test_r1_and_r2_look_at_the_images_they_are_named_for() -> None:
    assert (R1().at, R2().at, WGANGP().at) == ("real", "fake", "mixed")


def test_relativistic_generator_sees_real_images() -> None:
    objective = Objective(loss=Relativistic())
    _, _, given, networks = terms(objective, None)
    made: list[Tensor] = []

    def G(latents: Tensor, condition: Any, noise: Tensor | None) -> Tensor:
        made.append(networks.generator(latents, condition, noise).detach().requires_grad_())
        return made[0]

    D = networks.discriminator
    latents, noise = latents_and_noise(given.bits[Purpose.G_TURN_GENERATE], networks.generator.latent, torch.float32)
    found = objective.generator(G, D, latents, noise, given, NoAugment())
    assert found.real is not None
    assert torch.autograd.grad(found.loss, made[0])[0].abs().sum() > 0
    other = given._replace(real=-given.real)
    assert objective.generator(networks.generator, D, latents, noise, other, NoAugment()).loss != found.loss
    assert isinstance(D, Discriminator)
