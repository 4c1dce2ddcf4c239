"""The Fréchet distance between two sets of features (Heusel et al. 2017, "GANs trained by a two time-scale update rule
converge to a local Nash equilibrium").

Each set is taken for a Gaussian:  d^2 = |m1 - m2|^2 + tr C1 + tr C2 - 2 tr (C1 C2)^(1/2).

All in float64. Covariances are divided by N - 1, as in the authors' code.
"""

import math

import torch
from torch import Tensor

from dist_gan.metrics.moments import Moments


def frechet_distance(a: Moments, b: Moments) -> float:
    """d^2 of two Gaussians; 0 for equal ones, in the square of the features' unit.

    (C1 C2)^(1/2) has the same trace as (A C2 A)^(1/2) with A = C1^(1/2), which is symmetric: its eigenvalues are real
    and not negative, and come from a faster and more exact algorithm than those of C1 C2.
    """
    values, vectors = torch.linalg.eigh(a.covariance)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return _distance(a, b, _root_trace(root @ b.covariance @ root))


def frechet_distance_of_few(features: Tensor, other: Moments) -> float:
    """The same, where `features` [N, F] of one set are fewer than their length: its covariance then has rank N - 1.

    With centered features X / (N - 1)^(1/2) = Y, the trace is that of (Y C Y^T)^(1/2), which is [N, N]. Nothing is
    added to the diagonal. The result is biased: few samples look farther away than many of the same distribution.
    """
    x = features.double().cpu()
    mean = x.mean(0)
    y = (x - mean) / (len(x) - 1) ** 0.5
    product = y @ other.covariance @ y.T
    own = Moments(len(x), mean, torch.zeros(0))
    return _distance(own, other, _root_trace(product), own_trace=float(y.square().sum()))


def _root_trace(product: Tensor) -> float:
    """tr P^(1/2) of a symmetric matrix without negative eigenvalues (but for rounding)."""
    symmetric = (product + product.T) / 2
    return float(torch.linalg.eigvalsh(symmetric).clamp(min=0).sqrt().sum())


def _distance(a: Moments, b: Moments, root_trace: float, own_trace: float | None = None) -> float:
    trace = float(a.covariance.trace()) if own_trace is None else own_trace
    distance = float((a.mean - b.mean).square().sum()) + trace + float(b.covariance.trace()) - 2 * root_trace
    return distance if math.isnan(distance) else max(0.0, distance)
