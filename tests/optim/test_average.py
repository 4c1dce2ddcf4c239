"""The moving average's arithmetic."""

import pytest
import torch

from dist_gan.distributed.processes import Processes
from dist_gan.optim.ema import EMA, Average
from dist_gan.optim.schedules import Constant, Cosine, Linear
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


R3GAN = EMA(half_life_images=5_000_000, ramp=0, schedule=Cosine(end=20_000_000, start=0, final=1))


@pytest.mark.parametrize(
    ("images", "half_life", "kept"),
    [
        (0, 0.0, 0.0),
        (512, 0.008085180303041284, 0.0),
        (5_000_000, 732233.0470336314, 0.999515447480569),
        (19_999_744, 4999999.997978705, 0.9999290242475799),
        (40_000_000, 5000000.0, 0.9999290242476085),
    ],
)
def test_r3gans_half_life_at_five_times(images: int, half_life: float, kept: float) -> None:
    """What brownvc/R3GAN (19a7ddf) gives: cosine_decay_with_warmup(images, 0, 2e7, 5e6), 0.5 ** (512 / half-life)."""
    assert R3GAN.half_life(images) == pytest.approx(half_life, rel=1e-7)  # 1 - cos of little has few digits, in both
    assert 1 - R3GAN.weight(images + 512, 512) == pytest.approx(kept, rel=1e-12)


@pytest.mark.parametrize(
    ("images", "kept"),
    [
        (0, 0.0),
        (64, 9.5367431640625e-07),
        (100_032, 0.9911697718133824),
        (9_999_936, 0.9999112805288636),
        (50_000_000, 0.9999112810966431),
    ],
)
def test_stylegan2s_weights_at_five_times(images: int, kept: float) -> None:
    """What NVlabs/stylegan2-ada-pytorch (d72cc7d) gives for its CIFAR config: ema_kimg 500, ema_rampup 0.05, batch 64.
    Theirs too takes the images seen where the update begins."""
    assert 1 - EMA(half_life_images=500_000, ramp=0.05).weight(images + 64, 64) == pytest.approx(kept, rel=1e-9)


def test_bigans_average_begins_late() -> None:
    """ajbrock/BigGAN-PyTorch (9845943), utils.ema: decay 0.9999 from update 1,000 on, counted from 1; 0 before."""
    images = 50
    ema = EMA(half_life_images=346556, ramp=0, begin=999 * images)
    decay = [1 - ema.weight(update * images, images) for update in (1, 998, 999, 1000, 1001, 5000)]
    assert decay[:3] == [0, 0, 0]
    assert decay[3:] == pytest.approx([0.9999] * 3, rel=1e-8)


@pytest.mark.parametrize(
    "ema",
    [
        EMA(half_life_images=500, ramp=0, schedule=Cosine(end=5 * tiny.BATCH, start=0)),
        EMA(half_life_images=500, ramp=0, begin=3 * tiny.BATCH),
        EMA(half_life_images=500, schedule=Linear(end=6 * tiny.BATCH, final=0.2), begin=tiny.BATCH),
        EMA(half_life_images=500, schedule=Constant()),
    ],
)
def test_in_a_game_it_is_the_formula_and_a_resume_is_bitwise(double: Processes, ema: EMA) -> None:
    game = tiny.game(double, ema=ema)
    expected = [parameter.detach().clone() for parameter in game.average.network.parameters()]
    for update in range(6):
        tiny.play(game, 1)
        half_life = ema.half_life(update * tiny.BATCH)
        kept = 0.5 ** (tiny.BATCH / half_life) if half_life else 0.0
        newest = list(game.generator.network.parameters())
        expected = [kept * old + (1 - kept) * new.detach() for old, new in zip(expected, newest, strict=True)]
        for found, right in zip(game.average.network.parameters(), expected, strict=True):
            torch.testing.assert_close(found, right, rtol=1e-12, atol=1e-14)
        if update == 2:
            seen = game.images_seen
            saved = {member: {k: v.clone() for k, v in own.items()} for member, own in game.state().items()}
    again = tiny.game(double, ema=ema)
    again.load(saved, seen)
    assert tiny.digest(tiny.state(tiny.play(again, 3))) == tiny.digest(tiny.state(game))
