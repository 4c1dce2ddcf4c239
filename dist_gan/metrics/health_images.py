"""What goes wrong with the images of a run, in words: pure functions of pixels, features and class numbers.

Each compares with real images, so that it holds for dark, sparse or one-sided data too. None is told from few images:
below `FEWEST` of either kind nothing is found. Used by the pictures and by the evaluations of a run.
"""

import math

import torch
from torch import Tensor

from dist_gan.metrics.health import Finding
from dist_gan.metrics.pairs import nearest

FEWEST = 16
"""Images or features of each kind below which a comparison is chance."""
GRAY = 0.25
"""The median contrast of fakes (standard deviation of the pixels of one image) as a part of the reals'. Measured on
MNIST: 0.9 after training; 0.01 to 0.2 of G that has learnt nothing."""
ALIKE = 0.05
"""How much fakes differ from each other, pixel by pixel, as a part of the reals. Measured on MNIST: 0.8 after
training, 0.11 where all latents are alike but for 5%, 0.01 of a DCGAN before its first update."""
PEAK = 4.0
"""The power at the Nyquist frequency, as a multiple of that at half of it, beside the reals' multiple (1 at least, that
of noise). Measured: below 0.6 in reals and trained fakes of MNIST; 46 where every other column is half as bright
(Odena et al. 2016, "Deconvolution and checkerboard artifacts"; Durall et al. 2020)."""
SMALLEST = 16
"""The side below which half of the Nyquist frequency is one of shapes."""
VISIBLE = 1.0
"""The least amplitude of a checkerboard, of 255: a smaller one is rounding, which nobody sees."""
DIVERSE = 0.7
"""The root mean square distance between two fakes in feature space, as a part of that between two reals. Measured with
a classifier's features: 0.88 and 0.90 of healthy GANs of MNIST, 0.60 where all digits are fours, 0.73 where threes."""
COPIED = 0.5
"""The median distance of fakes to the nearest training image, as a part of that of held-out reals. Measured
likewise: 1.07 and 1.51 of healthy GANs, 1.00 of other held-out reals, 0.74 of such of three digits alone, 0.33 of
training images with noise, 0 of these themselves (Meehan et al. 2020, "A non-parametric test to detect
data-copying in generative models", whose test asks for the same two distances)."""
EFFECTIVE = 0.5
"""The effective number of classes of fakes (exp of the entropy of their shares), as a part of the reals'. Measured
likewise, of 10: 9.4 of healthy GANs, 1.3 and 1.4 of one digit, 3.8 of three."""
EXPECTED = 100
"""Fakes of a class that must be expected before its absence is told: of so many, none by chance has the probability
exp(-100)."""
ABSENT = 0.01
"""A class has gone where it has this part of the fakes that are expected."""
NAMED = 5
"""Classes that a text names, at most."""


def gray(images: Tensor, reals: Tensor) -> Finding | None:
    """uint8 [N, C, H, W], [M, C, H, W]: whether the images have almost no contrast."""
    if _few(images, reals):
        return None
    contrast, usual = (x.flatten(1).float().std(1).median().item() for x in (images, reals))
    if contrast >= GRAY * usual:
        return None
    return Finding(
        "gray_images",
        f"The images are almost uniform: their contrast is {contrast:.1f} of 255, that of real ones {usual:.1f}",
        "G has learnt nothing or has gone astray: lower its learning rate, begin again from an earlier checkpoint "
        "(begin_from), and look at what is said about D",
    )


def constant(images: Tensor, reals: Tensor) -> Finding | None:
    """uint8 [N, C, H, W], [M, C, H, W]: whether all images are (nearly) the same one."""
    if _few(images, reals):
        return None
    apart, usual = (x.double().var(0).mean().sqrt().item() for x in (images, reals))
    if apart >= ALIKE * usual:
        return None
    return Finding(
        "constant_images",
        f"All images are nearly the same: they differ by {apart:.1f} of 255 from their mean, real ones by {usual:.1f}",
        "G has collapsed and ignores its latents. Begin again, or from an earlier checkpoint (begin_from), with lower "
        "learning rates, a larger batch, or objective.penalties=[{name: r1}]",
    )


def checkerboard(images: Tensor, reals: Tensor) -> Finding | None:
    """uint8 [N, C, H, W], [M, C, H, W]: whether the images have a pattern with a period of two pixels."""
    if _few(images, reals) or min(images.shape[2:]) < SMALLEST:
        return None
    (peak, amplitude), (usual, _) = _nyquist(images), _nyquist(reals)
    if amplitude < VISIBLE or peak <= PEAK * max(1.0, usual):
        return None
    return Finding(
        "checkerboard",
        f"The images have a checkerboard: the power at a period of two pixels is {peak:,.0f} times that of four "
        f"(in real images {usual:.1f} times)",
        "It comes from G's upsampling: use kernels whose size is a multiple of the stride, or resize and convolve; a "
        "longer training or a D with more layers can remove it too",
    )


def low_diversity(fakes: Tensor, reals: Tensor) -> Finding | None:
    """Features [N, F], [M, F]: whether fakes are much more alike than reals (mode collapse)."""
    if _few(fakes, reals):
        return None
    return less_apart(*(x.float().var(0).sum().item() for x in (fakes, reals)))


def less_apart(variance: float, usual_variance: float) -> Finding | None:
    """The sums of the variances of all features, of fakes and of reals: the same check."""
    apart, usual = (math.sqrt(2 * max(0.0, x)) for x in (variance, usual_variance))
    if apart >= DIVERSE * usual:
        return None
    return Finding(
        "low_diversity",
        f"The images are too much alike: the mean distance of two is {apart / usual:.0%} of that of two real ones",
        "G has collapsed to a part of the data. Try a larger batch, lower learning rates, "
        "objective.penalties=[{name: r1}], or the relativistic loss; use the checkpoint before it",
    )


def copies(fakes: Tensor, train: Tensor, held_out: Tensor) -> Finding | None:
    """Features [N, F], [M, F], [K, F]: whether fakes are much nearer to training images than unseen reals are.

    `train` should be all training images that D sees: only what is in it can be found to be copied. Where fewer than
    half of the fakes are copies, the median does not show it. Time grows with (N + K) * M * F.
    """
    if _few(fakes, train) or len(held_out) < FEWEST:
        return None
    near, usual = (nearest(x, train)[0].median().item() for x in (fakes, held_out))
    return copied(near / usual) if usual > 0 else None


def copied(ratio: float) -> Finding | None:
    """The same check, where the ratio of both medians is known."""
    if ratio >= COPIED:
        return None
    return Finding(
        "copies",
        f"G repeats training images: the median distance to the nearest one is {ratio:.0%} of that of real "
        "images which it has not seen",
        "Give more training images, use augment.name=diffaugment, or a smaller G; use the checkpoint before it",
    )


def few_classes(numbers: Tensor, real_numbers: Tensor) -> Finding | None:
    """Class numbers int64 [N], [M], as a classifier sees them: whether fakes are of few classes, or one has gone."""
    if _few(numbers, real_numbers):
        return None
    classes = 1 + int(torch.cat([numbers, real_numbers]).max())
    shares, usual = (torch.bincount(x, minlength=classes).double() / len(x) for x in (numbers, real_numbers))
    effective, all_ = (torch.special.entr(x).sum().exp().item() for x in (shares, usual))
    gone = ((usual * len(numbers) >= EXPECTED) & (shares < ABSENT * usual)).nonzero().flatten().tolist()
    if effective >= EFFECTIVE * all_ and not gone:
        return None
    more = f" and {len(gone) - NAMED} more" if len(gone) > NAMED else ""
    absent = f"; (almost) none is of class {', '.join(map(str, gone[:NAMED]))}{more}" if gone else ""
    return Finding(
        "few_classes",
        f"The images are of few classes: effectively {effective:.1f}, and real ones of {all_:.1f}{absent}",
        "G has dropped a part of the data. Try a larger batch, objective.penalties=[{name: r1}], or networks that are "
        "given the classes (networks.conditional=true with data.labels=true)",
    )


def _few(a: Tensor, b: Tensor) -> bool:
    return min(len(a), len(b)) < FEWEST


def _nyquist(images: Tensor) -> tuple[float, float]:
    """(the power at a period of two pixels as a multiple of that of four, its amplitude in units of 255): the most
    of columns, rows, and both together."""
    even = images[..., : images.shape[2] // 2 * 2, : images.shape[3] // 2 * 2]
    pixels = even.double().mean(1)  # [N, H, W]
    height, width = pixels.shape[1:]
    power = torch.fft.fft2(pixels).abs().square().mean(0) / (height * width) ** 2
    (y, x), (v, u) = (height // 2, width // 2), (height // 4, width // 4)
    # A pattern that is brighter where the image is has power near its own frequency too, as the image near 0: compared
    # is half of the frequency. And on the same axis, on which images have more power than elsewhere.
    places = {(0, x): [(0, u), (0, u + 1)], (y, 0): [(v, 0), (v + 1, 0)]}
    places[y, x] = [(v, x), (y, u), (v, u), (-v, u)]
    floor = 1 / 12 / (height * width)  # what rounding to integers adds
    peaks = [
        (power[at].item() / (sum(power[n].item() for n in near) / len(near) + floor), power[at].item() ** 0.5)
        for at, near in places.items()
    ]
    return max((peak for peak in peaks if peak[1] >= VISIBLE), default=max(peaks))
