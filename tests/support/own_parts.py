"""What a user would add, each as one class: used by the tests of the doors."""

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from dist_gan.game.game import Game
from dist_gan.game.meter import Scalar
from dist_gan.networks.base import Discriminator, Generator, Networks, Recipe
from dist_gan.networks.layers import SpectralNorm
from dist_gan.networks.weights import initialize
from dist_gan.objective.augment import NOTHING, Augment
from dist_gan.objective.followers import State
from dist_gan.objective.objective import Terms
from dist_gan.objective.penalty import GeneratorPenalty
from dist_gan.optim.optimizers import Optimizer
from dist_gan.randomness import Purpose, normal
from dist_gan.run.events import Event
from dist_gan.run.records import Records
from dist_gan.shapes import DataShape, ImageShape


def _squares(terms: Terms) -> Tensor:
    assert terms.real is not None
    return terms.real.square().sum()


SCALAR = Scalar("D/real_logit_squared", "D", _squares)


class WeightNorm(Event):
    """Logs the norm of G's averaged weights."""

    name = "the norm of the average"

    def __init__(self, every: int) -> None:
        self.every = every
        self.seen: list[tuple[int, float]] = []

    def happen(self, game: Game, records: Records) -> None:
        norm = torch.nn.utils.get_total_norm(list(game.average.network.parameters())).item()
        self.seen.append((game.images_seen, norm))
        records.metrics(game.images_seen, {"G/average_norm": norm})


class Controlled(Augment):
    """Fades images towards grey, the more the surer D is of real ones (a controller as in ADA)."""

    name: Literal["controlled"] = "controlled"
    target: float = -1
    step: float = Field(0.05, gt=0)

    def initial_state(self) -> dict[str, Tensor]:
        return {"strength": torch.zeros(())}

    def __call__(self, images: Tensor, bits: Tensor, state: State = NOTHING) -> Tensor:
        return images * (1 - state["strength"]).to(images.dtype)

    def observe(self, real: Tensor, fake: Tensor) -> Tensor:
        return real

    def follow(self, state: State, mean: Tensor, samples: Tensor) -> dict[str, Tensor]:
        return {"strength": (state["strength"] + self.step * (mean - self.target)).clamp(0, 0.9)}


class PathLength(GeneratorPenalty):
    """(|J^T y| - a)^2 with a running mean a of path lengths (Karras et al. 2020, StyleGAN2, equation 4)."""

    name: Literal["path_length"] = "path_length"
    decay: float = Field(0.1, gt=0, le=1)

    def initial_state(self) -> dict[str, Tensor]:
        return {"mean": torch.zeros(())}

    def bits(self, shape: ImageShape) -> int:
        return shape.channels * shape.height * shape.width

    def penalty(self, images: Tensor, latents: Tensor, bits: Tensor, state: State) -> tuple[Tensor, Tensor | None]:
        y = normal(bits, images.dtype).view(images.shape) / images[0, 0].numel() ** 0.5
        (gradient,) = torch.autograd.grad((images * y).sum(), latents, create_graph=True)
        lengths = (gradient.square().sum(1) + 1e-12).sqrt()
        return (lengths - state["mean"].to(lengths.dtype)).square(), lengths

    def follow(self, state: State, mean: Tensor, samples: Tensor) -> dict[str, Tensor]:
        return {"mean": torch.lerp(state["mean"], mean, self.decay)}


class RMSProp(Optimizer):
    """torch's RMSprop, which knows nothing of gradients that are not finite."""

    name: Literal["rmsprop"] = "rmsprop"

    def build(self, parameters: list[Tensor], learning_rate: Tensor) -> torch.optim.Optimizer:
        return _RMSProp(parameters, learning_rate)


class _RMSProp(torch.optim.Optimizer):
    def __init__(self, parameters: list[Tensor], learning_rate: Tensor) -> None:
        super().__init__(parameters, {"lr": learning_rate})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # its overloads are for closures
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    state["square"] = torch.zeros_like(parameter)
                state["square"].lerp_(parameter.grad.square(), 0.01)
                parameter.sub_(group["lr"] * parameter.grad / (state["square"].sqrt() + 1e-8))


class _SpectralGenerator(Generator):
    def __init__(self, shape: ImageShape, latent: int, width: int) -> None:
        super().__init__(latent, shape)
        self.first = SpectralNorm(nn.Linear(latent, width))
        self.last = nn.Linear(width, shape.channels * shape.height * shape.width)

    def forward(self, latents: Tensor, condition: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        return torch.tanh(self.last(F.relu(self.first(latents)))).view(-1, *self.shape)


class _SpectralDiscriminator(Discriminator):
    def __init__(self, shape: ImageShape, width: int) -> None:
        super().__init__()
        self.first = SpectralNorm(nn.Conv2d(shape.channels, width, 3, 2, 1))
        self.last = SpectralNorm(nn.Linear(width * (shape.height // 2) * (shape.width // 2), 1))

    def logits(self, images: Tensor, condition: Tensor | None, noise: Tensor | None) -> Tensor:
        return self.last(F.leaky_relu(self.first(images), 0.2).flatten(1)).squeeze(1)


class Spectral(Recipe):
    """Both networks with spectral normalization."""

    name: Literal["spectral"] = "spectral"
    latent: int = 6
    width: int = 4

    def build(self, shape: DataShape, seed: int) -> Networks:
        networks = Networks(
            _SpectralGenerator(shape.image, self.latent, self.width), _SpectralDiscriminator(shape.image, self.width)
        )
        for network, purpose in zip(networks, (Purpose.GENERATOR_WEIGHTS, Purpose.DISCRIMINATOR_WEIGHTS), strict=True):
            initialize(network, seed, purpose, lambda name, parameter, layer: ("normal", 0.0, 0.3))
        return networks
