"""The first part of a turn: the gradients of all microbatches of this process."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dist_gan.data.source import Batch
from dist_gan.distributed.processes import Processes
from dist_gan.game.dials import AUGMENT
from dist_gan.game.meter import Meter
from dist_gan.game.player import Player
from dist_gan.game.turn import Mover, Turn
from dist_gan.objective.augment import Augment
from dist_gan.objective.followers import Followers, State
from dist_gan.objective.objective import Bits, Due, Microbatch, Objective, Terms, latents_and_noise
from dist_gan.randomness import Purpose, draw


class Gradients:
    """Forward and backward of the player whose turn it is: a function of tensors."""

    def __init__(
        self,
        processes: Processes,
        objective: Objective,
        players: Mapping[Mover, Player[Any]],
        augment: Augment,
        followers: Followers,
        meter: Meter,
        *,
        seed: int,
        microbatch: int,
    ) -> None:
        """All parts come as objects, as in `Game`."""
        self.processes = processes
        self.objective = objective
        self.players = players
        self.augment = augment
        self.followers = followers
        self.meter = meter
        self.seed = seed
        self.microbatch = microbatch

    def compute(self, turn: Turn, batch: Batch, due: Sequence[Due], state: State) -> Terms:
        """Every parameter of the player has its gradient over `batch`; returns the last microbatch's terms. state: the
        augmentation's."""
        pulse = self.processes.pulse
        mover = self.players[turn.player]
        mover.begin()
        for microbatch, last in self._microbatches(batch, self.draw(turn, batch)):
            pulse.enter(turn.title)
            with mover.reduction.around(last=last):
                terms = self._terms(turn, microbatch, due, state)
                self.processes.backward(terms.total * mover.reduction.scale)
            (self.meter.add_penalty if turn.alone else self.meter.add)(turn.player, terms)
            for name, values in self._observed(turn, terms).items():
                self.followers.observe(name, values)
        return terms

    def observers(self, turn: Turn, due: Sequence[Due]) -> list[str]:
        """The parts with a state that observe something in this turn."""
        names = [AUGMENT] if turn.player == "D" and not turn.alone else [each.name for each in due]
        return [name for name in names if name in self.followers.members]

    def draw(self, turn: Turn, batch: Batch) -> Bits:
        """All random bits of a turn on `batch`, in one evaluation of Philox."""
        needs = {use: turn.after.get(use, 0) + count for use, count in turn.purposes.items()}
        return turn.bits(draw(self.seed, needs, batch.ordinals, self.processes.device))

    def _terms(self, turn: Turn, given: Microbatch, due: Sequence[Due], state: State) -> Terms:
        G, D, rules = self.players["G"], self.players["D"], self.objective
        own = given.bits.get(Purpose.D_TURN_GENERATE if turn.player == "D" else Purpose.G_TURN_GENERATE)
        made = None if own is None else latents_and_noise(own, G.network.latent, self.processes.dtype)
        looking = (given, self.augment, due, state)
        if turn.player == "G":
            assert made is not None
            styled = G.network.styled
            if turn.alone:
                return rules.generator_alone(G.reduction.wrapped, *made, given, due, styled=styled)
            latents, noise = made
            return rules.generator(G.reduction.wrapped, D.network, latents, noise, *looking, styled=styled)
        fake = None
        if made is not None:
            with torch.no_grad():
                fake = G.network(made[0], given.condition, made[1])
        if turn.alone:
            return rules.discriminator_alone(D.reduction.wrapped, fake, *looking)
        assert fake is not None
        return rules.discriminator(D.reduction.wrapped, fake, *looking)

    def _observed(self, turn: Turn, terms: Terms) -> Mapping[str, Tensor]:
        """What a microbatch showed to parts with a state, by name."""
        if turn.player == "D" and not turn.alone and AUGMENT in self.followers.members:
            assert terms.real is not None
            return {AUGMENT: self.augment.observe(terms.real, terms.fake)}
        return terms.observed

    def _microbatches(self, batch: Batch, bits: Bits) -> Iterator[tuple[Microbatch, bool]]:
        """(samples, whether they are the last) for each microbatch of this process's part of the batch."""
        count = len(batch.ordinals)
        for start in range(0, count, self.microbatch):
            part = slice(start, start + self.microbatch)
            images, labels = batch.images[part], batch.labels[part] if len(batch.labels) else None
            if self.processes.exact:
                images = images.clone()  # a kernel may be chosen by the address in memory
            yield Microbatch(images, labels, {p: b[part] for p, b in bits.items()}), start + self.microbatch >= count
