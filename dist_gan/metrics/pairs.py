"""Metrics of pairs of feature vectors: KID, MIND, precision and recall, density and coverage.

All are functions of features [N, F] of fakes and [M, F] of reals, computed in float64, some rows at a time. Where a
definition draws at random, the draw is a function of fixed ordinals: the same features give the same number.
`tick` is called after every part of the work; it may raise, which ends the work.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from dist_gan.randomness import Purpose, draw, normal, words

IN_MEMORY = 2**24
"""Distances that are in memory at once: 128 MB."""
Tick = Callable[[], None]


def _no_tick() -> None:
    pass


def polynomial_mmd(a: Tensor, b: Tensor) -> float:
    """The unbiased square of the maximum mean discrepancy of a [n, F] and b [m, F], with the kernel
    k(x, y) = (x y / F + 1)^3 (Binkowski et al. 2018, "Demystifying MMD GANs", equation 4)."""
    a, b = a.double(), b.double()
    within = [(_kernel(x, x).sum() - _kernel_of_rows(x).sum()) / (len(x) * (len(x) - 1)) for x in (a, b)]
    return float(within[0] + within[1] - 2 * _kernel(a, b).mean())


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.T / a.shape[1] + 1) ** 3


def _kernel_of_rows(a: Tensor) -> Tensor:
    return (a.square().sum(1) / a.shape[1] + 1) ** 3


def kernel_distance(
    fakes: Tensor, reals: Tensor, subsets: int = 100, size: int = 1000, tick: Tick = _no_tick
) -> tuple[float, float]:
    """KID: mean and standard deviation of `polynomial_mmd` over random subsets of `size` fakes and reals, drawn without
    replacement (Binkowski et al. 2018, section 4). May be slightly below 0."""
    found = []
    for subset in range(subsets):
        a, b = (x[_choice(len(x), size, 2 * subset + k)] for k, x in enumerate((fakes, reals)))
        found.append(polynomial_mmd(a, b))
        tick()
    values = torch.tensor(found, dtype=torch.float64)
    return float(values.mean()), float(values.std(correction=0))


def _choice(count: int, size: int, which: int) -> Tensor:
    """int64 [size]: different numbers below `count`, a function of `which`."""
    first = which * count
    return torch.argsort(words(0, Purpose.METRIC, range(first, first + count), 1)[:, 0], stable=True)[:size]


def sliced_distance(fakes: Tensor, reals: Tensor, projections: int = 1000, tick: Tick = _no_tick) -> float:
    """MIND, the Monge Inception distance (Berthet et al. 2026, arXiv 2605.06797):

        3 F * mean over directions u of W2^2(u . fakes, u . reals),

    where W2 between numbers on a line is the mean squared difference of both in order. fakes [N, F] and reals [N, F]
    must be equally many. The factor brings it to the scale of the Fréchet distance.
    """
    assert len(fakes) == len(reals), "in order, each fake is compared with one real"
    bits = draw(0, {Purpose.METRIC_DIRECTION: fakes.shape[1]}, range(projections))[Purpose.METRIC_DIRECTION]
    directions = normal(bits, torch.float64)
    directions /= directions.norm(dim=1, keepdim=True)
    total = torch.zeros((), dtype=torch.float64)
    fakes, reals = fakes.double(), reals.double()
    for some in directions.split(50):
        a, b = ((x @ some.T).sort(0).values for x in (fakes, reals))
        total += (a - b).square().mean(0).sum()
        tick()
    return float(3 * fakes.shape[1] * total / projections)


def precision_recall(fakes: Tensor, reals: Tensor, k: int = 3, tick: Tick = _no_tick) -> tuple[float, float]:
    """Improved precision and recall (Kynkäänniemi et al. 2019, equations 1 and 2), both from 0 to 1.

    Precision: the share of fakes that lie within the distance of some real to its k-th nearest other real; recall: the
    same with both sets exchanged.
    """
    precision = _share_inside(fakes, reals, radii(reals, k, tick), tick)
    return precision, _share_inside(reals, fakes, radii(fakes, k, tick), tick)


def density_coverage(fakes: Tensor, reals: Tensor, k: int = 5, tick: Tick = _no_tick) -> tuple[float, float]:
    """Density (0 or more, 1 where both sets are alike) and coverage (0 to 1) (Naeem et al. 2020, equations 3 and 4).

    Around each real lies a ball that reaches to its k-th nearest other real. Density: how many balls a fake lies in, on
    average, over k. Coverage: the share of balls in which at least one fake lies.
    """
    reach = radii(reals, k, tick)
    inside, covered = 0, torch.zeros(len(reals), dtype=torch.bool)
    for distances in distances_from(fakes, reals, tick):
        within = distances < reach
        inside += int(within.sum())
        covered |= within.any(0)
    return inside / (k * len(fakes)), float(covered.double().mean())


def radii(points: Tensor, k: int, tick: Tick = _no_tick) -> Tensor:
    """float64 [N]: the distance of each of points [N, F] to its k-th nearest other one."""
    # A point is its own nearest, at a distance that rounding may keep from 0.
    return torch.cat([d.kthvalue(k + 1, dim=1).values for d in distances_from(points, points, tick)])


def nearest(points: Tensor, others: Tensor, tick: Tick = _no_tick) -> tuple[Tensor, Tensor]:
    """For each of points [N, F]: the distance float64 [N] to its nearest among others [M, F], and which it is."""
    found = [d.min(1) for d in distances_from(points, others, tick)]
    return torch.cat([f.values for f in found]), torch.cat([f.indices for f in found])


def _share_inside(points: Tensor, centers: Tensor, reach: Tensor, tick: Tick) -> float:
    inside = sum(int((d <= reach).any(1).sum()) for d in distances_from(points, centers, tick))
    return inside / len(points)


def distances_from(points: Tensor, others: Tensor, tick: Tick = _no_tick) -> Iterator[Tensor]:
    """float64 [n, M]: Euclidean distances of some points [N, F] at a time to others [M, F]."""
    others = others.double()
    for some in points.double().split(max(1, IN_MEMORY // len(others))):
        yield torch.cdist(some, others)
        tick()
