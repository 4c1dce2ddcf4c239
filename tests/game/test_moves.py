"""How a player moves in a game: its numbers are filled before each turn, and a resume is bitwise whatever they are."""

from typing import Any

import pytest
import torch

from dist_gan.distributed.processes import Processes
from dist_gan.errors import ConfigError
from dist_gan.optim.factors import LayerFactor
from dist_gan.optim.optimizers import SGD, Adam, AdamW, Optimizer
from dist_gan.optim.schedules import Cosine
from tests.support import own_parts, tiny

SLOWER = Cosine(end=4 * tiny.BATCH, final=0.1)
FACTORS = (LayerFactor(pattern="*.bias", factor=0.5),)
OPTIMIZERS: dict[str, Optimizer] = {
    "beta2 schedule": Adam(learning_rate=1e-3, beta2=0.9, beta2_schedule=SLOWER, clip=1),
    "beta2 schedule, weight decay": AdamW(learning_rate=1e-3, beta1=0, beta2_schedule=SLOWER),
    "factors": Adam(learning_rate=1e-3, factors=FACTORS, schedule=SLOWER),
    "factors, beta2 schedule": Adam(learning_rate=1e-3, factors=FACTORS, beta2_schedule=SLOWER),
    "factors, SGD": SGD(learning_rate=0.01, momentum=0.9, factors=FACTORS),
    "factors, an own one": own_parts.RMSProp(learning_rate=1e-3, factors=FACTORS),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_resume_is_bitwise(processes: Processes, name: str) -> None:
    optimizer = OPTIMIZERS[name]
    whole = tiny.state(tiny.play(tiny.game(processes, optimizer=optimizer), 4))
    half = tiny.play(tiny.game(processes, optimizer=optimizer), 2)
    saved = {member: {k: v.clone() for k, v in own.items()} for member, own in half.state().items()}
    again = tiny.game(processes, optimizer=optimizer)
    again.load(saved, half.images_seen)
    assert tiny.digest(tiny.state(tiny.play(again, 2))) == tiny.digest(whole)


def test_each_of_them_makes_another_model(processes: Processes) -> None:
    """Else the test above would compare what has no effect."""
    plain: list[Optimizer] = [Adam(learning_rate=1e-3), SGD(learning_rate=0.01, momentum=0.9)]
    plain += [own_parts.RMSProp(learning_rate=1e-3)]
    digests = {
        tiny.digest(tiny.state(tiny.play(tiny.game(processes, optimizer=optimizer), 2)))
        for optimizer in [*plain, *OPTIMIZERS.values()]
    }
    assert len(digests) == len(plain) + len(OPTIMIZERS)


def test_its_numbers_are_those_of_the_turn(double: Processes) -> None:
    """Of each turn of D, and of G's: by the images seen where it begins."""
    optimizer = Adam(learning_rate=1e-3, beta2=0.9, schedule=SLOWER, beta2_schedule=SLOWER, factors=FACTORS)
    found: list[tuple[str, dict[str, float]]] = []

    def watch(turn: str, player: Any, terms: Any) -> None:
        own = {key: value.item() for key, value in game.rates._views.items() if key.startswith(turn)}
        found.append((turn, {key.partition("/")[2]: value for key, value in own.items()}))

    game = tiny.game(double, optimizer=optimizer, discriminator_turns=2, watch=watch)
    tiny.play(game, 2)
    at = [("D", 0), ("D", 1), ("G", 0), ("D", 2), ("D", 3), ("G", 2)]
    assert found == [(player, optimizer.numbers(batches * tiny.BATCH)) for player, batches in at]
    assert found[0][1] != found[3][1]


def test_a_pattern_that_fits_no_layer_of_that_player(processes: Processes) -> None:
    optimizer = Adam(factors=(LayerFactor(pattern="mapping.*", factor=0.01),))
    with pytest.raises(ConfigError, match=r"^generator_optimizer\.factors\.0\.pattern: mapping\.\* fits no parameter"):
        tiny.game(processes, optimizer=optimizer)


def test_frozen_layers_have_no_factor(processes: Processes) -> None:
    networks = tiny.MLP_PLAIN.build(tiny.shape_of(tiny.DATA), tiny.SEED)
    name, first = next(iter(networks.discriminator.named_parameters()))
    first.requires_grad_(False)
    optimizer = Adam(factors=(LayerFactor(pattern=name, factor=0.5),))
    with pytest.raises(
        ConfigError, match=r"^discriminator_optimizer\.factors\.0\.pattern: .* fits no parameter that m"
    ):
        optimizer.assemble(
            {n: p for n, p in networks.discriminator.named_parameters() if p.requires_grad},
            {n: torch.zeros(()) for n in optimizer.numbers(0)},
            "discriminator_optimizer",
        )
