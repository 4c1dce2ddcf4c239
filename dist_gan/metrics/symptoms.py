"""What evaluations show of a run's health: from what metrics are computed of anyway."""

import torch
from torch import Tensor

from dist_gan.metrics.health import Finding
from dist_gan.metrics.health_images import FEWEST, few_classes, less_apart, low_diversity
from dist_gan.metrics.metric import Summary

MOST_NUMBERS = 10_000_000
"""Data with more images than this is not counted class by class."""


def symptoms(fakes: Summary, reals: Summary) -> list[Finding]:
    """All that is wrong with fakes beside reals, as far as both are known."""
    found: list[Finding | None] = []
    if fakes.features is not None and reals.features is not None:
        found.append(low_diversity(fakes.features, reals.features))
    elif fakes.moments is not None and reals.moments is not None and min(fakes.count, reals.count) >= FEWEST:
        traces = (float(m.covariance.trace()) for m in (fakes.moments, reals.moments))
        found.append(less_apart(*traces))
    if fakes.logits is not None and (numbers := _numbers(reals, fakes.logits.shape[1])) is not None:
        found.append(few_classes(fakes.logits.argmax(1), numbers))
    return [finding for finding in found if finding]


def _numbers(reals: Summary, classes: int) -> Tensor | None:
    """int64 [M]: the class of each real image; None where they are not known, or not the classifier's."""
    counts = reals.class_counts
    if counts is None or int(counts.sum()) > MOST_NUMBERS:
        return None
    return torch.repeat_interleave(torch.arange(classes), counts)
