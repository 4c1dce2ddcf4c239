"""Each check by numbers: when it speaks, and when it must not. The runs that are made ill are in tests/run."""

import math
from collections.abc import Iterable
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from dist_gan.data import Generated
from dist_gan.metrics.health import Again, Finding, Health, Judge, stalled
from dist_gan.metrics.health_images import (
    _nyquist,
    checkerboard,
    constant,
    copies,
    few_classes,
    gray,
    low_diversity,
)

GOOD = {
    "D/loss": 1.1,
    "G/loss": 1.4,
    "D/accuracy": 0.75,
    "D/real_logit": 0.4,
    "D/fake_logit": -0.9,
    "D/gradient_norm": 4.0,
    "G/gradient_norm": 3.0,
    "D/skipped": 0,
    "G/skipped": 0,
    "images_per_second": 1000.0,
    "seconds_waiting_for_data": 0.1,
}
STRONG = {"D/accuracy": 0.999, "D/real_logit": 2.2, "D/fake_logit": -12.0, "G/loss": 12.0}
"""Beside these: G's gradients and losses are as before."""
WEAK = {"D/accuracy": 0.52, "D/real_logit": 0.01, "D/fake_logit": 0.0}


def judge(verdict: Literal["sign", "order", "none"] = "sign", **more: Any) -> Judge:
    return Judge(images_per_update=64, batch_size=64, verdict=verdict, **more)


def said(health: Health, changes: Iterable[dict[str, float]], every: int = 6400) -> dict[str, int]:
    """Kind -> the images at which it is first said of a good run, every line of which has one of `changes`."""
    first: dict[str, int] = {}
    for number, change in enumerate(changes, start=1):
        for finding in health.observe(number * every, GOOD | change):
            first.setdefault(finding.kind, number * every)
    return first


def test_nothing_is_said_of_a_good_run_however_often_it_logs() -> None:
    for every in (64, 6400, 640_000):
        assert said(Health(judge()), [{"seconds_waiting_for_data": 0.0}] * 500, every) == {}


def test_a_strong_d_is_said_after_long_alone() -> None:
    assert said(Health(judge()), [STRONG] * 50) == {"discriminator_too_strong": 102_400}
    assert said(Health(judge()), [STRONG] * 50, every=100_000) == {"discriminator_too_strong": 500_000}
    assert said(Health(judge()), ([STRONG] * 14 + [{}]) * 9) == {}, "it was broken off before it was long"
    assert said(Health(judge()), [STRONG | {"D/fake_logit": -3.0}] * 50) == {}, "G finds its way from there"
    assert said(Health(judge()), [STRONG | {"D/accuracy": 0.95}] * 50) == {}


def test_accuracy_is_judged_only_where_it_has_a_meaning() -> None:
    for verdict in ("order", "none"):
        assert said(Health(judge(verdict)), [STRONG] * 50) == {}
        assert said(Health(judge(verdict, solved=0.01)), [STRONG | {"D/loss": 0.5}] * 50) == {}
        assert said(Health(judge(verdict, solved=0.01)), [{"D/loss": 0.005}] * 50) == {
            "discriminator_too_strong": 102_400
        }
        assert said(Health(judge(verdict)), [{"D/accuracy": 0.1}] * 50) == {}
    backward = {"D/real_logit": -1.0, "D/fake_logit": 0.0}
    assert said(Health(judge("order")), [backward] * 50) == {"discriminator_too_weak": 32_000}
    assert said(Health(judge("none")), [backward] * 50) == {}, "a loss of one's own may have another order"


def test_chance_is_an_illness_only_from_the_beginning() -> None:
    assert said(Health(judge()), [WEAK] * 50) == {"discriminator_too_weak": 32_000}
    assert said(Health(judge()), [{}, *[WEAK] * 50]) == {}, "a perfect G brings it about too"
    assert said(Health(judge(from_noise=False)), [WEAK] * 50) == {}, "a G that began from another run may be good"
    wrong = WEAK | {"D/accuracy": 0.35}
    assert said(Health(judge()), [*[{}] * 10, *[wrong] * 9]) == {"discriminator_too_weak": 96_000}


def test_a_vanishing_gradient_is_one_while_d_tells_them_apart() -> None:
    small = {"G/gradient_norm": 0.02}
    assert said(Health(judge()), [*[{}] * 10, *[small] * 9]) == {"generator_gradient_vanishes": 96_000}
    assert said(Health(judge()), [*[{}] * 10, *[{"G/gradient_norm": 0.04}] * 90]) == {}
    equal = small | {"D/real_logit": -0.1, "D/fake_logit": -0.2}
    assert said(Health(judge()), [*[{}] * 10, *[equal] * 90]) == {}, "G is as good as the data"
    skipped = {"G/gradient_norm": 0.0, "G/skipped": 1}
    assert said(Health(judge()), [*[{}] * 10, *[skipped] * 90]) == {}, "the norm is not known"


def test_skipped_moves_are_counted_by_moves() -> None:
    five = Judge(images_per_update=320, batch_size=64, verdict="sign")  # 100 turns of D, 20 of G in a line
    assert said(Health(five), [{"D/skipped": 4}] * 50) == {}
    assert said(Health(five), [{"D/skipped": 6}] * 50, every=32_000) == {}
    assert said(Health(five), [{"D/skipped": 6}] * 50) == {"moves_skipped": 96_000}, "300 updates of 320 images"
    assert "moves_skipped" in said(Health(five), [{"G/skipped": 2}] * 50)
    assert said(Health(judge()), [{"D/skipped": 16, "G/skipped": 16}, *[{}] * 50]) == {}, "fp16 finds its scale"


def test_a_loss_explodes_beside_its_beginning() -> None:
    assert said(Health(judge()), [*[{}] * 9, *[{"G/loss": -3000.0}] * 9]) == {"loss_explodes": 89_600}
    big = {"D/loss": 900.0}
    assert said(Health(judge()), [*[big] * 9, *[{"D/loss": -9000.0}] * 9]) == {}, "it was always of such a size"
    assert said(Health(judge()), [{"D/loss": 2e5}] * 9) == {"loss_explodes": 32_000}
    assert said(Health(judge()), [{"D/loss": math.nan}] * 90) == {}, "moves are skipped then"


def test_waiting_is_a_part_of_the_time_of_a_line() -> None:
    assert said(Health(judge()), [{"seconds_waiting_for_data": 4.0}] * 9) == {"waiting_for_data": 32_000}
    assert said(Health(judge()), [{"seconds_waiting_for_data": 3.0}] * 90) == {}, "of 6.4 seconds"


@pytest.mark.parametrize("name", GOOD)
def test_no_number_is_required(name: str) -> None:
    health = Health(judge())
    for number in range(1, 20):
        health.observe(number * 6400, {key: value for key, value in GOOD.items() if key != name})
        health.observe(number * 6400, {name: math.nan})


def test_lines_of_other_metrics_in_between_change_nothing() -> None:
    health = Health(judge())
    found: list[int] = []
    for number in range(1, 7):
        found += [number for _ in health.observe(number * 6400, GOOD | WEAK)]
        assert health.observe(number * 6400 + 100, {"fid/x-01234567-none/10-ema": 3.0}) == []
    assert found == [5, 6]


def test_what_is_kept_is_bounded() -> None:
    health = Health(Judge(64_000, 64_000, "sign"))
    for number in range(5000):
        health.observe(number * 64, GOOD)
    assert all(len(values) <= 1000 for values in health._early.values())


def test_what_is_seldom_looked_at_must_be_seen_twice_or_at_the_end() -> None:
    gray, few = (Finding(kind, "text", "advice") for kind in ("gray", "few"))
    again = Again(judge(), 1_000_000)
    assert again.pass_on(90_000, [gray]) == [], "too early"
    assert again.pass_on(200_000, [gray, None, few]) == []
    assert again.pass_on(300_000, [None, few]) == [few]
    assert again.pass_on(400_000, [gray]) == []
    assert again.pass_on(1_000_000, [few]) == [few]


def test_a_metric_that_stands_still() -> None:
    falling = [(images * 1000, 100.0 / images) for images in range(1, 11)]
    assert stalled(falling, higher=False) is None
    assert stalled(falling, higher=True), "the same the other way round"
    best = [(images * 1000, abs(images - 4.0)) for images in range(1, 10)]
    found = stalled(best, higher=False, name="FID")
    assert found
    assert found.text == "FID has not become better since 4,000 images: it was 0 then, and is 5 at 9,000"
    assert stalled(best[:8], higher=False) is None, "half of the images are not yet over"
    assert stalled([(1000, 1.0), (9000, 2.0)], higher=False) is None, "two values say nothing"
    assert stalled([*falling, (50_000, math.nan)], higher=False) is None


SIDE = 20


def discs(channels: int = 1) -> Tensor:
    return Generated(size=SIDE, channels=channels, count=512).open(torch.device("cpu")).images  # type: ignore[attr-defined]


def noisy(images: Tensor, size: float, seed: int = 0) -> Tensor:
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed)) * size
    return (images.float() + noise).round().clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_reals_have_nothing(channels: int) -> None:
    for check in (gray, constant, checkerboard):
        assert check(discs(channels)[:64], discs(channels)[64:128]) is None
        assert check(noisy(discs(channels)[:64], 40), discs(channels)[64:128]) is None, "noise is another illness"


def test_gray_pictures() -> None:
    images = discs()
    found = gray(noisy(torch.full_like(images, 127), 2)[:64], images)
    assert found
    assert found.text.startswith("The images are almost uniform: their contrast is 2.0 of 255, that of real ones ")
    assert gray((images // 2)[:64], images) is None
    assert gray(torch.zeros_like(images), torch.zeros_like(images)) is None, "such are the reals"


def test_pictures_that_are_all_the_same() -> None:
    images = discs()
    assert constant(noisy(images[:1].expand(64, -1, -1, -1), 1), images)
    assert constant(images[:2].repeat(32, 1, 1, 1), images) is None, "two different ones"


def test_a_checkerboard_of_a_transposed_convolution() -> None:
    """A kernel of size 3 and stride 2 covers pixels unevenly (Odena et al. 2016); one of size 4 does not."""
    images = discs()
    small = images[..., ::2, ::2].float()
    for size, padding, sees in ((3, 1, True), (4, 1, False)):
        weight = torch.full((1, 1, size, size), 1 / 4)
        output = size % 2
        made = torch.nn.functional.conv_transpose2d(small, weight, stride=2, padding=padding, output_padding=output)
        assert made.shape == images.shape
        found = checkerboard(made.clamp(0, 255).to(torch.uint8)[:64], images[:64])
        assert bool(found) == sees
    columns = torch.tensor([1.0, 0.5]).repeat(SIDE // 2)
    assert checkerboard((images * columns).to(torch.uint8)[:64], images[:64]), "columns alone"
    assert checkerboard((images * columns).to(torch.uint8)[:64], (images * columns).to(torch.uint8)[64:128]) is None
    odd = (images * columns).to(torch.uint8)[:64, :, :, 1:]
    assert checkerboard(odd, images[:64])
    assert _nyquist(odd) == _nyquist(odd[..., :-1]), "of odd sides, a row or column is left out"


def test_few_images_are_not_judged() -> None:
    images = discs()
    same = torch.zeros_like(images)
    for check in (gray, constant, checkerboard):
        assert check(same[:8], images) is None
        assert check(same, images[:8]) is None
    rows = images.flatten(1).float()
    assert low_diversity(torch.zeros(8, rows.shape[1]), rows) is None
    assert copies(rows[:8], rows, rows) is None
    assert few_classes(torch.zeros(8, dtype=torch.int64), torch.arange(100) % 10) is None


def test_features_that_are_alike() -> None:
    rows = discs().flatten(1).float()
    assert low_diversity(rows[:200], rows[200:]) is None
    center = rows.mean(0)
    found = low_diversity(center + 0.3 * (rows[:200] - center), rows[200:])
    assert found
    assert "the mean distance of two is 3" in found.text


def test_copies_of_training_images() -> None:
    rows = discs().flatten(1).float()
    train, held_out = rows[:300], rows[300:]
    assert copies(held_out[:100], train, held_out[100:]) is None, "as good as the data"
    noise = torch.randn(100, rows.shape[1], generator=torch.Generator().manual_seed(0))
    found = copies(train[:100] + noise, train, held_out)
    assert found
    assert copies(train[:100], train, held_out), "exact copies"
    assert copies(torch.cat([train[:40], held_out[:60]]), train, held_out[60:]) is None, "the median does not show them"


def test_classes_that_have_gone() -> None:
    reals = torch.arange(2000) % 10
    assert few_classes(reals, reals) is None
    assert few_classes(reals[reals != 3][:1000], reals), "one of ten, of which 100 are expected"
    assert few_classes(reals[reals != 3][:900], reals) is None, "too few to say"
    found = few_classes(reals[reals < 3][:90], reals)
    assert found
    assert found.text == "The images are of few classes: effectively 3.0, and real ones of 10.0"
    missing = few_classes(reals[reals < 3].repeat(4), reals)
    assert missing
    assert missing.text.endswith("; (almost) none is of class 3, 4, 5, 6, 7 and 2 more")
    assert few_classes(torch.zeros(900, dtype=torch.int64), torch.zeros(500, dtype=torch.int64)) is None
