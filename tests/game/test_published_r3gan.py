"""Whole updates of both players against the authors' own loop: Adam, the average, and all of their schedules."""

import torch

from dist_gan.distributed.processes import Processes
from tests.support import r3gan
from tests.support.published import Published, fingerprint


def test_whole_updates_are_theirs(double: Processes) -> None:
    """Theirs was given the very latents and real images, those of G's turn too. Their order is ours: D, G, average."""
    published = Published("r3gan")
    game, batches = r3gan.game(double)
    for update in range(1, r3gan.UPDATES + 1):
        game.update(batches)
        if f"update{update}/ema/first.weight" not in published.numbers:
            continue
        for name in ("generator", "discriminator", "ema"):
            weights = {key: value for key, value in game.members[name].state().items() if value.is_floating_point()}
            published.check_all(f"update{update}/{name}", weights, 1e-9)
    assert update == r3gan.UPDATES
    assert game.images_seen > r3gan.END


def test_without_fresh_reals_it_is_another_game(double: Processes) -> None:
    """The one switch of the objective that the authors' loop needs shows in the numbers."""
    published = Published("r3gan")
    game, batches = r3gan.game(double)
    batch = next(batches)
    assert batch.fresh is not None
    assert not torch.equal(batch.fresh.images, batch.images)
    game.update(iter([batch._replace(fresh=None)]))
    assert (
        published.difference("update1/discriminator/last.weight", fingerprint(game.discriminator.network.last.weight))
        < 1e-9
    )
    assert published.difference("update1/generator/last.weight", fingerprint(game.generator.network.last.weight)) > 1e-6
