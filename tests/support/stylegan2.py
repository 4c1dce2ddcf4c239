"""The small StyleGAN2 networks and the inputs that the authors' own code was run with."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dist_gan.data import Batch
from dist_gan.distributed.processes import Processes
from dist_gan.game.game import Game
from dist_gan.networks.base import Networks
from dist_gan.networks.stylegan2 import StyleGAN2
from dist_gan.objective.followers import State
from dist_gan.objective.losses import NonSaturating
from dist_gan.objective.objective import Objective
from dist_gan.objective.path_length import PathLength
from dist_gan.objective.penalties import R1
from dist_gan.optim.ema import EMA
from dist_gan.optim.optimizers import Adam
from dist_gan.randomness import Purpose, draw
from dist_gan.shapes import DataShape, ImageShape
from tests.support.published import numbers

BATCH = 8
SIZES: dict[str, Any] = {
    "latent": 8,
    "style": 6,
    "style_mixing": 0,
    "clamp": 1.2,
    "channel_base": 64,
    "channel_max": 8,
    "group": 4,
    "mixed_sizes": 0,
}


PRESETS = {"cifar10_stylegan2_ada": 32, "folder_stylegan2_ada_64": 64, "folder_stylegan2_ada_256": 256}
"""The shipped configs, and the side of their images."""
MEAN, PSI, R1_WEIGHT = 77, 0.6, 5.0
"""The seed of a mean style, how far styles are kept from it, and the weight of R1."""


class Variant(NamedTuple):
    recipe: StyleGAN2
    side: int
    classes: int


VARIANTS = {
    "classes": Variant(
        StyleGAN2(
            generator_architecture="skip",
            discriminator_architecture="resnet",
            mapping_layers=3,
            class_layers=2,
            conditional=True,
            **SIZES,
        ),
        16,
        5,
    ),
    "plain": Variant(
        StyleGAN2(
            generator_architecture="orig",
            discriminator_architecture="orig",
            mapping_layers=2,
            **SIZES,
        ),
        32,
        0,
    ),
    "turned": Variant(
        StyleGAN2(
            generator_architecture="resnet",
            discriminator_architecture="skip",
            mapping_layers=1,
            **SIZES,
        ),
        16,
        0,
    ),
}


LARGE = Variant(
    StyleGAN2(
        latent=64, style=64, mapping_layers=2, class_layers=2, channel_base=1024, channel_max=64, conditional=True
    ),
    16,
    5,
)
"""Large enough for statistics of its initial weights."""


def built(variant: Variant, dtype: torch.dtype = torch.float64, *, moved: bool = True) -> Networks:
    """From seed 3; what begins at a constant is moved away from it, so that it takes part."""
    shape = DataShape(ImageShape(3, variant.side, variant.side), variant.classes)
    networks = variant.recipe.build(shape, 3)
    for seed, network in enumerate(networks):
        network.to(dtype)
        if moved:
            _move(network, seed)
    return networks


@torch.no_grad()
def _move(network: nn.Module, seed: int) -> None:
    for i, (name, parameter) in enumerate(network.named_parameters()):
        if name.endswith(("bias", "noise_strength")):
            parameter.add_(0.2 * numbers(parameter.numel(), 1, seed=100 * seed + i).view(parameter.shape).to(parameter))


class Inputs(NamedTuple):
    latents: Tensor
    real: Tensor
    condition: Tensor | None
    noise: Tensor
    """int16: G's own."""
    y: Tensor
    """int16: the path length's."""


def inputs(variant: Variant, seed: int = 0, dtype: torch.dtype = torch.float64) -> Inputs:
    pixels = 3 * variant.side**2
    drawn = draw(seed, {Purpose.G_TURN_FAKE: 4 * pixels, Purpose.G_TURN_PENALTY: pixels}, range(BATCH))
    return Inputs(
        numbers(BATCH, variant.recipe.latent, seed=10 * seed + 1, dtype=dtype),
        numbers(BATCH, 3, variant.side, variant.side, seed=10 * seed + 2, dtype=dtype).tanh(),
        torch.arange(BATCH) * 3 % variant.classes if variant.classes else None,
        drawn[Purpose.G_TURN_FAKE],
        drawn[Purpose.G_TURN_PENALTY],
    )


class IncludingTheBatch(PathLength):
    """With a mean that includes the batch itself, through which the gradient flows too, as in the authors' code."""

    def penalty(self, images: Tensor, latents: Tensor, bits: Tensor, state: State) -> tuple[Tensor, Tensor | None]:
        _, lengths = super().penalty(images, latents, bits, state)
        assert lengths is not None
        after = self.follow(state, lengths.mean(), torch.tensor(len(lengths)))
        return super().penalty(images, latents, bits, after)[0], lengths


UPDATES, G_INTERVAL, D_INTERVAL = 3, 2, 3
RATE, HALF_LIFE, RAMP = 0.0025, 20, 1.5


def game(processes: Processes, variant: Variant) -> Game:
    """As the authors' training_loop.py: penalties in turns of their own, optimizers rescaled for that."""
    adam = Adam(learning_rate=RATE, beta1=0.0, beta2=0.99, rescaled=True)
    penalties = (
        R1(weight=R1_WEIGHT, every=D_INTERVAL * BATCH, alone=True),
        IncludingTheBatch(every=G_INTERVAL * BATCH, alone=True),
    )
    return Game(
        processes,
        built(variant),
        Objective.model_construct(loss=NonSaturating(real_target=1), penalties=penalties),
        generator_optimizer=adam,
        discriminator_optimizer=adam,
        ema=EMA(half_life_images=HALF_LIFE, ramp=RAMP),
        seed=9,
        batch_size=BATCH,
        batch_multiple=variant.recipe.batch_multiple,
    )


def batch(variant: Variant, update: int) -> Batch:
    given = inputs(variant, seed=20 + update)
    labels = torch.zeros(0, dtype=torch.int64) if given.condition is None else given.condition
    return Batch(given.real, labels, range(BATCH * update, BATCH * (update + 1)))
