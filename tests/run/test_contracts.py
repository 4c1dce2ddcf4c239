"""The contracts hold for every built-in part, and each statement of one is missed by some part that breaks it."""

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from dist_gan.data import AnySource, Dataset, Generated, Given, given
from dist_gan.data.source import READING, Reading, Resident
from dist_gan.errors import CheckFailed
from dist_gan.networks import MLP, SNGAN, AnyRecipe, Networks
from dist_gan.objective.ada import ADA
from dist_gan.objective.any_augment import AnyAugment
from dist_gan.objective.augment import NOTHING, Augment
from dist_gan.objective.followers import State
from dist_gan.objective.losses import AnyLoss, Hinge
from dist_gan.objective.penalties import R1, AnyPenalty
from dist_gan.optim.optimizers import SGD, AnyOptimizer
from dist_gan.optim.schedules import AnySchedule, Constant, Cosine
from dist_gan.part import Part
from dist_gan.run.contracts import check
from dist_gan.shapes import DataShape, ImageShape
from tests.support import own_parts
from tests.support.unions import example, members

SHAPE = DataShape(ImageShape(3, 16, 16))
KINDS = [k for union in (AnyLoss, AnyPenalty, AnyAugment, AnyOptimizer, AnyRecipe) for k in members(union)]
SCHEDULES = [kind(**({} if kind is Constant else {"end": 1000})) for kind in members(AnySchedule)]
MORE = [
    *SCHEDULES,
    MLP(conditional=True, width=4),
    SNGAN(conditional=True, width=2),
    Generated(size=8),
    given(torch.arange(4 * 36, dtype=torch.uint8).view(4, 6, 6), [0, 1, 1, 0]),
    ADA(pipe="bgcfnc", strength=1),
    ADA(pipe="bgc", target=None, strength=0.7, schedule=Cosine(start=0, end=2_000_000, final=1)),
    own_parts.Controlled(),
    own_parts.PathLength(),
    own_parts.RMSProp(),
    own_parts.Spectral(),
]


@pytest.mark.parametrize("part", [*(example(kind) for kind in KINDS), *MORE], ids=lambda part: type(part).__name__)
def test_what_is_shipped_and_what_a_user_may_write_holds(part: Part) -> None:
    shape = DataShape(SHAPE.image, 4) if isinstance(part, MLP | SNGAN) else SHAPE
    assert check(part, shape) > 1


def test_every_source_is_asked_somewhere() -> None:
    """The others read files; their tests open them."""
    assert {Generated, Given} <= set(members(AnySource))


class Mixing(Hinge):
    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return super().discriminator(real, fake) - real.mean()


class Summed(Hinge):
    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        return super().generator(real, fake).sum()


class Exploding(Hinge):
    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        return (-2 * fake).exp()


class Cut(Hinge):
    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        return -fake.detach()


class Detached(R1):
    def penalty(self, images: Tensor, logits: Tensor) -> Tensor:
        return super().penalty(images, logits).detach()


class Batched(R1):
    def penalty(self, images: Tensor, logits: Tensor) -> Tensor:
        return super().penalty(images, logits).mean().expand(len(images))


class _Own(Augment):
    def __call__(self, images: Tensor, bits: Tensor, state: State = NOTHING) -> Tensor:
        return images


class Drawing(_Own):
    def __call__(self, images: Tensor, bits: Tensor, state: State = NOTHING) -> Tensor:
        return images + torch.randn_like(images)


class Secret(_Own):
    def __call__(self, images: Tensor, bits: Tensor, state: State = NOTHING) -> Tensor:
        torch.rand(1)
        return images


class InPlace(_Own):
    def __call__(self, images: Tensor, bits: Tensor, state: State = NOTHING) -> Tensor:
        images.data.mul_(0.5)
        return images * 1


class Blind(_Own):
    def __call__(self, images: Tensor, bits: Tensor, state: State = NOTHING) -> Tensor:
        return images * 0


class Shared(_Own):
    def bits(self, shape: Any) -> int:
        return 1

    def __call__(self, images: Tensor, bits: Tensor, state: State = NOTHING) -> Tensor:
        return images + bits[0] / 1e5 + 0 * bits[:, :, None, None]


class Numbered(SGD):
    """Reads the learning rate once."""

    skips: ClassVar[bool] = False

    def build(self, parameters: list[Tensor], learning_rate: Tensor) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=learning_rate.item())


class Careless(SGD):
    def step(self, optimizer: torch.optim.Optimizer, skipped: Tensor) -> None:
        optimizer.step()


class Counting(Constant):
    """Not a function of images alone."""

    def factor(self, images_seen: int) -> float:
        seen.append(images_seen)
        return float(len(seen))


seen: list[int] = []


class Dropping(MLP):
    def build(self, shape: DataShape, seed: int) -> Networks:
        networks = super().build(shape, seed)
        networks.generator.register_module("drop", nn.Dropout(0.5))
        forward = networks.generator.forward
        networks.generator.forward = lambda *a: networks.generator.drop(forward(*a))  # type: ignore[assignment,operator]
        return networks


class Unseeded(MLP):
    def build(self, shape: DataShape, seed: int) -> Networks:
        networks = super().build(shape, seed)
        nn.init.normal_(next(networks.discriminator.parameters()))
        return networks


class Idle(MLP):
    def build(self, shape: DataShape, seed: int) -> Networks:
        networks = super().build(shape, seed)
        networks.discriminator.register_parameter("idle", nn.Parameter(torch.ones(1)))
        return networks


class Unstable(Generated):
    def open(self, device: torch.device, reading: Reading = READING) -> Dataset:
        data = super().open(device, reading)
        seen.append(0)
        data.fingerprint = str(len(seen))
        return data


class Floating(Generated):
    def open(self, device: torch.device, reading: Reading = READING) -> Dataset:
        data = super().open(device, reading)
        assert isinstance(data, Resident)
        data.images = data.images.float()
        return data


BROKEN = [
    (Mixing(), "D's loss of a sample does not depend on the other samples"),
    (Summed(), r"G's loss has one number a sample, \[N\]; it has \[\]"),
    (Exploding(), "G's loss is finite for logits up to 60"),
    (Cut(), "fails: RuntimeError: element 0 of tensors does not require grad"),
    (Detached(), "D's weights get a gradient from the penalty"),
    (Batched(), "the penalty of a sample does not depend on the other samples"),
    (Drawing(), "the same images and bits give the same twice"),
    (Secret(), "it draws no random numbers but its bits"),
    (InPlace(), "what came in stays as it was"),
    (Blind(), "a gradient flows through every image"),
    (Shared(), "a sample does not depend on the other samples"),
    (Numbered(), "it reads the learning rate from its tensor at each step"),
    (Careless(), "a gradient that is not finite leaves the weights as they were"),
    (Counting(), "a factor follows from the images seen alone"),
    (Dropping(), r"G.drop \(Dropout\) draws random numbers"),
    (Unseeded(), "weights follow from the seed alone"),
    (Idle(), "D.idle takes part in every forward"),
    (Unstable(size=8), "its fingerprint is the same each time it is opened"),
    (Floating(size=8), "images are uint8; they are torch.float32"),
]


@pytest.mark.parametrize(("part", "expected"), BROKEN, ids=lambda x: type(x).__name__)
def test_what_breaks_a_contract_is_named(part: Part, expected: str) -> None:
    with pytest.raises(CheckFailed, match=expected):
        check(part, SHAPE, "here")
