"""The small BigGAN that `tests/published/biggan.safetensors` is of: its weights were carried into the authors' code."""

from collections.abc import Mapping

import torch
from torch import Tensor

from dist_gan.data import Generated
from dist_gan.networks import BigGAN, Networks
from dist_gan.networks.attention import SelfAttention
from dist_gan.networks.layers import GroupBatchNorm2d
from dist_gan.optim.optimizers import Adam
from dist_gan.shapes import DataShape, ImageShape
from tests.support.published import Published, fingerprint, numbers

GROUP = 8
CLASSES = 4
SEED = 5
SHAPE = DataShape(ImageShape(3, 32, 32), CLASSES)
DATA = Generated(size=32, channels=3, count=150)
RECIPE = BigGAN(chunk=3, width=4, embedding=5, group=GROUP, conditional=True)
ADAM = Adam(learning_rate=2e-4, beta1=0.5, beta2=0.999, eps=1e-6)
TURNS = 2
UPDATES = 2
HALF_LIFE = 1_000
"""Of the average, in images. Theirs is told the same as a decay in an update, 0.5^(TURNS * batch / HALF_LIFE). It
begins with the second update; until then it is a copy."""
MOMENTS = (0, 999, 1_000, 1_001, 99_999)
"""Updates, for which theirs said how much of the newest weights the average takes with the numbers of their config."""
NEGLIGIBLE = 1e-10
"""Part of the largest norm: less is rounding. A bias before a batch normalization, which takes it away, has no gradient
in exact numbers."""


def networks(recipe: BigGAN = RECIPE) -> Networks:
    """In float64, with attention that is open and a last batch normalization that is not the identity: with their
    initial values nothing would be seen of them."""
    pair = recipe.build(SHAPE, SEED)
    for number, network in enumerate(pair):
        network.double()
        with torch.no_grad():
            for layer in network.modules():
                if isinstance(layer, SelfAttention):
                    layer.gamma.fill_(0.6 - number)
                if isinstance(layer, GroupBatchNorm2d) and layer.weight is not None and layer.bias is not None:
                    layer.weight.add_(0.1 * numbers(layer.channels, seed=11))
                    layer.bias.add_(0.1 * numbers(layer.channels, seed=12))
    return pair


def inputs(count: int = GROUP) -> tuple[Tensor, Tensor, Tensor]:
    """Latents [N, Z], labels [N], images [N, 3, 32, 32] in (-1, 1)."""
    latents = numbers(count, RECIPE.latent_length(SHAPE.image), seed=21)
    images = torch.tanh(numbers(count, *SHAPE.image, seed=22))
    return latents, torch.arange(count) % CLASSES, images


def check_all(published: Published, prefix: str, ours: Mapping[str, Tensor], tolerance: float = 1e-9) -> None:
    """As `Published.check_all`; where theirs is negligible, ours must be so too."""
    theirs = {k.removeprefix(f"{prefix}/"): v for k, v in published.numbers.items() if k.startswith(f"{prefix}/")}
    assert theirs.keys() == ours.keys(), f"{prefix}: {sorted(theirs.keys() ^ ours.keys())}"
    negligible = NEGLIGIBLE * max(value[0].item() for value in theirs.values()) * tolerance / 1e-9
    for name, tensor in ours.items():
        if theirs[name][0] <= negligible:
            assert tensor.norm() <= negligible, f"{prefix}/{name} is not negligible"
        else:
            published.check(f"{prefix}/{name}", fingerprint(tensor), tolerance)
