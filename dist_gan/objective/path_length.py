"""Path length regularization (Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN")."""

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from dist_gan.objective.followers import State
from dist_gan.objective.penalty import GeneratorPenalty, Shared
from dist_gan.randomness import normal
from dist_gan.shapes import ImageShape


class PathLength(GeneratorPenalty, Shared):
    """(|J^T y| - a)^2: how far an image moves with its styles should be the same everywhere (Karras et al. 2020,
    StyleGAN2, section 3.2, equation 4).

    J is the derivative of the image by its styles (by its latent, where G has no styles), y a random image, and a the
    running mean of the lengths |J^T y|. The mean is that of the turns before. NVlabs' code includes the batch itself,
    and on several GPUs each has its own mean.
    """

    name: Literal["path_length"] = "path_length"
    weight: float = Field(2.0, gt=0)
    """Factor of the penalty in G's loss."""
    decay: float = Field(0.01, gt=0, le=1)
    """How fast the mean follows."""
    share: int = Field(2, ge=1)
    """Only each sample whose ordinal is a multiple of this is used, and counts as many times: 2 is half."""

    def initial_state(self) -> dict[str, Tensor]:
        return {"mean": torch.zeros(())}

    def follow(self, state: State, mean: Tensor, samples: Tensor) -> dict[str, Tensor]:
        return {"mean": torch.lerp(state["mean"], mean, self.decay)}

    def bits(self, shape: ImageShape) -> int:
        return math.prod(shape)

    def penalty(self, images: Tensor, latents: Tensor, bits: Tensor, state: State) -> tuple[Tensor, Tensor | None]:
        y = normal(bits, images.dtype).view(images.shape) / math.sqrt(images[0, 0].numel())
        (gradient,) = torch.autograd.grad((images * y).sum(), latents, create_graph=True)
        layers = gradient[0].numel() // gradient.shape[-1]
        lengths = torch.linalg.vector_norm(gradient.flatten(1), dim=1) / math.sqrt(layers)
        return (lengths - state["mean"].to(lengths.dtype)).square(), lengths
