"""Metrics as pure functions: closed forms, and agreement with torch-fidelity and torchmetrics on the same features."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from dist_gan.metrics.classes import class_accuracy, inception_score
from dist_gan.metrics.frechet import frechet_distance, frechet_distance_of_few
from dist_gan.metrics.moments import Moments, moments
from dist_gan.metrics.pairs import (
    density_coverage,
    kernel_distance,
    nearest,
    polynomial_mmd,
    precision_recall,
    radii,
    sliced_distance,
)

SIZES = [(300, 200, 16), (700, 900, 64), (500, 2000, 192)]


def sets(n: int, m: int, size: int, shift: float = 0.2, scale: float = 1.2) -> tuple[Tensor, Tensor]:
    """Like features of a network: positive, many zeros, correlated."""
    generator = torch.Generator().manual_seed(n + m)
    mix = torch.randn(size, size, generator=generator, dtype=torch.float64) / math.sqrt(size)
    a, b = (torch.randn(k, size, generator=generator, dtype=torch.float64) @ mix for k in (n, m))
    return a.relu(), (scale * b + shift).relu()


def gaussian(mean: Tensor, covariance: Tensor) -> Moments:
    return Moments(1000, mean, covariance)


def test_frechet_distance_of_shifted_and_scaled_gaussians() -> None:
    """|m1 - m2|^2 + sum (s1 - s2)^2, for covariances that commute."""
    m, s = torch.linspace(-1, 1, 5, dtype=torch.float64), torch.linspace(0.5, 2, 5, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).Q
    a = gaussian(m, turn @ torch.diag(s**2) @ turn.T)
    b = gaussian(m + 0.3, turn @ torch.diag((2 * s) ** 2) @ turn.T)
    expected = 5 * 0.3**2 + float((s**2).sum())
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-12)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_frechet_distance_is_that_of_the_libraries(size: tuple[int, int, int]) -> None:
    fid = pytest.importorskip("torch_fidelity.metric_fid")
    a, b = sets(*size)
    own = frechet_distance(moments(a), moments(b))
    statistics = [fid.fid_features_to_statistics(x) for x in (a, b)]
    theirs = fid.fid_statistics_to_metric(*statistics, False)[fid.KEY_METRIC_FID]
    assert own == pytest.approx(theirs, rel=1e-6)
    fid = pytest.importorskip("torchmetrics.image.fid")
    x, y = moments(a), moments(b)
    assert own == pytest.approx(fid._compute_fid(x.mean, x.covariance, y.mean, y.covariance).item(), rel=1e-6)


@pytest.mark.parametrize("n", [2, 50, 191])
def test_of_few_samples_it_is_the_same(n: int) -> None:
    """The low-rank form, where the usual one has a covariance without full rank."""
    fid = pytest.importorskip("torch_fidelity.metric_fid")
    a, b = sets(n, 1500, 192)
    few = frechet_distance_of_few(a, moments(b))
    assert few == pytest.approx(frechet_distance(moments(a), moments(b)), rel=1e-6)
    statistics = [fid.fid_features_to_statistics(x) for x in (a, b)]
    assert few == pytest.approx(fid.fid_statistics_to_metric(*statistics, False)[fid.KEY_METRIC_FID], rel=1e-6)


def test_few_samples_of_the_same_distribution_look_far_away() -> None:
    """So a number of few samples is biased, and its name says how many."""
    a, b = sets(1000, 1500, 64, shift=0, scale=1)
    far, near = frechet_distance_of_few(a[:40], moments(b)), frechet_distance(moments(a), moments(b))
    assert far > 5 * near


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_kernel_distance_is_that_of_the_libraries(size: tuple[int, int, int]) -> None:
    kid = pytest.importorskip("torch_fidelity.metric_kid")
    a, b = (x[:200] for x in sets(*size))
    options: dict[str, Any] = {"kid_kernel": "poly", "kid_kernel_poly_degree": 3}
    options |= {"kid_kernel_poly_gamma": None, "kid_kernel_poly_coef0": 1}
    own = polynomial_mmd(a, b)
    assert own == pytest.approx(float(kid.kernel_mmd(a.numpy(), b.numpy(), **options)), rel=1e-6)
    kid = pytest.importorskip("torchmetrics.image.kid")
    assert own == pytest.approx(kid.poly_mmd(a, b, degree=3, gamma=None, coef=1.0).item(), rel=1e-6)


def test_kernel_distance_of_one_distribution_is_about_0() -> None:
    a, b = sets(1200, 1200, 16, shift=0, scale=1)
    mean, std = kernel_distance(a, b, subsets=20, size=300)
    assert abs(mean) < 3 * std
    assert kernel_distance(a, b + 1, subsets=20, size=300)[0] > 10 * abs(mean)
    assert kernel_distance(a, b, subsets=20, size=300) == (mean, std)
    assert polynomial_mmd(a, a) < 0  # without bias: the same points are nearer than others of the same distribution


def test_sliced_distance_of_a_shift() -> None:
    """3 F times the mean over directions of (u . s)^2, which is 3 |s|^2 for a shift by s."""
    a, _ = sets(400, 10, 32)
    shift = torch.linspace(-1, 1, 32, dtype=torch.float64)
    expected = 3 * float(shift.square().sum())
    assert sliced_distance(a, a + shift, projections=4000) == pytest.approx(expected, rel=0.05)
    assert sliced_distance(a, a.flip(0)) == 0
    assert sliced_distance(a, a + 2 * shift) == pytest.approx(4 * sliced_distance(a, a + shift), rel=1e-10)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_precision_and_recall_are_those_of_the_library(size: tuple[int, int, int]) -> None:
    prc = pytest.importorskip("torch_fidelity.metric_prc")
    a, b = sets(*size)
    theirs = prc.calculate_precision_recall_full(a, b, neighborhood=3)
    assert precision_recall(a, b, k=3) == pytest.approx(theirs, abs=1e-6)
    assert theirs[0] > theirs[1]


def test_precision_recall_density_and_coverage_by_hand() -> None:
    reals = torch.tensor([[0.0], [1.0], [2.0], [10.0]])
    fakes = torch.tensor([[0.5], [1.5], [50.0]])
    assert radii(reals, 1).tolist() == [1, 1, 1, 8]
    # 0.5 and 1.5 lie in balls of reals; 0 and 1 lie within 1 of a fake, 2 too, 10 lies within 48.5 of the fake at 50
    assert precision_recall(fakes, reals, k=1) == (2 / 3, 1)
    # balls around 0 (1), 1 (1), 2 (1), 10 (8): 0.5 lies in the first two, 1.5 in the second and third
    assert density_coverage(fakes, reals, k=1) == (4 / 3, 3 / 4)
    assert nearest(fakes, reals)[1].tolist() == [0, 1, 3]


def test_sets_that_are_far_apart_and_the_same() -> None:
    a, _ = sets(300, 300, 16)
    assert precision_recall(a, a) == (1, 1)
    assert precision_recall(a, a + 1000) == (0, 0)
    assert density_coverage(a, a + 1000) == (0, 0)
    assert density_coverage(a, a)[1] == 1


def test_inception_score_is_that_of_the_libraries() -> None:
    isc = pytest.importorskip("torch_fidelity.metric_isc")
    logits = 3 * sets(500, 10, 16)[0]
    theirs = isc.isc_features_to_metric(logits, splits=10, shuffle=False)
    own = inception_score(logits, 10)
    assert own == pytest.approx(tuple(theirs.values()), rel=1e-6)


def test_inception_score_at_its_ends() -> None:
    sure = 1000.0 * torch.eye(10).repeat(10, 1)
    assert inception_score(sure) == pytest.approx((10, 0))
    assert inception_score(torch.zeros(100, 10)) == pytest.approx((1, 0))
    assert class_accuracy(sure, torch.arange(10).repeat(10)) == 1
    assert class_accuracy(sure, torch.zeros(100, dtype=torch.int64)) == pytest.approx(0.1)
