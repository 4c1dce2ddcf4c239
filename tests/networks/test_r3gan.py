"""R3GAN against the authors' own code: networks, loss, penalties, gradients, initial weights, sizes, schedules."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dist_gan.config.command_line import load
from dist_gan.networks.r3gan import R3GAN, R3GANDiscriminator, R3GANGenerator
from dist_gan.networks.resampling import Resample, fir_downsample, fir_upsample
from dist_gan.objective.objective import Objective
from dist_gan.objective.penalties import R1
from dist_gan.objective.penalty import Sight
from dist_gan.optim.ema import EMA
from dist_gan.optim.optimizers import Adam
from dist_gan.shapes import DataShape, ImageShape
from tests.support.commands import ROOT
from tests.support.published import Published, numbers
from tests.support.r3gan import CLASSES, GAMMA, INITIAL, SHAPE, VARIANTS, inputs, networks

PUBLISHED = Published("r3gan")
PRESETS = {"cifar10": ("cifar10_r3gan", 32), "ffhq64": ("folder_r3gan_64", 64), "ffhq256": ("folder_r3gan_256", 256)}
"""Name in the published numbers: our config, and the side of its images."""
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4}


@pytest.fixture(params=TOLERANCES, ids=str)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    kind: torch.dtype = request.param
    return kind


@pytest.mark.parametrize("kind", VARIANTS)
def test_networks_loss_penalties_and_all_gradients_are_theirs(kind: str, dtype: torch.dtype) -> None:
    G, D = (network.to(dtype) for network in networks(VARIANTS[kind]))
    latents, labels, real = (each.to(dtype) if each.is_floating_point() else each for each in inputs())
    condition = labels if VARIANTS[kind].conditional else None

    def check(name: str, ours: Tensor) -> None:
        PUBLISHED.check(f"{kind}/{name}", ours, TOLERANCES[dtype])

    fake = G(latents, condition)
    check("images", fake)
    fake = fake.detach()
    check("logits", D(real, condition))
    check("fake_logits", D(fake, condition))

    loss, penalty = Objective.model_validate({"loss": {"name": "relativistic"}}).loss, R1()
    logits, penalties = {}, {}
    for name, images in (("r1", real), ("r2", fake)):
        images = images.clone().requires_grad_()  # noqa: PLW2901
        logits[name] = D(images, condition)
        penalties[name] = penalty.penalty(images, logits[name])
        check(name, 2 * penalties[name])  # theirs are without the half
    losses = loss.discriminator(logits["r1"], logits["r2"])
    check("D_loss", losses)
    (losses + GAMMA * (penalties["r1"] + penalties["r2"])).mean().backward()
    gradients = {name: parameter.grad for name, parameter in D.named_parameters()}
    PUBLISHED.check_all(f"{kind}/D_gradients", gradients, TOLERANCES[dtype])

    losses = loss.generator(D(real, condition), D(G(latents, condition), condition))
    check("G_loss", losses)
    losses.mean().backward()
    gradients = {name: parameter.grad for name, parameter in G.named_parameters()}
    PUBLISHED.check_all(f"{kind}/G_gradients", gradients, TOLERANCES[dtype])


def test_the_penalty_has_the_same_gradient_by_forward_over_reverse() -> None:
    D = networks(VARIANTS["classes"]).discriminator
    _, labels, real = inputs()

    def gradients(method: str) -> tuple[Tensor, ...]:
        images, penalty = real.clone().requires_grad_(), R1(method=method)
        logits = D(images, labels)
        sight = Sight({"real": logits}, {"real": images}, {"real": lambda images: D(images, labels)}, {})
        values = penalty.measure(sight, "r1")
        return torch.autograd.grad(values.sum() + logits.sum(), list(D.parameters()))

    for one, other in zip(gradients("double_backward"), gradients("forward_over_reverse"), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_initial_weights_are_theirs() -> None:
    pair = INITIAL.build(DataShape(ImageShape(3, 32, 32), CLASSES), 0)
    for player, network in zip("GD", pair, strict=True):
        stated = dict(network.named_modules())
        for name, parameter in network.named_parameters():
            theirs = PUBLISHED.numbers[f"initial/{player}/{name}"].item()
            if theirs == 0:
                assert parameter.abs().max() == 0, name
                continue
            layer, _, kind = name.rpartition(".")
            assert kind == "weight"
            assert math.isclose(stated[layer].std, theirs, rel_tol=1e-12), name
            chance = 5 / math.sqrt(2 * parameter.numel())
            assert abs(parameter.std().item() / theirs - 1) < chance, name


@pytest.mark.parametrize("name", PRESETS)
def test_shipped_configs_have_networks_of_their_size(name: str) -> None:
    config, side = PRESETS[name]
    recipe = load(ROOT / "configs" / f"{config}.yaml").networks
    assert isinstance(recipe, R3GAN)
    shape = ImageShape(3, side, side)
    assert not recipe.mistakes(shape)
    with torch.device("meta"):
        pair = (R3GANGenerator(DataShape(shape, 10), recipe), R3GANDiscriminator(DataShape(shape, 10), recipe))
    sizes = [sum(parameter.numel() for parameter in network.parameters()) for network in pair]
    assert sizes == PUBLISHED.numbers[f"parameters/{name}"].tolist()


def test_all_schedules_of_cifar_are_theirs_at_five_times() -> None:
    config = load(ROOT / "configs" / "cifar10_r3gan.yaml")
    times = PUBLISHED.numbers["schedules/images"].tolist()
    assert isinstance(config.ema, EMA)

    def check(name: str, ours: list[float]) -> None:
        PUBLISHED.check(f"schedules/{name}", torch.tensor(ours, dtype=torch.float64), 1e-12)

    for optimizer in (config.generator_optimizer, config.discriminator_optimizer):
        assert isinstance(optimizer, Adam)
        check("learning_rate", [optimizer.rate(t) for t in times])
        check("beta2", [1 - (1 - optimizer.beta2) * optimizer.beta2_schedule.factor(t) for t in times])
        assert (optimizer.beta1, optimizer.eps) == (0, 1e-8)
    assert [penalty.name for penalty in config.objective.penalties] == ["r1", "r2"]
    for penalty in config.objective.penalties:
        check("gamma", [penalty.strength(t, config.batch_size) for t in times])
    check("half_life", [config.ema.half_life(t) for t in times])
    check("strength", [config.augment.numbers(t)["strength"] for t in times])


@pytest.mark.parametrize("taps", [(1, 3, 3, 1), (1, 2, 5)])
def test_resampling_is_that_of_upfirdn2d(taps: tuple[int, ...]) -> None:
    x = numbers(2, 3, 6, 4, seed=31)
    layers: dict[str, nn.Module] = {
        "up": fir_upsample((6, 4), taps),
        "down": fir_downsample((6, 4), taps),
        "filter": Resample((6, 4), taps, padding=(2, 1), gain=4),
    }
    exact = taps == (1, 3, 3, 1)  # others are rounded to float32, ours and theirs
    for name, layer in layers.items():
        found = layer.double()(x)
        PUBLISHED.check(f"resampling/{'-'.join(map(str, taps))}/{name}", found, 1e-12 if exact else 1e-6)


def test_in_mixed_precision_small_maps_stay_in_full_precision() -> None:
    """As the authors' FP16Stages, which leave out the first stage of G and the last of D, and of FFHQ-256 three."""
    recipe = VARIANTS["plain"].model_copy(update={"full_precision_up_to": 8})
    for network, given, full in zip(recipe.build(SHAPE, 0), inputs()[::2], ([0, 1], [1, 2]), strict=True):
        seen: dict[int, torch.dtype] = {}
        for number, stage in enumerate(network.stages):
            stage.register_forward_hook(partial(_note, seen, number))
        with torch.autocast("cpu", torch.bfloat16):
            network(given.float())
        assert seen == {n: torch.float32 if n in full else torch.bfloat16 for n in range(3)}


def _note(seen: dict[int, torch.dtype], number: int, _: nn.Module, __: tuple[Tensor], output: Tensor) -> None:
    seen[number] = output.dtype


def test_what_cannot_be_made_is_said() -> None:
    assert "square images of 32x32 or 16x16" in R3GAN().mistakes(ImageShape(3, 28, 28))[0]
    assert "square" in R3GAN().mistakes(ImageShape(3, 64, 32))[0]
    assert "not full groups of 16" in R3GAN(width=20).mistakes(ImageShape(3, 32, 32))[0]
    assert "0 channels at 64x64" in R3GAN(width=1, group=1).mistakes(ImageShape(3, 64, 64))[0]
    with pytest.raises(ValueError, match="4 is even"):
        R3GAN(kernel=4)


def test_a_patch_makes_maps_smaller_and_images_as_large() -> None:
    shape = DataShape(ImageShape(3, 32, 32))
    recipe = R3GAN(latent=6, width=8, full_width_up_to=4, blocks=1, group=4, patch=4)
    assert recipe.mistakes(shape.image) == []
    G, D = recipe.build(shape, 0)
    assert len(G.stages) == len(D.stages) == 2  # 4x4 and 8x8
    images = numbers(2, 3, 32, 32, seed=3).float()
    assert G(numbers(2, 6, seed=4).float()).shape == images.shape
    assert D(images).shape == (2,)
    # one place of the largest map sees the 16 pixels of its own square alone, before the blocks
    seen = D.first(F.pixel_unshuffle(images, 4))
    images[0, :, 5, 5] += 1
    moved = (D.first(F.pixel_unshuffle(images, 4)) - seen).abs().sum(1) > 0
    assert moved.nonzero().tolist() == [[0, 1, 1]]
    assert "32x32 or 64x64" in recipe.mistakes(ImageShape(3, 16, 16))[0]
