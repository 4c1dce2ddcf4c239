"""What each player minimises: its loss and its penalties, as pure functions of networks and tensors."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from dist_gan.objective.augment import Augment
from dist_gan.objective.losses import AnyLoss, NonSaturating
from dist_gan.networks.layers import Discriminator, Generator
from dist_gan.part import Part
from dist_gan.objective.penalties import AnyPenalty
from dist_gan.randomness import Purpose, normal, uniform

Bits = Mapping[Purpose, Tensor]
"""For each purpose int16 [N, count]: the random bits of the samples at hand."""


class Sees(Protocol):
    """A discriminator, wrapped or bare: images, noise -> logits [N]."""

    def __call__(self, images: Tensor, noise: Tensor | None, full_precision: bool = False) -> Tensor:
        """The logits of `images`."""


class Terms(NamedTuple):
    """What one player minimises over N samples, as *sums*: they can be added over pieces and processes of any size."""

    loss: Tensor
    """[]: sum of the losses."""
    penalty: Tensor | None
    """[]: sum of the weighted penalties; None where none was due."""
    real: Tensor | None
    """[N]: logits of real images, detached; None where they were not needed."""
    fake: Tensor
    """[N]: logits of fake images, detached."""


class Objective(Part):
    """The game's rules."""

    loss: AnyLoss = NonSaturating()
    """What each player minimises."""
    penalties: tuple[AnyPenalty, ...] = ()
    """What D minimises besides, each with its weight and its cadence in images."""

    def strengths(self, images_seen: int, images_per_turn: int) -> tuple[float, ...]:
        """The factor of each penalty in the turn of D that begins at `images_seen`; 0 where it is not due."""
        return tuple(penalty.strength(images_seen, images_per_turn) for penalty in self.penalties)

    def discriminator(
        self, D: Sees, real: Tensor, fake: Tensor, bits: Bits, augment: Augment, strengths: Sequence[float]
    ) -> Terms:
        """D's turn. real, fake [N, C, H, W] in [-1, 1].

        Images that no penalty looks at go through D together, in one call; batch statistics keep them apart, because
        groups never span two kinds. Each kind with a penalty goes in a call of its own, in full precision, and its
        logits serve the loss as well, so that one backward does all.
        """
        due = [(p, strength) for p, strength in zip(self.penalties, strengths, strict=True) if strength]
        kinds = {"real": (real, bits[Purpose.D_TURN_REAL]), "fake": (fake, bits[Purpose.D_TURN_FAKE])}
        if any(penalty.at == "mixed" for penalty, _ in due):
            mixed = bits[Purpose.D_TURN_MIXED]
            share = uniform(mixed[:, :1], real.dtype)[:, :, None, None]
            kinds["mixed"] = (real + share * (fake - real), mixed[:, 1:])

        penalised = [kind for kind in kinds if kind in {penalty.at for penalty, _ in due}]  # the order is that of sums
        plain = [kind for kind in kinds if kind not in penalised]
        logits: dict[str, Tensor] = {}
        if plain:
            images, noise = (torch.cat(parts) for parts in zip(*(kinds[kind] for kind in plain), strict=True))
            logits |= zip(plain, _look(D, images, noise, augment).split(len(real)), strict=True)
        watched: dict[str, Tensor] = {}
        for kind in penalised:
            images, noise = kinds[kind]
            watched[kind] = images.detach().requires_grad_()
            logits[kind] = _look(D, watched[kind], noise, augment, full_precision=True)

        penalty = None
        for part, strength in due:
            term = strength * part.penalty(watched[part.at], logits[part.at]).sum()
            penalty = term if penalty is None else penalty + term
        loss = self.loss.discriminator(logits["real"], logits["fake"]).sum()
        return Terms(loss, penalty, logits["real"].detach(), logits["fake"].detach())

    def generator(self, D: Sees, real: Tensor, fake: Tensor, bits: Bits, augment: Augment) -> Terms:
        """G's turn. real, fake [N, C, H, W] in [-1, 1]; gradients flow through `fake` only."""
        seen = None
        if self.loss.pairs:
            with torch.no_grad():
                seen = _look(D, real, bits[Purpose.G_TURN_REAL], augment)
        logits = _look(D, fake, bits[Purpose.G_TURN_FAKE], augment)
        return Terms(self.loss.generator(seen, logits).sum(), None, seen, logits.detach())

    def needs(self, G: Generator, D: Discriminator, augment: Augment, *, last: bool) -> dict[Purpose, int]:
        """How many 16-bit random numbers a sample needs in a turn of D and, after the `last` one, in G's turn."""
        make, look = G.latent + G.noise_bits, augment.bits(G.shape) + D.noise_bits
        needs = {Purpose.D_TURN_GENERATE: make, Purpose.D_TURN_REAL: look, Purpose.D_TURN_FAKE: look}
        if any(penalty.at == "mixed" for penalty in self.penalties):
            needs[Purpose.D_TURN_MIXED] = 1 + look
        if last:
            needs |= {Purpose.G_TURN_GENERATE: make, Purpose.G_TURN_FAKE: look}
            if self.loss.pairs:
                needs[Purpose.G_TURN_REAL] = look
        return needs


def latents(bits: Tensor, latent: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The bits of a generation -> latents [N, Z] and the generator's own noise."""
    return normal(bits[:, :latent], dtype), bits[:, latent:]


def _look(D: Sees, images: Tensor, bits: Tensor, augment: Augment, *, full_precision: bool = False) -> Tensor:
    split = augment.bits(images.shape[1:])
    return D(augment(images, bits[:, :split]), bits[:, split:], full_precision=full_precision)
