"""Whole updates of a small BigGAN: turns of D and then one of G, Adam, the power iterations, the average, against what
StudioGAN's modules, torch's Adam and its Ema gave.

Their latents were ours. Their spectral norms made one power iteration after each move instead of one in each forward.
Fake images had the labels of the real ones, as ours always have; in their own loop these are drawn at random.
"""

import pytest
import torch

from dist_gan.config.command_line import load
from dist_gan.distributed.processes import Processes
from dist_gan.game.game import Game
from dist_gan.objective.losses import Hinge
from dist_gan.objective.objective import Objective
from dist_gan.optim.ema import EMA
from tests.support import biggan, tiny
from tests.support.commands import ROOT
from tests.support.published import Published


@pytest.fixture(scope="module")
def published() -> Published:
    return Published("biggan")


def played() -> Game:
    """The group is the batch, as theirs."""
    recipe = biggan.RECIPE.model_copy(update={"group": tiny.BATCH})
    game = Game(
        Processes("fp64"),
        biggan.networks(recipe),
        Objective(loss=Hinge()),
        generator_optimizer=biggan.ADAM,
        discriminator_optimizer=biggan.ADAM,
        ema=EMA(half_life_images=biggan.HALF_LIFE, ramp=0, begin=biggan.TURNS * tiny.BATCH),
        seed=tiny.SEED,
        batch_size=tiny.BATCH,
        batch_multiple=recipe.batch_multiple,
        discriminator_turns=biggan.TURNS,
    )
    return tiny.play(game, biggan.UPDATES, biggan.DATA)


def test_two_updates_are_theirs(published: Published) -> None:
    game = played()
    networks = {"G": game.generator.network, "D": game.discriminator.network}
    for player, network in networks.items():
        biggan.check_all(published, f"updated {player}", dict(network.named_parameters()))
        vectors = {name: buffer for name, buffer in network.named_buffers() if name.endswith((".u", ".v"))}
        biggan.check_all(published, f"vectors {player}", vectors)
    biggan.check_all(published, "updated average", dict(game.average.network.named_parameters()))


def test_the_configs_average_is_theirs(published: Published) -> None:
    """0.9999 of it stays in an update; it is a copy during the first 1,000."""
    config = load(ROOT / "configs" / "cifar10_biggan.yaml")
    images = config.discriminator_turns * config.batch_size
    weights = [config.ema.weight((update + 1) * images, images) for update in biggan.MOMENTS]
    torch.testing.assert_close(
        torch.tensor(weights).double(), published.numbers["weight of the newest"], rtol=1e-6, atol=0
    )
    assert config.images == 100_000 * images
