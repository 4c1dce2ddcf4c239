"""What every network is: the signatures that objectives rely on, and the recipe that builds a pair.

The promise depends on one rule: **a forward is a pure function of weights, buffers and its arguments; it draws nothing
and moves nothing.** Random numbers come in as bits (`noise_bits`). A state that follows the weights moves in
`after_move`. The first update of every start checks the rule (`dist_gan.game.purity`).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from dist_gan.errors import ConfigError
from dist_gan.part import Part
from dist_gan.shapes import DataShape, ImageShape

BufferRule = Literal["copy", "average", "measure"]
"""How the average of G gets a layer's buffer: the newest value; a moving average, as for weights; or measured from
samples when it is needed (`Measured`). A layer states it in `buffer_rules`; others are copied."""


@runtime_checkable
class Moves(Protocol):
    """A layer with a state that follows its weights."""

    def after_move(self) -> None:
        """Called once after each move of the player that the layer belongs to, on all ranks alike, and never in a
        rehearsal. It must depend on weights and buffers alone."""


@runtime_checkable
class Measured(Protocol):
    """A layer with buffers that are measured from samples: batch statistics, a mean. Both functions are pure."""

    group: int
    """Each forward has a multiple of this many samples."""

    def gather(self, x: Tensor) -> Tensor:
        """Of the input of a forward in training mode: what adds up over samples, float64."""

    def measured(self, means: Tensor) -> dict[str, Tensor]:
        """The buffers, by name. means: what was gathered from all samples, divided by their number."""


def square_mistakes(name: str, sides: Iterable[int], shape: ImageShape) -> list[str]:
    """Why a recipe that makes square images with one of these sides cannot make `shape`; empty where it can."""
    height, width = shape.height, shape.width
    near = sorted(sides, key=lambda side: abs(side - height) + abs(side - width))[:2]
    if height == width == near[0]:
        return []
    sizes = " or ".join(f"{side}x{side}" for side in near)
    return [
        f"networks: {name} makes square images of {sizes} (the nearest sizes), and the data gives {height}x{width}. "
        "Set data.size to one of these, or networks.name=mlp, which takes any size"
    ]


class Generator(nn.Module, ABC):
    """latents [N, Z], condition, noise int16 [N, noise_bits] or None -> images [N, C, H, W] in [-1, 1]."""

    noise_bits: int = 0
    """How many 16-bit random numbers one sample of a training forward needs."""
    bounded: ClassVar[bool] = True
    """Whether no pixel leaves [-1, 1]. Where one may, it is clamped when an image is shown, judged or written."""
    styled: ClassVar[bool] = False
    """Whether forward takes `with_styles=True`, and then returns the images and the styles [N, L, W] that they were
    made from, which penalties of G differentiate by in place of the latents."""

    def __init__(self, latent: int, shape: ImageShape) -> None:
        super().__init__()
        self.latent = latent
        self.shape = shape

    classes: int = 0
    """How many classes it was built for; 0: it ignores conditions."""

    @abstractmethod
    def forward(self, latents: Tensor, condition: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        """The images of `latents`.

        Args:
            latents: [N, Z].
            condition: int64 [N] class labels, or None where the data has none.
            noise: int16 [N, noise_bits] raw bits; without them nothing is random.
        """

    def measure(self, latents: Tensor, condition: Tensor | None) -> None:
        """As much of a forward as reaches all layers that are `Measured`. It may be ended by an error once they are."""
        self(latents, condition)

    def truncated(self, psi: float) -> "Generator":
        """A copy that makes more typical and less varied images (the truncation trick: Karras et al. 2019): 1 is as
        trained, 0 one image for all latents.

        Raises:
            ConfigError: it has no truncation.
        """
        raise ConfigError(f"truncation: {type(self).__name__} has none; only networks with styles have it")


class Discriminator(nn.Module, ABC):
    """images [N, C, H, W], condition, noise int16 [N, noise_bits] or None -> logits [N], any real number."""

    noise_bits: int = 0
    """How many 16-bit random numbers one sample of a training forward needs."""

    def forward(
        self,
        images: Tensor,
        condition: Tensor | None = None,
        noise: Tensor | None = None,
        full_precision: bool = False,
    ) -> Tensor:
        """The logits of `images`. `full_precision` leaves autocast, for penalties; only inside forward does that have
        an effect, because Accelerate's own autocast wraps forward."""
        if full_precision:
            with torch.autocast(images.device.type, enabled=False):
                return self.logits(images, condition, noise)
        return self.logits(images, condition, noise)

    @abstractmethod
    def logits(self, images: Tensor, condition: Tensor | None, noise: Tensor | None) -> Tensor:
        """What `forward` returns."""


def uncompiled(network: Any) -> Any:
    """A network (or what else makes images or logits) as it is written, for what is differentiated twice."""
    return network if getattr(network, "_compiled_call_impl", None) is None else network._call_impl


class Networks(NamedTuple):
    """The two players' networks."""

    generator: Generator
    discriminator: Discriminator


class Recipe(Part):
    """A pair of networks as configuration."""

    can_be_conditional: ClassVar[bool] = False
    """Whether the recipe has a `conditional` field, for networks that are given the class of each sample."""

    @property
    def is_conditional(self) -> bool:
        """Whether its networks use the labels."""
        return bool(getattr(self, "conditional", False))

    @property
    def batch_multiple(self) -> int:
        """Every microbatch must be a multiple of this many samples."""
        return 1

    @property
    def mixes_samples(self) -> bool:
        """Whether D's logit of one image depends on the other images of its microbatch."""
        return False

    @property
    def normalizes_batches(self) -> bool:
        """Whether D mixes them by batch normalization: gradient penalties, which are per sample, are unwise then."""
        return self.mixes_samples

    def mistakes(self, shape: ImageShape) -> list[str]:
        """Why it cannot make images of `shape`; empty where it can."""
        return []

    @abstractmethod
    def build(self, shape: DataShape, seed: int) -> Networks:
        """Both networks, in float32 on the CPU, their weights a function of `seed`."""
