"""Which classes are there, and how often: modes and the reverse KL divergence, from the class of each image.

The 1,000-mode benchmark: of 26,000 images with a digit in each of three channels, a trained classifier says which
number 000..999 each shows.

- *Modes*: how many numbers are there at least once.
- *Reverse KL*: the sum over the numbers of p log(p / q), p their part of the generated images and q their part of the
  reference, in nats, without smoothing. A number that is not generated adds 0.

What the publications differ in:

- PacGAN (Lin et al. 2018, stacked_MNIST_experiments/VEEGAN_experiment/model.py): 26,000 images; q is uniform, although
  MNIST's digits are not equally frequent; of G's newest weights. Kumar et al. 2019 ("Maximum entropy generators") do
  the same. `uniform` is this reference.
- Metz et al. 2017 ("Unrolled GANs", "KL(model || data)"): 25,600 images; q is the distribution of the data's labels.
  `histogram` of labels is this reference.
- Huang et al. 2024 ("R3GAN") have no code for it in their repository, so which of the two it is, is not known.

Real images do not reach 0: of N images of K equally frequent classes about (K - 1) / 2N remains, 0.019 of 26,000, and
MNIST's own frequencies add 0.004 where q is uniform. Measured on 26,000 stacks of MNIST's training images, as the digit
network sees them: 1,000 modes, 0.0191 from the data's frequencies, 0.0223 from uniform ones.
"""

import torch
from torch import Tensor

STACKED = 1000
"""Classes of stacked MNIST."""
SAMPLES = 26_000
"""Images that the 1,000-mode benchmark looks at."""


def histogram(numbers: Tensor, classes: int) -> Tensor:
    """Class numbers int64 [N] -> how many there are of each, float64 [K]."""
    counts = torch.bincount(numbers.cpu(), minlength=classes)
    assert len(counts) == classes, f"a class number above {classes - 1}"
    return counts.double()


def uniform(classes: int) -> Tensor:
    """The reference of PacGAN: all classes equally frequent, float64 [K]."""
    return torch.full((classes,), 1 / classes, dtype=torch.float64)


def modes(numbers: Tensor, classes: int = STACKED) -> int:
    """How many of the classes are there at least once in class numbers int64 [N]."""
    return int(histogram(numbers, classes).count_nonzero())


def reverse_kl(numbers: Tensor, reference: Tensor) -> float:
    """KL(generated || reference) in nats.

    Args:
        numbers: int64 [N], the classes of the generated images.
        reference: float64 [K], counts or parts of each class: `uniform(K)`, or a `histogram` of the data's labels.

    Returns:
        0 where the distributions are equal; log K where all images are of one of K equally frequent classes; infinite
        where a class is generated that the reference does not have.
    """
    return divergence(histogram(numbers, len(reference)), reference)


def divergence(counts: Tensor, reference: Tensor) -> float:
    """KL(counts || reference) in nats, both [K] and scaled to a sum of 1; classes that `counts` lacks add 0."""
    p, q = _parts(counts), _parts(reference)
    there = p > 0
    return float((p[there] * (p[there] / q[there]).log()).sum())


def entropy(counts: Tensor) -> float:
    """Of the frequencies of classes, counts [K], in nats: log K where all are equal, 0 where there is one alone."""
    p = _parts(counts)
    return float(-torch.special.xlogy(p, p).sum()) + 0.0


def _parts(counts: Tensor) -> Tensor:
    total = counts.double().sum()
    assert total > 0, "no images"
    return counts.double() / total
