"""Penalties: what a player minimizes besides its loss, per sample. Those of D use images and their logits, and must be
differentiable once more. Those of G use the images and the latents that these were made from.

To add one: write the class and put its name into `AnyPenalty`. The contract tests then cover it.
"""

from abc import abstractmethod
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from dist_gan.objective.followers import State
from dist_gan.own_parts import OwnPart
from dist_gan.part import Part
from dist_gan.shapes import ImageShape


class _Weighted(Part):
    of: ClassVar[Literal["D", "G"]]
    """The player in whose turn it is minimized."""

    weight: float = Field(1.0, gt=0)
    """Factor of the penalty in the player's loss."""
    every: int = Field(0, ge=0)
    """How often, in images: 0 is every update; otherwise once in this many images, and as many times stronger, so that
    its mean strength stays the same (lazy regularization, Karras et al. 2020)."""

    def strength(self, images_seen: int, images_per_turn: int) -> float:
        """Its factor in the turn that begins at `images_seen`: 0 where it is not due."""
        if self.every <= images_per_turn:
            return self.weight
        return self.weight * self.every / images_per_turn if images_seen % self.every < images_per_turn else 0.0

    def bits(self, shape: ImageShape) -> int:
        """How many 16-bit random numbers it needs for one image of `shape` (C, H, W)."""
        return 0


class Penalty(_Weighted):
    """A penalty of D's turn: at which images, how strong, how often."""

    of: ClassVar[Literal["D", "G"]] = "D"
    at: ClassVar[Literal["real", "fake", "mixed"]]
    """Which images it uses; `mixed` are random interpolates of a real and a fake one."""

    @abstractmethod
    def penalty(self, images: Tensor, logits: Tensor) -> Tensor:
        """images [N, C, H, W] that require gradients, their logits [N] -> [N], weight not included."""


class GeneratorPenalty(_Weighted):
    """A penalty of G's turn (path length, for example)."""

    of: ClassVar[Literal["D", "G"]] = "G"

    def initial_state(self) -> dict[str, Tensor]:
        """The state before the first update; empty for most."""
        return {}

    def follow(self, state: State, mean: Tensor) -> dict[str, Tensor]:
        """The state after a turn in which the observations had this mean."""
        return dict(state)

    @abstractmethod
    def penalty(self, images: Tensor, latents: Tensor, bits: Tensor, state: State) -> tuple[Tensor, Tensor | None]:
        """What each fake image costs.

        Args:
            images: [N, C, H, W], made by G.
            latents: [N, Z] that they were made from and that require gradients.
            bits: int16 [N, self.bits((C, H, W))].
            state: as `initial_state` and `follow` return it.

        Returns:
            [N], weight not included; and [N] observations whose mean over all samples `follow` is given, or None.
        """


class R1(Penalty):
    """|grad D|^2 / 2 at real images (Mescheder et al. 2018, equation 9)."""

    name: Literal["r1"] = "r1"
    at: ClassVar[Literal["real", "fake", "mixed"]] = "real"

    def penalty(self, images: Tensor, logits: Tensor) -> Tensor:
        return _gradient(images, logits).square().sum(1) / 2


class R2(R1):
    """|grad D|^2 / 2 at fake images (Mescheder et al. 2018, equation 10)."""

    name: Literal["r2"] = "r2"  # type: ignore[assignment]  # a narrower name is the point of the union
    at: ClassVar[Literal["real", "fake", "mixed"]] = "fake"


class WGANGP(Penalty):
    """(|grad D| - 1)^2 at random interpolates (Gulrajani et al. 2017, equation 3)."""

    name: Literal["wgan_gp"] = "wgan_gp"
    at: ClassVar[Literal["real", "fake", "mixed"]] = "mixed"
    weight: float = Field(10.0, gt=0)
    """Factor of the penalty in D's loss."""

    def penalty(self, images: Tensor, logits: Tensor) -> Tensor:
        return (torch.linalg.vector_norm(_gradient(images, logits), dim=1) - 1).square()


AnyPenalty = Annotated[R1 | R2 | WGANGP, Field(discriminator="name"), OwnPart(Penalty, GeneratorPenalty)]


def _gradient(images: Tensor, logits: Tensor) -> Tensor:
    """[N, C * H * W]: the gradient of each logit by its own image. Wrong where D mixes samples (batch statistics)."""
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.flatten(1)
