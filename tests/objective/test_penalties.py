"""Penalties without a second backward, shares of a batch, and how D sees what they use."""

from typing import Any

import pytest
import torch
from torch import Tensor

from dist_gan.networks import DCGAN, MLP, Networks, Recipe
from dist_gan.objective.augment import Augment, DiffAugment, NoAugment
from dist_gan.objective.losses import Relativistic
from dist_gan.objective.objective import Due, Microbatch, Objective, Terms, latents_and_noise
from dist_gan.objective.penalties import R1, R2, WGANGP, ApproximateR1, ApproximateR2, Centering
from dist_gan.randomness import Purpose, draw, normal
from dist_gan.shapes import DataShape, ImageShape

N = 8
SHAPE = ImageShape(3, 8, 8)


class Turn:
    """D's turn on N samples in float64, all penalties due."""

    def __init__(self, *penalties: Any, recipe: Recipe | None = None, augment: Augment | None = None) -> None:
        self.objective = Objective(loss=Relativistic(), penalties=penalties)
        recipe = recipe or MLP(latent=3, width=4, dropout=0.3)
        self.networks = Networks(*(net.double() for net in recipe.build(DataShape(SHAPE), 0)))
        self.augment = augment or NoAugment()
        bits = draw(0, self.objective.needs(*self.networks, self.augment, "D"), range(N))
        real = normal(draw(9, {Purpose.SAMPLE: 192}, range(N))[Purpose.SAMPLE], torch.float64).view(N, *SHAPE) / 3
        self.given = Microbatch(real, None, bits)
        latents, noise = latents_and_noise(bits[Purpose.D_TURN_GENERATE], 3, torch.float64)
        with torch.no_grad():
            self.fake = self.networks.generator(latents, None, noise)
        self.calls: list[tuple[int, bool]] = []

    def D(self, images: Tensor, condition: Any, noise: Tensor | None, full_precision: bool = False) -> Tensor:
        self.calls.append((len(images), full_precision))
        return self.networks.discriminator(images, condition, noise, full_precision)

    def due(self) -> list[Due]:
        start, found = 0, []
        for i, penalty in enumerate(self.objective.penalties):
            own = slice(start, start := start + penalty.bits(SHAPE))
            found.append(Due(f"{i}", penalty, torch.tensor(penalty.strength(0, N), dtype=torch.float64), {}, own))
        return found

    def terms(self) -> Terms:
        return self.objective.discriminator(self.D, self.fake, self.given, self.augment, self.due())

    def gradients(self) -> tuple[Tensor, list[Tensor]]:
        """Of the penalties alone: their value, and the gradient of each parameter."""
        penalty = self.terms().penalty
        assert penalty is not None
        found = torch.autograd.grad(penalty, list(self.networks.discriminator.parameters()), allow_unused=True)
        return penalty.detach(), [torch.zeros(()) if gradient is None else gradient for gradient in found]


@pytest.mark.parametrize("recipe", [MLP(latent=3, width=4), DCGAN(latent=3, width=4, group=8)], ids=["mlp", "dcgan"])
@pytest.mark.parametrize("augment", [NoAugment(), DiffAugment()], ids=["plain", "augmented"])
def test_forward_over_reverse_has_the_gradient_of_double_backward(recipe: Recipe, augment: Augment) -> None:
    twice = Turn(R1(weight=2), R2(weight=3), recipe=recipe, augment=augment)
    kinds: Any = {"method": "forward_over_reverse"}
    forward = Turn(R1(weight=2, **kinds), R2(weight=3, **kinds), recipe=recipe, augment=augment)
    (value, gradients), (other, others) = twice.gradients(), forward.gradients()
    torch.testing.assert_close(value, other, rtol=1e-12, atol=0)
    assert any(gradient.abs().max() > 0 for gradient in gradients)
    for gradient, expected in zip(others, gradients, strict=True):
        scale = expected.abs().max().clamp(min=1e-9)
        assert ((gradient - expected).abs().max() / scale).item() < 1e-10


@pytest.mark.parametrize("augment", [NoAugment(), DiffAugment()], ids=["plain", "augmented"])
def test_a_difference_is_what_its_formula_says(augment: Augment) -> None:
    """With the same augmentation, dropout and condition on both sides; noise from the ordinals, for each its own."""
    turn = Turn(ApproximateR1(weight=2, sigma=0.1), ApproximateR2(weight=3, sigma=0.2), augment=augment)
    value = turn.terms().penalty
    expected = torch.zeros((), dtype=torch.float64)
    noise = normal(turn.given.bits[Purpose.D_TURN_PENALTY], torch.float64).view(N, 2, *SHAPE)
    kinds = ((turn.given.real, Purpose.D_TURN_REAL, 2, 0.1), (turn.fake, Purpose.D_TURN_FAKE, 3, 0.2))
    for which, (images, purpose, weight, sigma) in enumerate(kinds):
        bits, split = turn.given.bits[purpose], augment.bits(SHAPE)
        shown, own = augment(images, bits[:, :split]), bits[:, split:]
        D = turn.networks.discriminator
        near = D(shown + sigma * noise[:, which], None, own)
        expected = expected + weight * ((near - D(shown, None, own)) / sigma).square().sum()
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)


def test_its_mean_over_noise_is_the_squared_gradient() -> None:
    """Twice r1, to the standard error of 20,000 draws."""
    images = torch.linspace(-1, 1, 12, dtype=torch.float64)
    slope = torch.linspace(0.3, -0.7, 12, dtype=torch.float64)

    def D(x: Tensor) -> Tensor:
        return torch.tanh(x @ slope)

    penalty = ApproximateR1(sigma=1e-4)
    count = 20_000
    bits = draw(3, {Purpose.SAMPLE: 12}, range(count))[Purpose.SAMPLE]
    shown = images.expand(count, 12)
    values = penalty.penalty(D(shown), D(penalty.near(shown, bits)))
    exact = ((1 - torch.tanh(images @ slope) ** 2) * slope).square().sum()
    error = values.std() / count**0.5
    assert abs(values.mean() - exact) < 4 * error
    assert error < 0.02 * exact


def test_a_share_is_each_kth_sample_and_counts_k_times() -> None:
    whole, share = Turn(ApproximateR1(sigma=0.1)), Turn(ApproximateR1(sigma=0.1, share=4))
    value = share.terms().penalty
    assert whole.terms().penalty != value
    part = Turn(ApproximateR1(sigma=0.1))
    part.given = Microbatch(part.given.real[::4], None, {p: b[::4] for p, b in part.given.bits.items()})
    part.fake = part.fake[::4]
    torch.testing.assert_close(value, 4 * part.terms().penalty, rtol=1e-12, atol=0)
    assert sorted(share.calls) == [(N, False), (N + N // 4, True)]


def test_which_calls_d_gets() -> None:
    """One for what nothing is differentiated by, in each precision; one for each kind with a gradient penalty."""
    turn = Turn(ApproximateR1(precision="mixed"), ApproximateR2(precision="mixed"))
    turn.terms()
    assert turn.calls == [(4 * N, False)]
    turn = Turn(R1(precision="mixed"), Centering())
    turn.terms()
    assert turn.calls == [(N, False), (N, False)]
    turn = Turn(R1(), ApproximateR1(), ApproximateR2())
    turn.terms()
    assert turn.calls == [(3 * N, True), (N, True)]


def test_what_is_near_an_image_that_is_differentiated_by_is_near_the_same_image() -> None:
    alone = Turn(ApproximateR1(sigma=0.1), augment=DiffAugment()).terms().penalty
    exact = Turn(R1(), augment=DiffAugment()).terms().penalty
    both = Turn(ApproximateR1(sigma=0.1), R1(), augment=DiffAugment()).terms().penalty
    torch.testing.assert_close(both, alone + exact, rtol=1e-12, atol=0)


def test_centering() -> None:
    real, fake = torch.tensor([1.0, 2.0]), torch.tensor([-3.0, 0.5])
    assert Centering().penalty(real, fake).tolist() == [4.0, 6.25]


def test_a_turn_of_penalties_alone_has_no_loss() -> None:
    turn = Turn(R1(weight=2), WGANGP())
    own = turn.objective.discriminator_alone(turn.D, turn.fake, turn.given, turn.augment, turn.due(), {})
    assert own.loss.item() == 0
    torch.testing.assert_close(own.penalty, turn.terms().penalty, rtol=1e-12, atol=0)
    gradients = torch.autograd.grad(own.total, list(turn.networks.discriminator.parameters()))
    assert all(gradient.isfinite().all() for gradient in gradients)
