"""Metrics of a classifier's outputs: Inception Score, accuracy of the classes that were asked for."""

import torch
from torch import Tensor


def inception_score(logits: Tensor, splits: int = 10) -> tuple[float, float]:
    """exp(mean over x of KL(p(y | x) || p(y))): mean and standard deviation over `splits` parts of the images, in order
    (Salimans et al. 2016, section 4).

    Args:
        logits: [N, K] of a classifier; N is at least `splits`.
        splits: into how many consecutive parts the images are divided.

    Returns:
        between 1 and K; higher is better.
    """
    log_p = logits.double().log_softmax(1)
    p = log_p.exp()
    count, scores = len(p), []
    for i in range(splits):
        part = slice(i * count // splits, (i + 1) * count // splits)
        divergence = (p[part] * (log_p[part] - p[part].mean(0, keepdim=True).log())).nansum(1)  # 0 log 0 is 0
        scores.append(divergence.mean().exp())
    values = torch.stack(scores)
    return float(values.mean()), float(values.std(correction=0))


def class_accuracy(logits: Tensor, labels: Tensor) -> float:
    """The share of images [N, K] that the classifier takes for the class that was asked for, int64 [N]."""
    return float((logits.argmax(1) == labels).double().mean())
