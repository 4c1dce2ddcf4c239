"""The updates of the later recipes as a person would write them: the same networks, called without any of dist_gan's
game, objective or optimizers. For the parity gate, and to see what dist_gan adds to an update."""

import copy
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import measure
import torch
from loops import Candidate, average_weight, shuffled
from plain import Pair
from subjects import BEST, OURS, Ours
from torch import Tensor, nn
from torch.nn.functional import relu, softplus

from dist_gan.config.schema import Config
from dist_gan.data import Generated
from dist_gan.data.source import Resident
from dist_gan.distributed.processes import Processes
from dist_gan.networks import R3GAN, SNGAN, BigGAN, StyleGAN2
from dist_gan.networks.base import Moves
from dist_gan.objective.losses import Hinge, NonSaturating, Relativistic
from dist_gan.objective.objective import Objective, latents_and_noise
from dist_gan.objective.penalties import R1, R2
from dist_gan.optim.optimizers import Adam
from dist_gan.randomness import Purpose
from dist_gan.run.build import shape_of

BATCH, UPDATES = 16, 4
EVERY = 2
"""In each second update, R1 has a turn of its own (StyleGAN2)."""
DATA = Generated(size=32, channels=3, count=256)
ADAM = Adam(learning_rate=2e-4, beta1=0, beta2=0.9)
MAKES = {"D": Purpose.D_TURN_GENERATE, "G": Purpose.G_TURN_GENERATE}


class Drawn(NamedTuple):
    """What one turn is given."""

    real: Tensor
    labels: Tensor | None
    latents: Tensor
    noise: Tensor


def config_of(recipe: str) -> Config:
    """A recipe with a few channels."""
    weight = R1(weight=0.1)
    base = Config(data=DATA, batch_size=BATCH, generator_optimizer=ADAM, discriminator_optimizer=ADAM)
    changes: dict[str, dict[str, Any]] = {
        "r3gan": {
            "networks": R3GAN(width=16, blocks=1, group=4, latent=32),
            "objective": Objective(loss=Relativistic(), penalties=(weight, R2(weight=0.1))),
        },
        "sngan": {
            "networks": SNGAN(width=8, group=BATCH),
            "objective": Objective(loss=Hinge()),
            "discriminator_turns": 5,
        },
        "biggan": {
            "networks": BigGAN(width=8, group=BATCH),
            "objective": Objective(loss=Hinge()),
            "discriminator_turns": 2,
        },
        "stylegan2": {
            "networks": StyleGAN2(latent=32, style=32, mapping_layers=2, channel_base=256, channel_max=16, group=4),
            "objective": Objective(
                loss=NonSaturating(real_target=1),
                penalties=(R1(weight=0.1, every=EVERY * BATCH, alone=True),),
            ),
            "discriminator_optimizer": ADAM.model_copy(update={"rescaled": True}),
        },
    }
    return base.model_copy(update=changes[recipe])


class Written:
    """One recipe's update, by hand."""

    def __init__(self, recipe: str, networks: Pair, given: Iterator[Drawn]) -> None:
        self.pair = networks
        self.given = given
        self.average = copy.deepcopy(networks.generator).requires_grad_(False)
        self.update: Callable[[], None] = {"r3gan": self._r3gan, "stylegan2": self._stylegan2}.get(recipe, self._hinge)
        self.turns = config_of(recipe).discriminator_turns
        c = EVERY / (EVERY + 1) if recipe == "stylegan2" else 1.0
        self.optimizers = {
            name: torch.optim.Adam(network.parameters(), lr=2e-4 * by, betas=(0.0, 0.9**by), fused=True)
            for name, network, by in (("G", networks.generator, 1.0), ("D", networks.discriminator, c))
        }
        self.updates = 0

    def run(self, updates: int) -> None:
        for _ in range(updates):
            self.update()

    def close(self) -> None:
        """Nothing is held."""

    def _r3gan(self) -> None:
        G, D = self.pair
        real, labels, fake = self._begin_D()
        real.requires_grad_()
        fake.requires_grad_()
        of_real, of_fake = D(real, labels), D(fake, labels)
        penalty = sum(_gradient_penalty(logits, images) for logits, images in ((of_real, real), (of_fake, fake)))
        self._move("D", softplus(of_fake - of_real).mean() + 0.1 * penalty)
        drawn = self._begin_G()
        with torch.no_grad():
            of_real = D(real, labels)
        made = D(G(drawn.latents, labels, drawn.noise), labels)
        self._move("G", softplus(of_real - made).mean())
        self._follow()

    def _hinge(self) -> None:
        G, D = self.pair
        for _ in range(self.turns):
            real, labels, fake = self._begin_D()
            of_real, of_fake = self._both(real, fake, labels)
            self._move("D", relu(1 - of_real).mean() + relu(1 + of_fake).mean())
        drawn = self._begin_G()
        self._move("G", -D(G(drawn.latents, labels, drawn.noise), labels).mean())
        self._follow()

    def _stylegan2(self) -> None:
        G, D = self.pair
        real, labels, fake = self._begin_D()
        of_real, of_fake = self._both(real, fake, labels)
        self._move("D", softplus(-of_real).mean() + softplus(of_fake).mean())
        if self.updates % EVERY == 0:
            _free(D, G)
            real.requires_grad_()
            logits = D(real, labels)
            # As the authors have it: the last bias takes part too, and Adam forgets its past
            self._move("D", 0.1 * EVERY * _gradient_penalty(logits, real) + logits.sum() * 0)
        drawn = self._begin_G()
        self._move("G", softplus(-D(G(drawn.latents, labels, drawn.noise), labels)).mean())
        self._follow()

    def _begin_D(self) -> tuple[Tensor, Tensor | None, Tensor]:
        real, labels, latents, noise = next(self.given)
        _free(self.pair.discriminator, self.pair.generator)
        with torch.no_grad():
            return real, labels, self.pair.generator(latents, labels, noise)

    def _begin_G(self) -> Drawn:
        _free(self.pair.generator, self.pair.discriminator)
        return next(self.given)

    def _both(self, real: Tensor, fake: Tensor, labels: Tensor | None) -> tuple[Tensor, ...]:
        twice = None if labels is None else torch.cat([labels, labels])
        return self.pair.discriminator(torch.cat([real, fake]), twice).split(len(real))

    def _move(self, player: str, loss: Tensor) -> None:
        optimizer = self.optimizers[player]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        for layer in (self.pair.generator if player == "G" else self.pair.discriminator).modules():
            if isinstance(layer, Moves):
                layer.after_move()

    @torch.no_grad()
    def _follow(self) -> None:
        images = self.turns * BATCH
        weight = average_weight(self.updates * images, images)
        torch._foreach_lerp_(list(self.average.parameters()), list(self.pair.generator.parameters()), weight)
        self.updates += 1


@torch.no_grad()
def parity(recipe: str, precision: str) -> dict[str, float]:
    """The largest difference of a parameter between dist_gan and the loop after a few updates, by network."""
    ours, networks = _made(recipe, precision)
    written = Written(recipe, networks, iter(_played(ours)))
    with torch.enable_grad():
        written.run(UPDATES)
    pairs = {"G": (ours.pair.generator, written.pair.generator), "average": (ours.average, written.average)}
    pairs["D"] = (ours.pair.discriminator, written.pair.discriminator)
    return {
        name: max(float((p - q).abs().max()) for p, q in zip(a.parameters(), b.parameters(), strict=True))
        for name, (a, b) in pairs.items()
    }


def ratios(recipe: str, rounds: int) -> dict[str, Any]:
    """Short rounds of both in turn."""
    ours, networks = _made(recipe, "fp32")
    device = ours.game.processes.device
    dataset = ours.stream.dataset
    assert isinstance(dataset, Resident)
    candidates: dict[str, Candidate] = {BEST: Written(recipe, networks, _endless(ours, dataset)), OURS: ours}
    for name, candidate in candidates.items():
        measure.run(name, candidate, 3)
    updates = measure.updates_of_a_round(candidates[BEST], device)
    times = measure.rounds(candidates, rounds, updates, device)
    images = ours.game.images_per_update
    return {name: measure.summary(values, times[BEST], images) for name, values in times.items()}


def _made(recipe: str, precision: str) -> tuple[Ours, Pair]:
    config = config_of(recipe)
    processes = Processes(precision)
    dataset = config.data.open(processes.device)
    networks = config.networks.build(shape_of(config, dataset), config.seed)
    for network in networks:
        network.to(processes.device, processes.dtype).train()
    return Ours(config, processes, dataset), Pair(*networks)


def _played(ours: Ours) -> list[Drawn]:
    """Plays a few updates; returns what each turn was given, in order."""
    game, batches, found = ours.game, ours.stream.batches(0), list[Drawn]()
    for _ in range(UPDATES):
        taken = list(islice(batches, game.discriminator_turns))
        for number, batch in enumerate(taken):
            turns = [turn for turn, _ in game._turns_on(number) if not turn.alone]
            for turn in turns:
                own = game.gradients.draw(turn, batch)[MAKES[turn.player]]
                made = latents_and_noise(own, game.generator.network.latent, game.processes.dtype)
                labels = batch.labels if game.generator.network.classes else None
                found.append(Drawn(batch.images, labels, *made))
        with torch.enable_grad():
            game.update(iter(taken))
    return found


def _endless(ours: Ours, dataset: Resident) -> Iterator[Drawn]:
    network, device = ours.game.generator.network, ours.game.processes.device
    labels = torch.zeros(BATCH, dtype=torch.int64, device=device) if network.classes else None
    for real in shuffled(dataset.images, BATCH, channels_last=False):
        noise = torch.randint(-(2**15), 2**15, (BATCH, network.noise_bits), dtype=torch.int16, device=device)
        yield Drawn(real, labels, torch.randn(BATCH, network.latent, device=device), noise)


def _gradient_penalty(logits: Tensor, images: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean() / 2


def _free(moves: nn.Module, rests: nn.Module) -> None:
    moves.requires_grad_(True)
    rests.requires_grad_(False)


RECIPES = ("r3gan", "sngan", "biggan", "stylegan2")
