"""Our StyleGAN2 beside the authors' own: the same weights and inputs give the same numbers."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from dist_gan.config.command_line import load
from dist_gan.errors import ConfigError
from dist_gan.networks import MLP, StyleGAN2
from dist_gan.networks.base import Networks
from dist_gan.networks.measured import measure
from dist_gan.networks.minibatch_std import MinibatchStd
from dist_gan.networks.stylegan2_generator import StyleGAN2Generator
from dist_gan.networks.stylegan2_layers import EqualizedConv, StyledConv
from dist_gan.objective.path_length import PathLength
from dist_gan.objective.penalties import R1
from dist_gan.optim.ema import EMA, MEASURED, Average
from dist_gan.randomness import Purpose, draw, normal
from dist_gan.sampling.generate import sample_latents
from dist_gan.shapes import DataShape, ImageShape
from tests.support.commands import ROOT
from tests.support.published import Published, numbers
from tests.support.stylegan2 import LARGE, MEAN, PRESETS, PSI, R1_WEIGHT, VARIANTS, Inputs, built, inputs

PUBLISHED = Published("stylegan2")
CLOSE = {torch.float64: 1e-9, torch.float32: 1e-4}
BOTH = pytest.mark.parametrize("dtype", list(CLOSE), ids=["float64", "float32"])
ALL = pytest.mark.parametrize("name", list(VARIANTS))


@BOTH
@ALL
def test_forwards_are_theirs(name: str, dtype: torch.dtype) -> None:
    variant = VARIANTS[name]
    (G, D), given = built(variant, dtype), inputs(variant, dtype=dtype)
    PUBLISHED.check(f"{name}/style", G.mapping(given.latents, given.condition), CLOSE[dtype])
    images = G(given.latents, given.condition, given.noise[:, : G.noise_bits])
    PUBLISHED.check_all(f"{name}/made", {"images": images}, CLOSE[dtype])
    PUBLISHED.check(f"{name}/logits", D(given.real, given.condition), CLOSE[dtype])


@BOTH
@ALL
def test_truncated_images_are_theirs(name: str, dtype: torch.dtype) -> None:
    """With the constant noise, and where the mean style is the same."""
    variant = VARIANTS[name]
    (G, _), given = built(variant, dtype), inputs(variant, dtype=dtype)
    G.mean_style.mean.copy_(numbers(1, variant.recipe.style, seed=MEAN)[0])
    made = G.eval().truncated(PSI)(given.latents, given.condition)
    PUBLISHED.check_all(f"{name}/truncated", {"images": made}, CLOSE[dtype])
    assert (made - G(given.latents, given.condition)).abs().max() > 0.01


def gradients(network: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    """By parameter; zeros where it takes no part."""
    names, parameters = zip(*network.named_parameters(), strict=True)
    found = torch.autograd.grad(loss, parameters, materialize_grads=True, allow_unused=True)
    return dict(zip(names, found, strict=True))


@BOTH
@ALL
def test_the_gradients_of_all_turns_are_theirs(name: str, dtype: torch.dtype) -> None:
    variant, close = VARIANTS[name], CLOSE[dtype]
    networks, given = built(variant, dtype), inputs(variant, dtype=dtype)
    G, D = networks
    noise = given.noise[:, : G.noise_bits]
    fake = G(given.latents, given.condition, noise)

    loss = softplus(-D(fake, given.condition)).mean()
    PUBLISHED.check(f"{name}/Gmain", loss[None], close)
    PUBLISHED.check_all(f"{name}/Gmain by", gradients(G, loss), close)

    fake = fake.detach()
    loss = (softplus(D(fake, given.condition)) + softplus(-D(given.real, given.condition))).mean()
    PUBLISHED.check(f"{name}/Dmain", loss[None], close)
    PUBLISHED.check_all(f"{name}/Dmain by", gradients(D, loss), close)

    real = given.real.requires_grad_()
    loss = R1_WEIGHT * 16 * R1().penalty(real, D(real, given.condition)).mean()
    PUBLISHED.check(f"{name}/Dreg", loss[None], close)
    PUBLISHED.check_all(f"{name}/Dreg by", gradients(D, loss), close)

    loss, mean = path_length(networks, given)
    PUBLISHED.check(f"{name}/Greg", loss[None], close)
    PUBLISHED.check(f"{name}/path length", mean[None], close)
    PUBLISHED.check_all(f"{name}/Greg by", gradients(G, loss), close)


def path_length(networks: Networks, given: Inputs) -> tuple[Tensor, Tensor]:
    """The penalty of half of the batch, with a mean that includes the batch itself, as theirs; and that mean.

    Their gradient flows through the mean too.
    """
    G = networks.generator
    condition = None if given.condition is None else given.condition[::2]
    images, styles = G(given.latents[::2], condition, given.noise[::2, : G.noise_bits], with_styles=True)
    part = PathLength()
    old = torch.full((), 0.3, dtype=images.dtype)
    _, lengths = part.penalty(images, styles, given.y[::2], {"mean": old})
    assert lengths is not None
    state = part.follow({"mean": old}, lengths.mean(), torch.tensor(4.0))
    values, _ = part.penalty(images, styles, given.y[::2], state)
    return part.weight * 4 * values.mean(), state["mean"]


def test_initial_weights_are_as_theirs() -> None:
    """Mean and deviation of every tensor of a network that is large enough."""
    for player, network in zip("GD", built(LARGE, torch.float64, moved=False), strict=True):
        for name, value in network.state_dict().items():
            mean, std = PUBLISHED.numbers[f"first/{player}/{name}"].tolist()
            apart = 6 * std / value.numel() ** 0.5
            assert abs(value.mean().item() - mean) <= apart, name
            assert abs(value.std(correction=0).item() - std) <= apart, name


def test_presets_have_as_many_parameters_as_theirs() -> None:
    for name, side in PRESETS.items():
        recipe = load(ROOT / "configs" / f"{name}.yaml").networks
        networks = recipe.build(DataShape(ImageShape(3, side, side), 10 if recipe.is_conditional else 0), 0)
        found = [float(sum(p.numel() for p in network.parameters())) for network in networks]
        assert found == PUBLISHED.numbers[f"parameters/{name}"].tolist(), name


def small(**options: Any) -> StyleGAN2:
    sizes = {"latent": 8, "style": 8, "mapping_layers": 2, "channel_base": 64, "channel_max": 8}
    return StyleGAN2(**{**sizes, **options})


SHAPE = DataShape(ImageShape(3, 16, 16))


def bits(count: int, n: int) -> Tensor:
    return draw(0, {Purpose.G_TURN_FAKE: count}, range(n))[Purpose.G_TURN_FAKE]


def test_each_image_mixes_styles_for_itself() -> None:
    """The first layers have the image's own style, the others that of its second latent, from a random layer on."""
    G, n = small(style_mixing=0.7).build(SHAPE, 0).generator, 2000
    latents, noise = sample_latents(0, range(n), G.latent), bits(G.noise_bits, n)
    _, styles = G(latents, None, noise, with_styles=True)
    own = G.mapping(latents, None)
    other = G.mapping(normal(noise[:, G.map_bits + 2 :]), None)
    is_own = (styles == own[:, None]).all(2)
    assert ((styles == other[:, None]).all(2) | is_own).all()
    layers = is_own.sum(1)
    assert (is_own == (torch.arange(G.styles) < layers[:, None])).all()
    mixed = layers < G.styles
    assert mixed.float().mean().item() == pytest.approx(0.7, abs=0.04)
    counts = torch.bincount(layers[mixed], minlength=G.styles) / mixed.sum()
    assert counts[0] == 0
    assert (counts[1:] - 1 / (G.styles - 1)).abs().max() < 0.04
    _, plain = G(latents, None, with_styles=True)
    assert torch.equal(plain, own[:, None].expand_as(plain))


def test_noise_moves_nothing_until_its_strength_is_learnt() -> None:
    G = small(style_mixing=0).build(SHAPE, 0).generator
    latents, noise = sample_latents(0, range(4), G.latent), bits(G.noise_bits, 4)
    assert G.noise_bits == 16 + 2 * (64 + 256)
    assert torch.equal(G(latents, None, noise), G(latents))
    with torch.no_grad():
        for name, parameter in G.named_parameters():
            if name.endswith("noise_strength"):
                parameter.fill_(0.5)
    one = noise.clone()
    one[2] = -one[2]
    a, b = G(latents, None, noise), G(latents, None, one)
    assert (a != b).flatten(1).any(1).tolist() == [False, False, True, False]
    assert not torch.equal(G(latents), a)


def test_the_minibatch_deviation_is_that_of_each_group() -> None:
    layer, x = MinibatchStd(4), numbers(12, 3, 5, 5, seed=4)
    y = layer(x)
    assert torch.equal(y[:, :3], x)
    expected = [part.std(0, correction=0).mean() for part in x.split(4)]
    torch.testing.assert_close(y[:, 3, 0, 0], torch.stack(expected).repeat_interleave(4), rtol=1e-6, atol=1e-6)
    assert torch.equal(layer(x[4:8]), y[4:8])
    with pytest.raises(AssertionError, match="full groups of 4"):
        layer(x[:6])


def test_the_mean_style_is_measured_and_truncation_pulls_towards_it() -> None:
    G = small().build(SHAPE, 0).generator.eval()
    latents = sample_latents(0, range(512), G.latent)
    found = measure(G, latents)
    assert found.keys() == {"mean_style.mean"}
    torch.testing.assert_close(found["mean_style.mean"], G.mapping(latents, None).mean(0))
    G.load_state_dict(found, strict=False)
    assert torch.equal(G.truncated(1)(latents[:3]), G(latents[:3]))
    one = G.truncated(0)(latents[:3])
    torch.testing.assert_close(one, one[:1].expand_as(one))
    half = G.truncated(0.5)
    assert half(latents[:64]).std(0).mean() < G(latents[:64]).std(0).mean()
    assert G.mean_style.psi == 1
    with pytest.raises(ConfigError, match="truncation: MLPGenerator has none"):
        MLP().build(SHAPE, 0).generator.truncated(0.5)


def test_the_average_has_a_mean_style_that_fits_its_weights() -> None:
    G = small().build(SHAPE, 0).generator
    average = Average(EMA(), G, seed=0)
    with torch.no_grad():
        G.get_parameter("mapping.layers.0.weight").mul_(2)
    average.follow(torch.tensor(1.0))
    ready = average.ready()
    assert torch.equal(ready.mean_style.mean, measure(ready, measured_latents(ready))["mean_style.mean"])
    assert torch.equal(average.state()["mean_style.mean"], ready.mean_style.mean)
    assert torch.equal(G.mean_style.mean, torch.zeros(8)), "training does not move it"


def measured_latents(G: StyleGAN2Generator) -> Tensor:
    drawn = draw(0, {Purpose.STATISTICS: G.latent}, range(MEASURED))
    return normal(drawn[Purpose.STATISTICS])


@pytest.mark.parametrize("mixed", [0, 1, 2, 9])
def test_mixed_precision_where_it_is_asked_for(mixed: int) -> None:
    """The maps of the largest sizes; styles, images and what follows the last map stay in full precision."""
    G, D = small(mixed_sizes=mixed, generator_architecture="skip").build(SHAPE, 0)
    seen: dict[str, torch.dtype] = {}

    def note(name: str) -> Any:
        return lambda layer, inputs, output: seen.update({name: output.dtype})

    for name, layer in [*G.named_modules(), *D.named_modules()]:
        layer.register_forward_hook(note(name)) if isinstance(layer, EqualizedConv | StyledConv) else None
    n = 8
    with torch.autocast("cpu", torch.bfloat16):
        images = G(sample_latents(0, range(n), G.latent), None, bits(G.noise_bits, n))
        logits = D(images)
    assert images.dtype == logits.dtype == torch.float32
    half = [dtype == torch.bfloat16 for name, dtype in seen.items() if "convolutions" in name]
    assert half == [False] * (len(half) - 2 * min(mixed, 2)) + [True] * 2 * min(mixed, 2)
    assert (seen["blocks.0.second"] == torch.bfloat16) == (mixed > 0)
    assert (seen["blocks.1.second"] == torch.bfloat16) == (mixed > 1)
    assert seen["convolution"] == torch.float32
    (logits.sum() + images.square().sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for net in (G, D) for p in net.parameters())


def test_which_images_it_makes() -> None:
    for side in (8, 32, 512):
        assert StyleGAN2().mistakes(ImageShape(1, side, side)) == []
    for shape in (ImageShape(1, 28, 28), ImageShape(3, 32, 64), ImageShape(3, 1024, 1024), ImageShape(3, 4, 4)):
        assert "stylegan2 makes square images of" in StyleGAN2().mistakes(shape)[0]
    assert "512x512 or 256x256" in StyleGAN2().mistakes(ImageShape(3, 1024, 1024))[0]
    G, D = small().build(DataShape(ImageShape(1, 8, 8)), 0)
    assert D(G(sample_latents(0, range(4), 8))).shape == (4,)


def test_classes_reach_both_networks_where_it_is_conditional() -> None:
    shape, n = DataShape(SHAPE.image, 5), 8
    zeros, ones = torch.zeros(n, dtype=torch.int64), torch.ones(n, dtype=torch.int64)
    for conditional in (True, False):
        G, D = small(conditional=conditional).build(shape, 0)
        latents = sample_latents(0, range(n), G.latent)
        images = G(latents, zeros)
        assert G.classes == (5 if conditional else 0)
        assert torch.equal(images, G(latents, ones)) != conditional
        assert torch.equal(D(images, zeros), D(images, ones)) != conditional
