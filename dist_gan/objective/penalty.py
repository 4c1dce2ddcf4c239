"""What penalties have in common: a weight, a cadence, and in whose turn they are minimized."""

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal, NamedTuple

from pydantic import Field
from torch import Tensor

from dist_gan.objective.followers import State
from dist_gan.optim.schedules import AnySchedule, Constant
from dist_gan.part import Part
from dist_gan.shapes import ImageShape

At = Literal["real", "fake", "mixed"]
Look = Callable[[Tensor], Tensor]
"""Images [N, C, H, W] -> their logits [N], each with the condition, augmentation and noise that it had before."""


class Sight(NamedTuple):
    """What D saw in a turn."""

    logits: dict[str, Tensor]
    """By kind of image: [N]."""
    images: dict[str, Tensor]
    """By kind, where a gradient penalty differentiates by them: [N, C, H, W] that require gradients."""
    again: dict[str, Look]
    """By kind, as `images`: D once more, with the same condition, augmentation and noise."""
    near: dict[str, Tensor]
    """By the name of a `DifferencePenalty`: the logits of the images near its own."""


class Weighted(Part):
    """A weight in the loss of a player."""

    of: ClassVar[Literal["D", "G"]]
    """The player in whose turn it is minimized."""

    weight: float = Field(1.0, gt=0)
    """Factor of the penalty in the player's loss."""
    schedule: AnySchedule = Constant()
    """Factor of the weight, by images seen."""
    every: int = Field(0, ge=0)
    """How often, in images: 0 is every update; otherwise once in this many images, and as many times stronger, so that
    its mean strength stays the same (lazy regularization, Karras et al. 2020)."""
    alone: bool = False
    """It is minimized in a turn of its own after the player's, with a move of its own, as in StyleGAN2. Otherwise it is
    added to the player's loss."""

    @property
    def used_share(self) -> int:
        """Only each sample whose ordinal is a multiple of this is used, and counts as many times."""
        return 1

    def strength(self, images_seen: int, images_per_turn: int) -> float:
        """Its factor in the turn that begins at `images_seen`: 0 where it is not due."""
        weight = self.weight * self.schedule.factor(images_seen)
        if self.every <= images_per_turn:
            return weight
        return weight * self.every / images_per_turn if images_seen % self.every < images_per_turn else 0.0

    def bits(self, shape: ImageShape) -> int:
        """How many 16-bit random numbers it needs for one image of `shape` (C, H, W)."""
        return 0


class DiscriminatorPenalty(Weighted):
    """A penalty of D's turn."""

    of: ClassVar[Literal["D", "G"]] = "D"

    @abstractmethod
    def measure(self, sight: Sight, name: str) -> Tensor:
        """What each sample of its share costs, weight not included. name: its own in this turn."""


class LogitPenalty(DiscriminatorPenalty):
    """A penalty of logits. It costs no further look of D."""

    alone: Literal[False] = False
    """Always false: it is added to D's loss."""

    def measure(self, sight: Sight, name: str) -> Tensor:
        return self.penalty(sight.logits["real"], sight.logits["fake"])

    @abstractmethod
    def penalty(self, real: Tensor, fake: Tensor) -> Tensor:
        """Logits [N] of real images, and of the fake one beside each -> [N], weight not included."""


class ImagePenalty(DiscriminatorPenalty):
    """A penalty of how D's logit changes with the image: at which images, and how exactly D sees them."""

    at: ClassVar[At]
    """Which images it uses; `mixed` are random interpolates of a real and a fake one."""

    precision: Literal["full", "mixed"] = "full"
    """full: the images that it uses pass through D without bf16 or fp16 (precision=tf32 stays); mixed: in the precision
    of the run, which is faster where that is bf16."""


class Penalty(ImagePenalty):
    """A penalty of D's gradient with respect to images."""

    def measure(self, sight: Sight, name: str) -> Tensor:
        return self.penalty(sight.images[self.at], sight.logits[self.at])

    @abstractmethod
    def penalty(self, images: Tensor, logits: Tensor) -> Tensor:
        """images [N, C, H, W] that require gradients, their logits [N] -> [N], weight not included."""


class Shared(Weighted):
    """A penalty that may use a part of the batch."""

    share: int = Field(1, ge=1)
    """Only each sample whose ordinal is a multiple of this is used, and counts as many times: 4 is a quarter."""

    @property
    def used_share(self) -> int:
        return self.share


class DifferencePenalty(ImagePenalty, Shared):
    """A penalty of the difference that D makes between an image and one near it. It needs no second derivative."""

    def measure(self, sight: Sight, name: str) -> Tensor:
        return self.penalty(sight.logits[self.at][:: self.share], sight.near[name])

    @abstractmethod
    def near(self, images: Tensor, bits: Tensor) -> Tensor:
        """Augmented images [N, C, H, W], bits int16 [N, self.bits((C, H, W))] -> [N, C, H, W]: one near each."""

    @abstractmethod
    def penalty(self, logits: Tensor, near: Tensor) -> Tensor:
        """Logits [N] of the images and of those near them -> [N], weight not included."""


class GeneratorPenalty(Weighted):
    """A penalty of G's turn (path length, for example)."""

    of: ClassVar[Literal["D", "G"]] = "G"

    def initial_state(self) -> dict[str, Tensor]:
        """The state before the first update; empty for most."""
        return {}

    def follow(self, state: State, mean: Tensor, samples: Tensor) -> dict[str, Tensor]:
        """The state after a turn in which the observations of this many samples ([]) had this mean."""
        return dict(state)

    @abstractmethod
    def penalty(self, images: Tensor, latents: Tensor, bits: Tensor, state: State) -> tuple[Tensor, Tensor | None]:
        """What each fake image costs.

        Args:
            images: [N, C, H, W], made by G.
            latents: [N, Z] that they were made from and that require gradients; the styles [N, L, W] of a generator
                that is `styled`.
            bits: int16 [N, self.bits((C, H, W))].
            state: as `initial_state` and `follow` return it.

        Returns:
            [N], weight not included; and [N] observations whose mean over all samples `follow` is given, or None.
        """
