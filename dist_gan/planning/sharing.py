"""What `shard` leaves each process: whole tensors are divided, so that the parts differ."""

from collections.abc import Sequence
from copy import copy

import torch
from torch import Tensor

from dist_gan.distributed.shards import Owners, Shards
from dist_gan.game.game import Game


def of_others(game: Game, count: int) -> int:
    """Bytes of the state that only other processes keep, of `count`, for the process that keeps most.

    Args:
        game: played by this process alone, after its first update: so it has all of the state.
        count: of the processes among which the state would be divided.
    """
    processes = copy(game.processes)
    processes.count = count
    owners = Owners(processes)
    kept = [0] * count

    def divide(parameters: Sequence[Tensor], sizes: Sequence[int]) -> None:
        shapes = [torch.empty_like(parameter, device="meta") for parameter in parameters]
        for owner, size in zip(Shards(owners, shapes).owners, sizes, strict=True):
            kept[owner] += size

    # in the order of `Game`, by which each finds some of them fuller than others
    for average in game.averages.values():
        weights = list(average.network.parameters())
        divide(weights, [weight.nbytes for weight in weights])
    for player in (game.generator, game.discriminator):
        moments = [
            sum(t.nbytes for t in player.optimizer.state[parameter].values() if isinstance(t, Tensor))
            for parameter in player.parameters
        ]
        divide(player.parameters, moments)
    return sum(kept) - max(kept)
