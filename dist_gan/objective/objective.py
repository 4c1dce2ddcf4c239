"""What each player minimizes: its loss and its penalties, as pure functions of networks and tensors."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from dist_gan.networks.base import Discriminator, Generator, uncompiled
from dist_gan.objective.augment import NOTHING, Augment
from dist_gan.objective.followers import State
from dist_gan.objective.looking import Bits, Due, Kinds, Microbatch, Sees, look, see, sum_of
from dist_gan.objective.losses import AnyLoss, NonSaturating
from dist_gan.objective.penalties import AnyPenalty
from dist_gan.objective.penalty import ImagePenalty
from dist_gan.part import Part
from dist_gan.randomness import Purpose, normal, uniform

__all__ = ["Bits", "Due", "Makes", "Microbatch", "Objective", "Sees", "Terms", "latents_and_noise"]


class Makes(Protocol):
    """A generator, wrapped or bare."""

    def __call__(self, latents: Tensor, condition: Tensor | None, noise: Tensor | None, **styled: bool) -> Any:
        """The images of `latents`; with `with_styles=True` (a styled one) the images and the styles [N, L, W]."""


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

    fresh_reals: bool = False
    """G's turn has real images of its own (and their classes), from 2^39 samples later in the same endless stream.
    Otherwise it has those of D's last turn. For losses that compare pairs; more images are read."""

    def discriminator(
        self,
        D: Sees,
        fake: Tensor,
        given: Microbatch,
        augment: Augment,
        due: Sequence[Due] = (),
        state: State = NOTHING,
    ) -> Terms:
        """D's turn. fake [N, C, H, W] in [-1, 1], without gradients; `state` is the augmentation's."""
        logits, penalty = look(D, _kinds(fake, given, due), given, augment, due, state)
        real, other = logits["real"], logits["fake"]
        loss = sum_of(self.loss.discriminator(real, other), len(real), self.loss, "discriminator")
        return Terms(loss, penalty, real.detach(), other.detach(), fake, {})

    def discriminator_alone(
        self, D: Sees, fake: Tensor | None, given: Microbatch, augment: Augment, due: Sequence[Due], state: State
    ) -> Terms:
        """A turn of D in which penalties alone are minimized. `fake` only where one uses fake images."""
        used = {each.penalty.at for each in due}
        kinds = {kind: each for kind, each in _kinds(fake, given, due).items() if kind in used}
        logits, penalty = look(D, kinds, given, augment, due, state)
        # Every parameter takes part, though a penalty may not depend on it (the last bias).
        loss = torch.cat(list(logits.values())).sum() * 0
        nothing = given.real.new_empty(0)
        return Terms(loss, penalty, None, nothing, nothing, {})

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
        *,
        styled: bool = False,
    ) -> Terms:
        """G's turn. latents [N, Z], noise int16 [N, G.noise_bits]; gradients flow through G's images only. `styled`:
        G returns its styles too."""
        real, condition, bits = given
        fake, made_from = _made(G, latents, condition, noise, penalized=bool(due), styled=styled)
        seen = None
        if self.loss.pairs:
            with torch.no_grad():
                seen = see(D, real, condition, bits[Purpose.G_TURN_REAL], augment, state)
        logits = see(D, fake, condition, bits[Purpose.G_TURN_FAKE], augment, state)
        penalty, observed = None, {}
        for each in due:
            own = bits[Purpose.G_TURN_PENALTY][:, each.bits]
            term, observed[each.name] = _generator_penalty(each, fake, made_from, own)
            penalty = term if penalty is None else penalty + term
        loss = sum_of(self.loss.generator(seen, logits), len(fake), self.loss, "generator")
        return Terms(loss, penalty, seen, logits.detach(), fake.detach(), _without_none(observed))

    def generator_alone(
        self, G: Makes, latents: Tensor, noise: Tensor, given: Microbatch, due: Sequence[Due], *, styled: bool = False
    ) -> Terms:
        """A turn of G in which penalties alone are minimized; each makes images of its own share of the batch."""
        penalty, observed, loss = None, {}, latents.new_zeros(())
        for each in due:
            share = each.penalty.used_share
            condition = None if given.condition is None else given.condition[::share]
            own = given.bits[Purpose.G_TURN_PENALTY][::share, each.bits]
            fake, made_from = _made(G, latents[::share], condition, noise[::share], penalized=True, styled=styled)
            term, observed[each.name] = _generator_penalty(each, fake, made_from, own, whole=False)
            penalty = term if penalty is None else penalty + term
            loss = loss + fake.sum() * 0  # every parameter takes part, though a penalty may not depend on it
        nothing = given.real.new_empty(0)
        return Terms(loss, penalty, None, nothing, nothing, _without_none(observed))

    def needs(
        self, G: Generator, D: Discriminator, augment: Augment, player: str, *, alone: bool = False
    ) -> dict[Purpose, int]:
        """How many 16-bit random numbers a sample needs in a turn of `player`, "D" or "G", or in that of its penalties
        that are minimized alone."""
        make, look = G.latent + G.noise_bits, augment.bits(G.shape) + D.noise_bits
        own = [penalty for penalty in self.penalties if penalty.of == player and penalty.alone == alone]
        penalties = sum(penalty.bits(G.shape) for penalty in own)
        used = {penalty.at for penalty in own if isinstance(penalty, ImagePenalty)}
        if player == "G":
            needs = {Purpose.G_TURN_GENERATE: make, Purpose.G_TURN_PENALTY: penalties}
            if not alone:
                needs |= {Purpose.G_TURN_FAKE: look, Purpose.G_TURN_REAL: look if self.loss.pairs else 0}
            return needs
        needs = {Purpose.D_TURN_REAL: look, Purpose.D_TURN_PENALTY: penalties}
        if not alone or used & {"fake", "mixed"}:
            needs |= {Purpose.D_TURN_GENERATE: make, Purpose.D_TURN_FAKE: look}
        if "mixed" in used:
            needs[Purpose.D_TURN_MIXED] = 1 + look
        return needs


def latents_and_noise(bits: Tensor, latent: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The bits for making images -> latents [N, Z], and the generator's own noise."""
    return normal(bits[:, :latent], dtype), bits[:, latent:]


def _kinds(fake: Tensor | None, given: Microbatch, due: Sequence[Due]) -> Kinds:
    """The images that D may see, and the random bits of each."""
    real, _, bits = given
    kinds = {"real": (real, bits[Purpose.D_TURN_REAL])}
    if fake is not None:
        kinds["fake"] = (fake, bits[Purpose.D_TURN_FAKE])
        if any(getattr(each.penalty, "at", "") == "mixed" for each in due):
            mixed = bits[Purpose.D_TURN_MIXED]
            mix = uniform(mixed[:, :1], real.dtype)[:, :, None, None]
            kinds["mixed"] = (real + mix * (fake - real), mixed[:, 1:])
    return kinds


def _made(
    G: Makes, latents: Tensor, condition: Tensor | None, noise: Tensor, *, penalized: bool, styled: bool
) -> tuple[Tensor, Tensor]:
    """The images of `latents`, and what penalties differentiate by: the latents, or a styled generator's styles."""
    if not penalized:
        return G(latents, condition, noise), latents
    G = uncompiled(G)
    if styled:
        images, styles = G(latents, condition, noise, with_styles=True)
        return images, styles
    latents = latents.requires_grad_()
    return G(latents, condition, noise), latents


def _generator_penalty(
    each: Due, fake: Tensor, made_from: Tensor, bits: Tensor, *, whole: bool = True
) -> tuple[Tensor, Tensor | None]:
    """The weighted sum over its share of the samples, and what it observed. `whole`: all samples were made."""
    values, observed = each.penalty.penalty(fake, made_from, bits, each.state)
    share = each.penalty.used_share
    total = sum_of(values, len(fake), each.penalty, "penalty")
    if whole and share > 1:
        total, observed = values[::share].sum(), None if observed is None else observed[::share]
    return each.factor * share * total, None if observed is None else observed.detach()


def _without_none(values: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
    return {name: value for name, value in values.items() if value is not None}
