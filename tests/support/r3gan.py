"""The small R3GAN that `tests/published/r3gan.safetensors` is of: its weights were carried into the authors' code."""

from collections.abc import Iterator

import torch
from torch import Tensor

from dist_gan.data import Batch, Generated, Stream
from dist_gan.distributed.processes import Processes
from dist_gan.game.game import Game
from dist_gan.networks.base import Networks
from dist_gan.networks.r3gan import R3GAN
from dist_gan.objective.losses import Relativistic
from dist_gan.objective.objective import Objective
from dist_gan.objective.penalties import R1, R2
from dist_gan.optim.ema import EMA
from dist_gan.optim.optimizers import Adam
from dist_gan.optim.schedules import Cosine
from dist_gan.shapes import DataShape, ImageShape
from tests.support.published import numbers

SEED = 5
BATCH = 6
GAMMA = 0.5
SIDE, CLASSES = 16, 4
SHAPE = DataShape(ImageShape(3, SIDE, SIDE), CLASSES)
DATA = Generated(size=SIDE, channels=3, count=40)
RECIPE = R3GAN(latent=5, width=12, full_width_up_to=8, group=4, embedding=7)  # widths 12, 12, 6
VARIANTS = {"plain": RECIPE, "classes": RECIPE.model_copy(update={"conditional": True})}
INITIAL = R3GAN(width=48, full_width_up_to=16, conditional=True)
"""Whose initial weights are compared; for 32x32 images."""

UPDATES, END = 4, 15
"""Of the game, and the images after which its schedules are constant: at its last update they are."""
HALF_LIFE = 30


def cosine(final: float, start: float = 1.0) -> Cosine:
    """A schedule of the game."""
    return Cosine(end=END, start=start, final=final)


ADAM = Adam(learning_rate=2e-3, beta1=0, beta2=0.9, beta2_schedule=cosine(0.1), schedule=cosine(0.25))
OBJECTIVE = Objective(
    loss=Relativistic(),
    penalties=(R1(weight=GAMMA, schedule=cosine(0.1)), R2(weight=GAMMA, schedule=cosine(0.1))),
    fresh_reals=True,
)
AVERAGE = EMA(half_life_images=HALF_LIFE, ramp=0, schedule=cosine(1, start=0))


def networks(recipe: R3GAN) -> Networks:
    """In float64, with all weights moved a little: at the start much of a network does nothing."""
    pair = recipe.build(SHAPE, SEED)
    for network in pair:
        network.double()
        for number, parameter in enumerate(network.parameters()):
            parameter.data += 0.1 * numbers(*parameter.shape, seed=100 + number)
    return pair


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Latents [N, Z], labels [N], real images [N, 3, H, W] in (-1, 1)."""
    labels = torch.arange(BATCH) % CLASSES
    return numbers(BATCH, RECIPE.latent, seed=21), labels, torch.tanh(numbers(BATCH, *SHAPE.image, seed=22))


def game(processes: Processes) -> tuple[Game, Iterator[Batch]]:
    """A conditional game, and the batches that it plays on."""
    dataset = DATA.open(processes.device)
    assert len(dataset.classes) == CLASSES
    made = Game(
        processes,
        networks(VARIANTS["classes"]),
        OBJECTIVE,
        generator_optimizer=ADAM,
        discriminator_optimizer=ADAM,
        ema=AVERAGE,
        seed=SEED,
        batch_size=BATCH,
    )
    stream = Stream(
        dataset,
        seed=SEED,
        batch_size=BATCH,
        rank=0,
        processes=1,
        device=processes.device,
        dtype=processes.dtype,
        fresh_every=int(OBJECTIVE.fresh_reals),
    )
    return made, stream.batches(0)
