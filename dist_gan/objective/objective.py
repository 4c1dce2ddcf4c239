"""What each player minimizes: its loss and its penalties, as pure functions of networks and tensors."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from dist_gan.errors import ConfigError
from dist_gan.networks.base import Discriminator, Generator
from dist_gan.objective.augment import NOTHING, Augment
from dist_gan.objective.followers import State
from dist_gan.objective.losses import AnyLoss, NonSaturating
from dist_gan.objective.penalties import AnyPenalty
from dist_gan.part import Part
from dist_gan.randomness import Purpose, normal, uniform

Bits = Mapping[Purpose, Tensor]
"""For each purpose int16 [N, count]: the random bits of these samples."""


class Sees(Protocol):
    """A discriminator, wrapped or bare."""

    def __call__(
        self, images: Tensor, condition: Tensor | None, noise: Tensor | None, full_precision: bool = False
    ) -> Tensor:
        """The logits of `images`."""


class Makes(Protocol):
    """A generator, wrapped or bare."""

    def __call__(self, latents: Tensor, condition: Tensor | None, noise: Tensor | None) -> Tensor:
        """The images of `latents`."""


class Microbatch(NamedTuple):
    """N samples of one forward and backward."""

    real: Tensor
    """[N, C, H, W] in [-1, 1]."""
    condition: Tensor | None
    """int64 [N] labels of the real images, which the fake ones are made for too; None without labels."""
    bits: Bits


class Due(NamedTuple):
    """A penalty that belongs to this turn."""

    name: str
    penalty: Any
    factor: Tensor
    """[]: its weight in this turn."""
    state: State
    bits: slice
    """Its own random bits among those of the turn."""


class Terms(NamedTuple):
    """What one player minimizes over N samples, as *sums*, which can be added over microbatches and processes."""

    loss: Tensor
    """[]: sum of the losses."""
    penalty: Tensor | None
    """[]: sum of the weighted penalties; None where none was due."""
    real: Tensor | None
    """[N]: logits of real images, detached; None where they were not needed."""
    fake: Tensor
    """[N]: logits of fake images, detached."""
    images: Tensor
    """[N, C, H, W]: the fake images, detached."""
    observed: Mapping[str, Tensor]
    """Name -> [N]: what penalties with a state observed."""

    @property
    def total(self) -> Tensor:
        """[]: what the player's gradient is taken of."""
        return self.loss if self.penalty is None else self.loss + self.penalty


class Objective(Part):
    """The rules of the game."""

    loss: AnyLoss = NonSaturating()
    """What each player minimizes."""
    penalties: tuple[AnyPenalty, ...] = ()
    """What a player minimizes in addition, each with its weight and how often, in images."""

    def discriminator(
        self,
        D: Sees,
        fake: Tensor,
        given: Microbatch,
        augment: Augment,
        due: Sequence[Due] = (),
        state: State = NOTHING,
    ) -> Terms:
        """D's turn. fake [N, C, H, W] in [-1, 1], without gradients; `state` is the augmentation's.

        Images that no penalty needs go through D together, in one call. Batch statistics keep them apart, because a
        group never holds two kinds. Each kind with a penalty goes through D in a call of its own, in full precision.
        Its logits are used by the loss too, so that one backward is enough.
        """
        real, condition, bits = given
        kinds = {"real": (real, bits[Purpose.D_TURN_REAL]), "fake": (fake, bits[Purpose.D_TURN_FAKE])}
        if any(each.penalty.at == "mixed" for each in due):
            mixed = bits[Purpose.D_TURN_MIXED]
            mix = uniform(mixed[:, :1], real.dtype)[:, :, None, None]
            kinds["mixed"] = (real + mix * (fake - real), mixed[:, 1:])

        penalized = [
            kind for kind in kinds if kind in {each.penalty.at for each in due}
        ]  # their order is the order of the sums
        plain = [kind for kind in kinds if kind not in penalized]
        logits: dict[str, Tensor] = {}
        if plain:
            images, noise = (torch.cat(parts) for parts in zip(*(kinds[kind] for kind in plain), strict=True))
            classes = None if condition is None else torch.cat([condition] * len(plain))
            seen = _look(D, images, classes, noise, augment, state)
            logits |= zip(plain, seen.split(len(real)), strict=True)
        watched: dict[str, Tensor] = {}
        for kind in penalized:
            images, noise = kinds[kind]
            watched[kind] = images.detach().requires_grad_()
            logits[kind] = _look(D, watched[kind], condition, noise, augment, state, full_precision=True)

        penalty = None
        for each in due:
            at = each.penalty.at
            term = each.factor * _sum(each.penalty.penalty(watched[at], logits[at]), len(real), each.penalty, "penalty")
            penalty = term if penalty is None else penalty + term
        values = self.loss.discriminator(logits["real"], logits["fake"])
        loss = _sum(values, len(real), self.loss, "discriminator")
        return Terms(loss, penalty, logits["real"].detach(), logits["fake"].detach(), fake, {})

    def generator(
        self,
        G: Makes,
        D: Sees,
        latents: Tensor,
        noise: Tensor,
        given: Microbatch,
        augment: Augment,
        due: Sequence[Due] = (),
        state: State = NOTHING,
    ) -> Terms:
        """G's turn. latents [N, Z], noise int16 [N, G.noise_bits]; gradients flow through G's images only."""
        real, condition, bits = given
        if due:
            latents = latents.requires_grad_()
        fake = G(latents, condition, noise)
        seen = None
        if self.loss.pairs:
            with torch.no_grad():
                seen = _look(D, real, condition, bits[Purpose.G_TURN_REAL], augment, state)
        logits = _look(D, fake, condition, bits[Purpose.G_TURN_FAKE], augment, state)
        penalty, observed = None, {}
        for each in due:
            own = bits.get(Purpose.G_TURN_PENALTY, noise[:, :0])[:, each.bits]
            values, seen_by_it = each.penalty.penalty(fake, latents, own, each.state)
            term = each.factor * _sum(values, len(fake), each.penalty, "penalty")
            penalty = term if penalty is None else penalty + term
            if seen_by_it is not None:
                observed[each.name] = seen_by_it.detach()
        loss = _sum(self.loss.generator(seen, logits), len(fake), self.loss, "generator")
        return Terms(loss, penalty, seen, logits.detach(), fake.detach(), observed)

    def needs(self, G: Generator, D: Discriminator, augment: Augment, player: str) -> dict[Purpose, int]:
        """How many 16-bit random numbers a sample needs in a turn of `player`, "D" or "G"."""
        make, look = G.latent + G.noise_bits, augment.bits(G.shape) + D.noise_bits
        if player == "D":
            needs = {Purpose.D_TURN_GENERATE: make, Purpose.D_TURN_REAL: look, Purpose.D_TURN_FAKE: look}
            if any(penalty.of == "D" and penalty.at == "mixed" for penalty in self.penalties):
                needs[Purpose.D_TURN_MIXED] = 1 + look
            return needs
        needs = {Purpose.G_TURN_GENERATE: make, Purpose.G_TURN_FAKE: look}
        if self.loss.pairs:
            needs[Purpose.G_TURN_REAL] = look
        if more := sum(penalty.bits(G.shape) for penalty in self.penalties if penalty.of == "G"):
            needs[Purpose.G_TURN_PENALTY] = more
        return needs


def latents_and_noise(bits: Tensor, latent: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The bits for making images -> latents [N, Z], and the generator's own noise."""
    return normal(bits[:, :latent], dtype), bits[:, latent:]


def _sum(values: Tensor, count: int, part: Part, method: str) -> Tensor:
    """The sum of one number for each sample. A mean instead would depend on how a batch is cut."""
    if values.shape != (count,):
        raise ConfigError(
            f"objective: {type(part).__name__}.{method} returned values of the shape {list(values.shape)} for {count} "
            f"samples. Return one for each, [{count}], without a mean: the mean of the whole batch is taken later"
        )
    return values.sum()


def _look(
    D: Sees,
    images: Tensor,
    condition: Tensor | None,
    bits: Tensor,
    augment: Augment,
    state: State,
    *,
    full_precision: bool = False,
) -> Tensor:
    split = augment.bits(images.shape[1:])
    return D(augment(images, bits[:, :split], state), condition, bits[:, split:], full_precision=full_precision)
