"""A whole update of SNGAN and of the projection cGAN by our `Game`, against mimicry's own `train_step`.

Theirs was given the very latents, real images and labels of ours. It has the order of ours: five turns of D, each on a
batch of its own, then G's turn with the last batch. Taken away from it was the power iteration in each forward: it
makes one after each move of D, as ours does. Its cGAN draws the labels of fake images; here they were those of the
real ones, as in ours.
"""

import pytest
import torch

from dist_gan.distributed.processes import Processes
from dist_gan.networks import SNGAN
from dist_gan.networks.layers import SpectralNorm
from dist_gan.objective.losses import Hinge
from dist_gan.objective.objective import Objective, Terms
from dist_gan.optim.optimizers import Adam
from tests.support import tiny
from tests.support.published import Published

DATA = tiny.Generated(size=32, channels=3, count=400)
PUBLISHED = Published("sngan")


@pytest.mark.parametrize(("name", "conditional"), [("sngan32", False), ("cgan32", True)])
def test_an_update_is_mimicrys(double: Processes, name: str, conditional: bool) -> None:
    losses: list[float] = []

    def note(turn: str, player: object, terms: Terms) -> None:
        losses.append(terms.loss.item() / tiny.BATCH)

    game = tiny.game(
        double,
        SNGAN(width=2, group=tiny.BATCH, conditional=conditional),
        Objective(loss=Hinge()),
        DATA,
        Adam(learning_rate=2e-4, beta1=0, beta2=0.9),
        discriminator_turns=5,
        watch=note,
    )
    for layer in game.discriminator.network.modules():
        if isinstance(layer, SpectralNorm):
            layer.after_move()
    tiny.play(game, 1, DATA)
    PUBLISHED.check(f"{name}/update/losses", torch.tensor(losses, dtype=torch.float64))
    PUBLISHED.check_all(f"{name}/update/G", dict(game.generator.network.named_parameters()))
    PUBLISHED.check_all(f"{name}/update/D", game.discriminator.network.state_dict())
