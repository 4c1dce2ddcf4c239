"""Penalties: what a player minimizes besides its loss, per sample.

To add one: write the class and put its name into `AnyPenalty`. The contract tests then cover it.
"""

import math
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.autograd import forward_ad

from dist_gan.objective.path_length import PathLength
from dist_gan.objective.penalty import At, DifferencePenalty, GeneratorPenalty, LogitPenalty, Look, Penalty, Sight
from dist_gan.own_parts import OwnPart
from dist_gan.randomness import normal
from dist_gan.shapes import ImageShape


class R1(Penalty):
    """|grad D|^2 / 2 at real images (Mescheder et al. 2018, equation 9)."""

    name: Literal["r1"] = "r1"
    at: ClassVar[At] = "real"

    method: Literal["double_backward", "forward_over_reverse"] = "double_backward"
    """How its gradient is computed; both are exact. forward_over_reverse: D's derivative along the image's gradient, by
    forward-mode differentiation. No second backward is needed, for the price of one forward more."""

    def measure(self, sight: Sight, name: str) -> Tensor:
        images, logits = sight.images[self.at], sight.logits[self.at]
        if self.method == "double_backward":
            return self.penalty(images, logits)
        return _forward_over_reverse(images, logits, sight.again[self.at])

    def penalty(self, images: Tensor, logits: Tensor) -> Tensor:
        return _gradient(images, logits).square().sum(1) / 2


class R2(R1):
    """|grad D|^2 / 2 at fake images (Mescheder et al. 2018, equation 10)."""

    name: Literal["r2"] = "r2"  # type: ignore[assignment]  # a narrower name is the point of the union
    at: ClassVar[At] = "fake"


class WGANGP(Penalty):
    """(|grad D| - 1)^2 at random interpolates (Gulrajani et al. 2017, equation 3)."""

    name: Literal["wgan_gp"] = "wgan_gp"
    at: ClassVar[At] = "mixed"
    weight: float = Field(10.0, gt=0)
    """Factor of the penalty in D's loss."""

    def penalty(self, images: Tensor, logits: Tensor) -> Tensor:
        return (torch.linalg.vector_norm(_gradient(images, logits), dim=1) - 1).square()


class ApproximateR1(DifferencePenalty):
    """((D(x + s n) - D(x)) / s)^2 at real images x after augmentation, n standard normal: its mean over n is |grad D|^2
    for small s, twice what r1 is.

    Lin et al. 2025, "Diffusion adversarial post-training for one-step video generation" (APT), which has s 0.1 and
    weight 100 without the division. GAT: s 0.01, weight 0.1; adversarial flow models: s 0.01, weight 0.25, share 4.
    """

    name: Literal["approximate_r1"] = "approximate_r1"
    at: ClassVar[At] = "real"

    sigma: float = Field(0.01, gt=0)
    """s, for images in [-1, 1]."""

    def bits(self, shape: ImageShape) -> int:
        return math.prod(shape)

    def near(self, images: Tensor, bits: Tensor) -> Tensor:
        return images + self.sigma * normal(bits, images.dtype).view(images.shape)

    def penalty(self, logits: Tensor, near: Tensor) -> Tensor:
        return ((near - logits) / self.sigma).square()


class ApproximateR2(ApproximateR1):
    """((D(x + s n) - D(x)) / s)^2 at fake images."""

    name: Literal["approximate_r2"] = "approximate_r2"  # type: ignore[assignment]  # as R2's
    at: ClassVar[At] = "fake"


class Centering(LogitPenalty):
    """(D(x) + D(G(z)))^2: holds the logits around 0, where a relativistic loss leaves their level open (Lin et al.
    2025, "Adversarial flow models")."""

    name: Literal["centering"] = "centering"
    weight: float = Field(0.01, gt=0)
    """Factor of the penalty in D's loss."""

    def penalty(self, real: Tensor, fake: Tensor) -> Tensor:
        return (real + fake).square()


AnyPenalty = Annotated[
    R1 | R2 | WGANGP | ApproximateR1 | ApproximateR2 | Centering | PathLength,
    Field(discriminator="name"),
    OwnPart(Penalty, DifferencePenalty, LogitPenalty, GeneratorPenalty),
]


def _gradient(images: Tensor, logits: Tensor) -> Tensor:
    """[N, C * H * W]: the gradient of each logit by its own image. Wrong where D mixes samples (batch statistics)."""
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.flatten(1)


def _forward_over_reverse(images: Tensor, logits: Tensor, look: Look) -> Tensor:
    """[N]: |g|^2 / 2, g the gradient by the image, with the gradient of <g, grad D>, g held constant: the same one."""
    (gradient,) = torch.autograd.grad(logits.sum(), images, retain_graph=True)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(images.detach(), gradient)
        slope = forward_ad.unpack_dual(look(dual)).tangent
    assert slope is not None, "D's logits depend on the images"
    return slope - slope.detach() + gradient.flatten(1).square().sum(1) / 2
