"""How a player moves in a game: its numbers are filled before each turn, and a resume is bitwise whatever they are."""

from typing import Any

import pytest
import torch

from dist_gan.config.command_line import load
from dist_gan.distributed.processes import Processes
from dist_gan.errors import ConfigError
from dist_gan.objective.objective import Objective
from dist_gan.objective.penalties import R1, R2
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
        found.append((turn, {name: number.item() for name, number in game.numbers.rates.of(turn).items()}))

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


def test_a_player_whose_penalties_move_alone_is_rescaled(double: Processes) -> None:
    """By the penalty that moves most often, in turns of that player; the other player is not."""
    recipe = Adam(learning_rate=0.0025, beta1=0.3, beta2=0.99, rescaled=True)
    often, seldom = (R1(alone=True, every=turns * tiny.BATCH) for turns in (16, 64))
    objective = Objective(penalties=(seldom, often, R2(every=4 * tiny.BATCH)))
    game = tiny.game(double, optimizer=recipe, objective=objective, discriminator_turns=2)
    tiny.play(game, 1)
    (D,), (G,) = (player.optimizer.param_groups for player in (game.discriminator, game.generator))
    assert D["betas"] == pytest.approx((0.3 ** (16 / 17), 0.99 ** (16 / 17)), rel=1e-15)
    assert D["lr"].item() == pytest.approx(0.0025 * 16 / 17, rel=1e-15)
    assert (G["betas"], G["lr"].item()) == ((0.3, 0.99), 0.0025)
    assert game.learning_rates() == {"D": D["lr"].item(), "G": G["lr"].item()}


def test_lazy_rescaling_of_g_counts_its_own_turns(double: Processes) -> None:
    objective = Objective.model_construct(penalties=(own_parts.PathLength(alone=True, every=8 * tiny.BATCH),))
    game = tiny.game(double, optimizer=Adam(learning_rate=1, rescaled=True), objective=objective, discriminator_turns=2)
    assert game.learning_rates() == {"D": 1, "G": pytest.approx(4 / 5, rel=1e-15)}


def test_rescaled_without_a_penalty_alone_is_a_mistake() -> None:
    both = ["generator_optimizer.rescaled=true", "discriminator_optimizer.rescaled=true"]
    config = load(None, [*both, "objective.penalties=[{name: r1, alone: true, every: 1024}]"])
    assert [line.partition(":")[0] for line in config.mistakes(1)] == ["generator_optimizer.rescaled"]
    config = load(None, [*both, "objective.penalties=[{name: r1, every: 1024}]"])
    assert len([line for line in config.mistakes(1) if "has alone=true" in line]) == 2
