"""A layer that draws or moves something in its forward ends the run at the first update, by name."""

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dist_gan.distributed.processes import Processes
from dist_gan.errors import ConfigError
from dist_gan.networks.base import Discriminator, Generator, Networks, Recipe
from dist_gan.networks.layers import GroupBatchNorm2d, SpectralNorm
from dist_gan.objective.augment import NOTHING, NoAugment
from dist_gan.objective.followers import State
from dist_gan.shapes import DataShape
from tests.support import tiny


class _Functional(nn.Module):
    def __init__(self, draw: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.draw = draw

    def forward(self, x: Tensor) -> Tensor:
        return self.draw(x)


class _Counter(nn.Module):
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.count = self.count + 1  # a new tensor, not one changed in place
        return x


class _G(Generator):
    def __init__(self, shape: DataShape, layer: nn.Module) -> None:
        super().__init__(6, shape.image)
        self.layers = nn.Sequential(nn.Linear(6, 64), layer)

    def forward(self, latents: Tensor, condition: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        return torch.tanh(self.layers(latents)).view(-1, *self.shape)


class _D(Discriminator):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.Sequential(nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), layer), nn.Flatten(), nn.Linear(128, 1))

    def logits(self, images: Tensor, condition: Tensor | None, noise: Tensor | None) -> Tensor:
        return self.blocks(images).squeeze(1)


class _Made(Recipe):
    latent: int = 6

    def build(self, shape: DataShape, seed: int) -> Networks:
        torch.manual_seed(0)
        return Networks(_G(shape, self._layers[0]), _D(self._layers[1]))

    _layers: tuple[nn.Module, nn.Module] = (nn.Identity(), nn.Identity())


def recipe(g: nn.Module | None = None, d: nn.Module | None = None) -> Recipe:
    made = _Made()
    object.__setattr__(made, "_layers", (g or nn.Identity(), d or nn.Identity()))
    return made


IMPURE = {
    "D dropout": (None, lambda: nn.Dropout(0.3), "D.blocks.0.1 (Dropout) draws random numbers from torch", "`noise`"),
    "G dropout": (lambda: nn.Dropout(0.3), None, "G.layers.1 (Dropout) draws random numbers", "`noise`"),
    "functional": (None, lambda: _Functional(lambda x: F.dropout(x, 0.3)), "D.blocks.0.1 (_Functional) draws", "bits"),
    "numpy": (None, lambda: _Functional(lambda x: x * np.random.rand()), "numpy's global state", "bits"),
    "python": (None, lambda: _Functional(lambda x: x * random.random()), "random's global state", "bits"),
    "batch norm": (None, lambda: nn.BatchNorm2d(8), "D.blocks.0.1 (BatchNorm2d) moves its buffer", "GroupBatchNorm2d"),
    "counter": (None, _Counter, "D.blocks.0.1 (_Counter) moves its buffer `count`", "after_move"),
    "torch's spectral norm": (
        None,
        lambda: nn.utils.parametrizations.spectral_norm(nn.Conv2d(8, 8, 1)),
        "D.blocks.0.1.parametrizations.weight.0 (_SpectralNorm) moves its buffer",
        "layers.SpectralNorm",
    ),
    "torch's old spectral norm": (
        None,
        lambda: nn.utils.spectral_norm(nn.Conv2d(8, 8, 1)),
        "D.blocks.0.1 (Conv2d) moves its buffer `weight_",
        "after_move",
    ),
}


@pytest.mark.parametrize("name", IMPURE)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_named_at_the_first_update(processes: Processes, name: str) -> None:
    g, d, message, hint = IMPURE[name]
    game = tiny.game(processes, recipe(g() if g else None, d() if d else None))
    with pytest.raises(ConfigError) as error:
        tiny.play(game, 1)
    assert message in str(error.value)
    assert hint in str(error.value)


def test_outside_of_layers(processes: Processes) -> None:
    class Noisy(NoAugment):
        def __call__(self, images: Tensor, bits: Tensor, state: State = NOTHING) -> Tensor:
            return images + torch.rand(1)

    with pytest.raises(ConfigError, match="outside of any layer's forward"):
        tiny.play(tiny.game(processes, augment=Noisy()), 1)


@pytest.mark.parametrize(
    "layer",
    [
        lambda: nn.GroupNorm(2, 8),
        lambda: GroupBatchNorm2d(8, 8),
        lambda: SpectralNorm(nn.Conv2d(8, 8, 1)),
        lambda: nn.Sequential(nn.Conv2d(8, 8, 1), GroupBatchNorm2d(8, 8)),
    ],
)
def test_legal_ones_pass(processes: Processes, layer: Callable[[], nn.Module]) -> None:
    """A scale of exactly 1, a bias before a normalization, a layer whose buffers move with the player."""
    tiny.play(tiny.game(processes, recipe(None, layer()), guard="always"), 3)


def test_only_the_first_update_is_watched(processes: Processes) -> None:
    game = tiny.play(tiny.game(processes), 1)
    assert not [hook for layer in game.discriminator.network.modules() for hook in layer._forward_hooks]
    assert game._guard is None
