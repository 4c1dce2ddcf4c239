"""Small games for tests: the real parts, few pixels."""

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dist_gan.data import Batch, Generated, Source, Stream
from dist_gan.distributed.processes import Processes
from dist_gan.game.game import Game
from dist_gan.networks import DCGAN, MLP, Recipe, StyleGAN2
from dist_gan.objective.objective import Objective
from dist_gan.objective.penalties import R1, R2, WGANGP
from dist_gan.optim.ema import EMA
from dist_gan.optim.optimizers import Adam, Optimizer
from dist_gan.shapes import DataShape

BATCH = 64
ADAM = Adam(learning_rate=1e-3, clip=1.0)
SEED = 5
MLP_PLAIN = MLP(latent=6, width=4, dropout=0)
MLP_DROPOUT = MLP(latent=6, width=4, dropout=0.3)
DCGAN_TINY = DCGAN(latent=6, width=4, group=8)
STYLEGAN2_TINY = StyleGAN2(latent=6, style=6, mapping_layers=2, channel_base=32, channel_max=4)
PENALISED = Objective(penalties=(R1(weight=0.5), R2(weight=0.3), WGANGP(weight=2)))
LAZY = Objective(penalties=(R1(weight=0.5, every=3 * BATCH),))
DATA = Generated(size=8, count=150)
DATA_16 = Generated(size=16, count=150)  # two doublings: batch normalisation in D too


def game(
    processes: Processes,
    recipe: Recipe = MLP_PLAIN,
    objective: Objective | None = None,
    data: Source = DATA,
    optimizer: Optimizer = ADAM,
    **options: Any,
) -> Game:
    return Game(
        processes,
        recipe.build(shape_of(data, conditional=recipe.is_conditional), SEED),
        objective or Objective(),
        generator_optimizer=optimizer,
        discriminator_optimizer=optimizer,
        seed=SEED,
        batch_size=BATCH,
        **{"ema": EMA(half_life_images=500), "batch_multiple": recipe.batch_multiple, **options},
    )


def shape_of(data: Source, *, conditional: bool = False) -> DataShape:
    classes = len(data.open(torch.device("cpu")).classes) if conditional else 0
    return DataShape(data.shape, classes)


def batches(
    processes: Processes, images_seen: int = 0, data: Source = DATA, *, fresh_every: int = 0
) -> Iterator[Batch]:
    stream = Stream(
        data.open(processes.device),
        seed=SEED,
        batch_size=BATCH,
        rank=processes.rank,
        processes=processes.count,
        device=processes.device,
        dtype=processes.dtype,
        fresh_every=fresh_every,
    )
    return stream.batches(images_seen)


def play(game: Game, updates: int, data: Source = DATA) -> Game:
    source = batches(
        game.processes, game.images_seen, data, fresh_every=game.discriminator_turns * game.objective.fresh_reals
    )
    for _ in range(updates):
        game.update(source)
    return game


def state(game: Game) -> dict[str, Tensor]:
    """Everything that a checkpoint holds, flat."""
    return {f"{file}/{name}": t.clone() for file, own in game.state().items() for name, t in own.items()}


def digest(state: dict[str, Tensor]) -> str:
    total = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        total.update(name.encode() + tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """The largest difference of any tensor, relative to the tensor's largest value."""
    assert a.keys() == b.keys()
    return max(((a[k] - b[k]).abs().max() / b[k].abs().max().clamp(min=1e-300)).item() for k in a)
