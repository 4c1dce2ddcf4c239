"""Losses: logits to per-sample losses. Logits are any real numbers; each player minimizes its own loss.

To add one: write the class and put its name into `AnyLoss`. The contract tests then cover it.
"""

from abc import abstractmethod
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor
from torch.nn.functional import relu, softplus

from dist_gan.own_parts import OwnPart
from dist_gan.part import Part

Verdict = Literal["sign", "order", "none"]


class Loss(Part):
    """What each player minimizes, per sample: logits `[N]` of real and fake images to losses `[N]`."""

    pairs: ClassVar[bool] = False
    """Whether G's loss uses the logits of real images too."""
    verdict: ClassVar[Verdict] = "none"
    """How D says what is real. sign: by positive logits, so that D's accuracy has a meaning; order: real images have
    higher logits than fakes; none: in another way. What is noted on a run's health depends on it."""
    solved: ClassVar[float | None] = None
    """D's loss up to which it tells all real images from fakes with a margin; None where its value does not say so."""

    @abstractmethod
    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """real [N], fake [N] -> [N]: D's loss on each pair (the sum of its two terms, where they are separate)."""

    @abstractmethod
    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        """fake [N] (and real [N] where `pairs`) -> [N]: G's loss on each fake image."""


class _CrossEntropy(Loss):
    verdict: ClassVar[Verdict] = "sign"
    real_target: float = Field(0.9, gt=0.5, le=1)
    """One-sided label smoothing: the target of real images in D's turn; 1 is none (Salimans et al. 2016)."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """-t log s(real) - (1 - t) log(1 - s(real)) - log(1 - s(fake)), s the sigmoid, t the target."""
        smoothed = self.real_target * softplus(-real) + (1 - self.real_target) * softplus(real)
        return smoothed + softplus(fake)


class NonSaturating(_CrossEntropy):
    """Binary cross-entropy with flipped labels for G (Goodfellow et al. 2014, section 3)."""

    name: Literal["non_saturating"] = "non_saturating"

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        """-log s(fake), unsmoothed."""
        return softplus(-fake)


class Minimax(_CrossEntropy):
    """Binary cross-entropy as a zero-sum game, saturating for G (Goodfellow et al. 2014, equation 1)."""

    name: Literal["minimax"] = "minimax"

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        """log(1 - s(fake))."""
        return -softplus(fake)


class LeastSquares(Loss):
    """LSGAN with a = 0, b = c = 1 (Mao et al. 2017, equation 9)."""

    name: Literal["least_squares"] = "least_squares"
    verdict: ClassVar[Verdict] = "order"
    solved: ClassVar[float | None] = 0.01  # logits are within 0.1 of their targets, which are 1 apart

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return ((real - 1).square() + fake.square()) / 2

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        return (fake - 1).square() / 2


class Hinge(Loss):
    """Hinge loss (Lim and Ye 2017; Miyato et al. 2018)."""

    name: Literal["hinge"] = "hinge"
    verdict: ClassVar[Verdict] = "sign"
    solved: ClassVar[float | None] = 0.02  # 99% are beyond the margin, where D learns nothing from them

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return relu(1 - real) + relu(1 + fake)

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        return -fake


class Wasserstein(Loss):
    """The critic's difference (Arjovsky et al. 2017). It needs a gradient penalty."""

    name: Literal["wasserstein"] = "wasserstein"
    verdict: ClassVar[Verdict] = "order"

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return fake - real

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        return -fake


class Relativistic(Loss):
    """Relativistic pairing GAN: is the real one more real than the fake one? (Jolicoeur-Martineau 2018; R3GAN 2024)."""

    name: Literal["relativistic"] = "relativistic"
    pairs: ClassVar[bool] = True
    verdict: ClassVar[Verdict] = "order"
    solved: ClassVar[float | None] = 0.01  # of a pair, D holds the real one to be real with 99%

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """-log s(real - fake)."""
        return softplus(fake - real)

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        """-log s(fake - real)."""
        assert real is not None, "a pairing loss is given the logits of real images"
        return softplus(real - fake)


AnyLoss = Annotated[
    NonSaturating | Minimax | LeastSquares | Hinge | Wasserstein | Relativistic,
    Field(discriminator="name"),
    OwnPart(Loss),
]
