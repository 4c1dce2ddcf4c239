"""The game: two players and the alternating update, as a function of what it has seen."""

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dist_gan.objective.augment import Augment, NoAugment
from dist_gan.data.source import Batch
from dist_gan.optim.ema import EMA, Average
from dist_gan.distributed.exact_sum import FixedPointSum
from dist_gan.game.meter import Meter
from dist_gan.networks.layers import Networks, measure_statistics
from dist_gan.objective.objective import Bits, Objective, Terms, latents
from dist_gan.optim.optimizers import Adam
from dist_gan.game.player import Player
from dist_gan.distributed.processes import Processes
from dist_gan.randomness import Purpose, draw, normal
from dist_gan.distributed.traffic import claim


class Watch(Protocol):
    """Looks on after every turn (debug mode does)."""

    def __call__(self, turn: str, player: "Player[Any]", images: Tensor, terms: Terms) -> None:
        """After `turn` ("D" or "G") of `player`, with the last piece's fake images and terms."""


class Game:
    """G and D, their average, and how they move. Holds everything that a checkpoint must hold."""

    def __init__(
        self,
        processes: Processes,
        networks: Networks,
        objective: Objective,
        *,
        generator_optimizer: Adam,
        discriminator_optimizer: Adam,
        ema: EMA,
        augment: Augment | None = None,
        seed: int,
        batch_size: int,
        piece: int = 0,
        discriminator_turns: int = 1,
        watch: Watch | None = None,
    ) -> None:
        """`batch_size` is global, `piece` the samples of one forward and backward in a process (0: all of its share),
        `discriminator_turns` the turns of D, each on a batch of its own, for each turn of G."""
        for network in networks:
            network.to(processes.device, processes.dtype).train()
        self.processes = processes
        self.objective = objective
        self.augment: Augment = augment or NoAugment()
        self.average = Average(ema, networks.generator)
        self.piece = piece or batch_size // processes.count
        exact_sum = FixedPointSum(processes, batch_size // self.piece) if processes.exact else None
        self.generator = Player(networks.generator, generator_optimizer, processes, exact_sum)
        self.discriminator = Player(networks.discriminator, discriminator_optimizer, processes, exact_sum)
        self.seed = seed
        self.batch_size = batch_size
        self.turns = discriminator_turns
        self.images_per_update = discriminator_turns * batch_size
        self.images_seen = 0
        self.meter = Meter(processes, batch_size)
        self.watch = watch
        self._needs = [objective.needs(*networks, self.augment, last=last) for last in (False, True)]
        # Sums become the global mean: DDP averages over processes, an exact sum does not.
        self._scale = (1 if processes.exact else processes.count) / batch_size

    def update(self, batches: Iterator[Batch]) -> None:
        """D's turns, each on the next of `batches`, then G's turn on the last of them, then the average."""
        for turn in range(self.turns):
            batch = next(batches)
            last = turn == self.turns - 1
            bits = draw(self.seed, self._needs[last], batch.ordinals, self.processes.device)
            self.discriminator_turn(batch, bits, self.images_seen + turn * self.batch_size)
        self.generator_turn(batch, bits)
        self.images_seen += self.images_per_update
        self.average.follow(
            self.generator.parameters, self.images_seen, self.images_per_update, 1 - self.generator.skipped
        )

    def discriminator_turn(self, batch: Batch, bits: Bits, images_seen: int) -> None:
        """D moves; G is called bare, without gradients."""
        strengths = self.objective.strengths(images_seen, self.batch_size)
        D, G = self.discriminator, self.generator
        with claim("D_gradients"), D.turn(images_seen):
            for real, own, last in self._pieces(batch, bits):
                self.processes.pulse.enter("D's turn", images_seen)
                with D.piece(last=last):
                    with torch.no_grad():
                        fake = self._generate(G.network, own[Purpose.D_TURN_GENERATE])
                    terms = self.objective.discriminator(D.wrapped, real, fake, own, self.augment, strengths)
                    total = terms.loss if terms.penalty is None else terms.loss + terms.penalty
                    self.processes.backward(total * self._scale)
                self.meter.discriminator_piece(terms)
        self.meter.discriminator_moved(D.gradient_norm, D.skipped)
        if self.watch:
            self.watch("D", D, fake, terms)

    def generator_turn(self, batch: Batch, bits: Bits) -> None:
        """G moves; D is called bare and frozen."""
        D, G = self.discriminator, self.generator
        with claim("G_gradients"), G.turn(self.images_seen):
            for real, own, last in self._pieces(batch, bits):
                self.processes.pulse.enter("G's turn")
                with G.piece(last=last):
                    fake = self._generate(G.wrapped, own[Purpose.G_TURN_GENERATE])
                    terms = self.objective.generator(D.network, real, fake, own, self.augment)
                    self.processes.backward(terms.loss * self._scale)
                self.meter.generator_piece(terms)
        self.meter.generator_moved(G.gradient_norm, G.skipped)
        if self.watch:
            self.watch("G", G, fake.detach(), terms)

    def prime(self, batches: Iterator[Batch]) -> None:
        """Several processes only: both turns once, without a move, before the first update of a start.

        DDP cuts its buckets anew after its first backward, and where an all-reduce's chunks lie decides in which order
        three or more ranks are added. After this a run that was resumed reduces exactly as one that never stopped.
        """
        if self.processes.count == 1 or self.processes.exact:
            return
        batch = next(batches)
        bits = draw(self.seed, self._needs[True], batch.ordinals, self.processes.device)
        for player in (self.discriminator, self.generator):
            player.rehearsing = True
        self.discriminator_turn(batch, bits, self.images_seen)
        self.generator_turn(batch, bits)
        self.discriminator_turn(batch, bits, self.images_seen)
        self.generator_turn(batch, bits)
        for player in (self.discriminator, self.generator):
            player.rehearsing = False
        self.meter.reset()

    def measure(self, count: int = 512) -> None:
        """Give the average its batch statistics, from fixed latents; on all ranks alike, nothing is communicated."""
        network = self.average.network
        bits = draw(self.seed, {Purpose.STATISTICS: network.latent}, range(count), self.processes.device)
        measure_statistics(network, normal(bits[Purpose.STATISTICS], self.processes.dtype))

    def state(self) -> dict[str, dict[str, Tensor]]:
        """All tensors that the game needs to go on, by file and name. The average's statistics are measured first."""
        self.measure()
        return {
            "generator": self.generator.network.state_dict(),
            "discriminator": self.discriminator.network.state_dict(),
            "ema": self.average.network.state_dict(),
            "generator_optimizer": self.generator.state(),
            "discriminator_optimizer": self.discriminator.state(),
        }

    def counters(self) -> dict[str, Any]:
        """What is small: plain data for JSON."""
        scaler = self.processes.scaler
        return {"images_seen": self.images_seen, "scaler": scaler.state_dict() if scaler is not None else None}

    def load(self, state: dict[str, dict[str, Tensor]], counters: dict[str, Any]) -> None:
        """The inverse of `state` and `counters`."""
        self.generator.network.load_state_dict(state["generator"])
        self.discriminator.network.load_state_dict(state["discriminator"])
        self.average.network.load_state_dict(state["ema"])
        self.generator.load_state(state["generator_optimizer"])
        self.discriminator.load_state(state["discriminator_optimizer"])
        self.images_seen = counters["images_seen"]
        if self.processes.scaler is not None and counters["scaler"]:
            self.processes.scaler.load_state_dict(counters["scaler"])

    def _generate(self, network: nn.Module, bits: Tensor) -> Tensor:
        return network(*latents(bits, self.generator.network.latent, self.processes.dtype))

    def _pieces(self, batch: Batch, bits: Bits) -> Iterator[tuple[Tensor, Bits, bool]]:
        """(images, their bits, whether it is the last) for each piece of this process's share."""
        share = len(batch.ordinals)
        for start in range(0, share, self.piece):
            part = slice(start, start + self.piece)
            images = batch.images[part]
            if self.processes.exact:
                images = images.clone()  # where it lies in memory may choose a kernel
            yield images, {p: b[part] for p, b in bits.items()}, start + self.piece >= share
