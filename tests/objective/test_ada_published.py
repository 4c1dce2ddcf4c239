"""ADA against the authors' own code: R3GAN's and StyleGAN2-ADA's training/augment.py, which give the same to the bit.

They ran in float64 on the images, random numbers and directions below, with their margin at its largest (see
`AS_IS` for the one they choose).
"""

import pytest
import torch
from torch import Tensor

from dist_gan.objective.ada import ADA, PIPES
from dist_gan.randomness import Purpose, draw
from tests.support.published import Published, fingerprint, numbers

N = 6
AS_IS = 1e-6
"""Theirs continues an image only as far as the corners of the batch's images go. Its filters reach further, and read
zeros there. Ours always continues it as far as reflection can."""
OFF = dict.fromkeys(PIPES["bgcfnc"], 0.0)
BGC = dict.fromkeys(PIPES["bgc"], 1.0)
R3GAN = dict.fromkeys(PIPES["bg"], 1.0) | dict.fromkeys(PIPES["color"], 0.5) | {"cutout": 1.0}
SHAPES = [(3, 16, 16), (3, 13, 20), (1, 15, 11)]
FILTERED = (3, 23, 22)
"""Theirs cannot filter images of fewer than 22 pixels."""
CASES = [(switch, FILTERED if switch == "imgfilter" else SHAPES[0], 1.0, {switch: 1.0}) for switch in PIPES["bgcfnc"]]
PIPE_CASES = [
    (f"{name}/{'x'.join(map(str, shape))}/{strength:g}", shape, strength, factors)
    for name, factors in (("bgc", BGC), ("r3gan", R3GAN))
    for shape in SHAPES
    for strength in (1.0, 0.6)
]
CASES += [*PIPE_CASES, ("bgcfnc/3x23x22/0.6", FILTERED, 0.6, dict.fromkeys(PIPES["bgcfnc"], 1.0))]


@pytest.fixture(scope="module")
def published() -> Published:
    return Published("ada")


def augmented(images: Tensor, strength: float, factors: dict[str, float]) -> Tensor:
    augment = ADA.model_validate({"target": None, **OFF, **factors})
    shape = images.shape[1:]
    bits = draw(3, {Purpose.D_TURN_REAL: augment.bits(shape)}, range(N))[Purpose.D_TURN_REAL]
    return augment(images, bits, {"strength": torch.tensor(strength)})


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)], ids=["fp64", "fp32"])
@pytest.mark.parametrize(("key", "shape", "strength", "factors"), CASES, ids=[case[0] for case in CASES])
def test_images_and_both_derivatives_are_theirs(
    published: Published,
    key: str,
    shape: tuple[int, int, int],
    strength: float,
    factors: dict[str, float],
    dtype: torch.dtype,
    tolerance: float,
) -> None:
    images, weights, direction = (numbers(N, *shape, seed=seed, dtype=dtype) for seed in (5, 6, 7))
    out = augmented(images.requires_grad_(), strength, factors)
    (gradient,) = torch.autograd.grad((weights * out**3).sum(), images, create_graph=True)
    (second,) = torch.autograd.grad((direction * gradient).sum(), images)
    for name, ours in (("images", out), ("gradient", gradient), ("second", second)):
        published.check(f"{key}/{name}", fingerprint(ours), tolerance)
    if f"{key}/first_image" in published.numbers:
        published.check(f"{key}/first_image", out[0], tolerance)


@pytest.mark.parametrize(("key", "shape", "strength", "factors"), PIPE_CASES, ids=[case[0] for case in PIPE_CASES])
def test_with_their_margin_they_differ_hardly(
    published: Published, key: str, shape: tuple[int, int, int], strength: float, factors: dict[str, float]
) -> None:
    out = augmented(numbers(N, *shape, seed=5), strength, factors)
    published.check(f"{key}/as_is", fingerprint(out), AS_IS)


def test_the_strength_adapts_as_theirs(published: Published) -> None:
    """Five changes, each after four updates of 64 images, in one of which it would become negative."""
    augment = ADA(rise_images=2_000, every=256)
    state = {name: value.double() for name, value in augment.initial_state().items()}
    found = []
    for change, shift in enumerate((0.0, 2.0, 2.0, 0.0, 2.0)):
        logits = numbers(256, seed=100 + change) + shift
        for batch in logits.split(64):
            signs = augment.observe(batch, batch)
            state = augment.follow(state, signs.mean(), torch.tensor(64.0, dtype=torch.float64))
            found.append(state["strength"])
    published.check("strength", torch.stack(found[3::4]), 1e-12)
    assert [x.item() for x in found[:4]] == [0] * 4
    assert all(found[i].item() == found[i - i % 4 - 1].item() for i in range(4, 20) if i % 4 != 3)
