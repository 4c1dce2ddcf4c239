"""Whole updates of StyleGAN2 beside the authors' training loop, lazy penalties and all."""

import pytest
import torch
from torch import Tensor, nn

from dist_gan.distributed.processes import Processes
from dist_gan.game.game import Game
from dist_gan.optim.ema import EMA
from dist_gan.optim.optimizers import Adam
from tests.support.published import Published
from tests.support.stylegan2 import BATCH, D_INTERVAL, G_INTERVAL, UPDATES, VARIANTS, Variant, batch, built, game

PUBLISHED = Published("stylegan2")


def update_in_their_order(game: Game, variant: Variant, number: int) -> None:
    """G's turns and then D's; ours is the other way round."""
    given = batch(variant, number)
    every = {"G": 1, "G alone": G_INTERVAL, "D": 1, "D alone": D_INTERVAL}
    turns = [game.turns[name] for name, interval in every.items() if number % interval == 0]
    for turn in turns:
        game.play(turn, given, game.images_seen)
    game.images_seen += BATCH
    weight = game.average.recipe.weight(game.images_seen, BATCH)
    game.average.follow(torch.tensor(weight, dtype=torch.float64))


def changes(network: nn.Module, first: nn.Module) -> dict[str, Tensor]:
    """How far each parameter has come."""
    return {
        name: parameter - start
        for (name, parameter), start in zip(network.named_parameters(), first.parameters(), strict=True)
    }


@pytest.mark.parametrize("name", ["classes", "plain"])
def test_updates_are_theirs(double: Processes, name: str) -> None:
    """Three of them: the first has all four turns, the third has a turn of the path length."""
    variant = VARIANTS[name]
    made, first = game(double, variant), built(variant)
    for number in range(UPDATES):
        update_in_their_order(made, variant, number)
        mean, theirs = made.members["penalty-1-path_length"], f"{name}/update {number}/path length"
        PUBLISHED.check(theirs, mean.state()["mean"][None], 1e-6)  # ours is a sum of integers, alike on all processes
        mean.load({"mean": PUBLISHED.numbers[theirs][0]})
    for player, network, start in (
        ("G", made.generator.network, first.generator),
        ("D", made.discriminator.network, first.discriminator),
        ("average", made.average.network, first.generator),
    ):
        PUBLISHED.check_all(f"{name}/{player} has come", changes(network, start))


def test_the_average_forgets_as_theirs() -> None:
    """The weight of the old average at five times, with and without a ramp; their clock is ours before an update."""
    for name, recipe in (
        ("cifar", EMA(half_life_images=500_000, ramp=0.05)),
        ("paper256", EMA(half_life_images=20_000, ramp=0)),
    ):
        times = [0, 64, 6_400, 9_999_936, 50_000_000]
        found = torch.tensor([1 - recipe.weight(images + 64, 64) for images in times], dtype=torch.float64)
        PUBLISHED.check(f"average/{name}", found)


def test_optimizers_are_rescaled_as_theirs() -> None:
    """By 16 / 17 and 4 / 5: the learning rate, beta1 and beta2."""
    adam = Adam(learning_rate=0.0025, beta1=0.0, beta2=0.99, rescaled=True)
    for interval in (4, 16):
        found = adam.rescale(interval)
        numbers = torch.tensor([found.learning_rate, found.beta1, found.beta2], dtype=torch.float64)
        PUBLISHED.check(f"rescaled/{interval}", numbers)
