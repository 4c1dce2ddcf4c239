"""SNGAN and the projection cGAN, held against mimicry's networks, losses, gradients and schedule.

Theirs makes a power iteration in every forward, ours one after each move of D. With the same vectors all agrees.
"""

from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dist_gan.config.command_line import load
from dist_gan.distributed.processes import Processes
from dist_gan.handing_on.programs import write_programs
from dist_gan.networks import SNGAN, Networks
from dist_gan.networks.layers import GroupBatchNorm2d, SpectralNorm, weights_channels_last
from dist_gan.networks.resnet import ClassBatchNorm2d, PooledConv2d, doubling
from dist_gan.objective.losses import Hinge
from dist_gan.objective.objective import Objective
from dist_gan.optim.optimizers import SGD
from dist_gan.shapes import DataShape, ImageShape
from tests.support import tiny
from tests.support.commands import ROOT
from tests.support.published import Published, fingerprint, numbers

N = 8
HINGE = Hinge()
PUBLISHED = Published("sngan")


class Case(NamedTuple):
    side: int
    width: int
    classes: int
    seed: int
    shift: float
    """Of all logits, so that both sides of the hinge are seen."""

    def networks(self, dtype: torch.dtype = torch.float64) -> Networks:
        """One group is the whole batch, as in theirs."""
        recipe = SNGAN(width=self.width, group=N, conditional=self.classes > 0)
        G, D = recipe.build(shape(self.side, self.classes), self.seed)
        with torch.no_grad():
            D.last.layer.bias.add_(self.shift)
        for layer in D.double().modules():
            if isinstance(layer, SpectralNorm):
                layer.after_move()
        return Networks(G.to(dtype), D.to(dtype))

    @property
    def real(self) -> Tensor:
        scales = torch.linspace(0.1, 0.8, N, dtype=torch.float64)
        return numbers(N, 3, self.side, self.side, seed=12) * scales[:, None, None, None]

    @property
    def labels(self) -> Tensor | None:
        return torch.arange(N) % self.classes if self.classes else None


CASES = {
    "sngan32": Case(32, 4, 0, 4, 6.5),
    "sngan48": Case(48, 2, 0, 3, 0.0),
    "sngan64": Case(64, 2, 0, 3, 0.0),
    "sngan128": Case(128, 2, 0, 3, -2.4),
    "cgan32": Case(32, 4, 5, 4, 1.0),
}
LATENTS = numbers(N, 128, seed=11)


def shape(side: int, classes: int = 0) -> DataShape:
    return DataShape(ImageShape(3, side, side), classes)


def gradients(network: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    names, parameters = zip(*network.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


def vanishes(name: str) -> bool:
    """Whether the batch norm after it makes a parameter of G irrelevant: its gradient is rounding alone."""
    return name.startswith("blocks.") and name.endswith("bias") and "norm" not in name


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)], ids=["fp64", "fp32"])
@pytest.mark.parametrize("name", CASES)
def test_forward_losses_and_gradients_are_mimicrys(name: str, dtype: torch.dtype, tolerance: float) -> None:
    case = CASES[name]
    G, D = case.networks(dtype)
    latents, real, labels = LATENTS.to(dtype), case.real.to(dtype), case.labels
    fake = G(latents, labels)
    PUBLISHED.check(f"{name}/images", fingerprint(fake), tolerance)
    PUBLISHED.check(f"{name}/pixels", fake[1, :, :: case.side // 8, :: case.side // 8], tolerance)
    seen, made = D(real, labels), D(fake.detach(), labels)
    PUBLISHED.check(f"{name}/real", seen, tolerance)
    PUBLISHED.check(f"{name}/fake", made, tolerance)
    D_loss = HINGE.discriminator(seen, made).mean()
    PUBLISHED.check(f"{name}/D_loss", D_loss, tolerance)
    G_loss = HINGE.generator(None, D(fake, labels)).mean()
    PUBLISHED.check(f"{name}/G_loss", G_loss, tolerance)
    if case.side == 128 and dtype == torch.float32:
        return  # gradients through this many layers differ by up to 2e-3: a rounding moves some ReLU to its other side
    PUBLISHED.check_all(f"{name}/D_gradients", gradients(D, D_loss), tolerance)
    own = gradients(G, G_loss)
    PUBLISHED.check_all(f"{name}/G_gradients", {n: g for n, g in own.items() if not vanishes(n)}, tolerance)
    largest = max(gradient.norm() for gradient in own.values())
    none = [n for n in own if vanishes(n)]
    assert len(none) == 3 * len(G.blocks)
    for n in none:
        assert own[n].norm() < 1e-2 * tolerance * largest
        assert PUBLISHED.numbers[f"{name}/no_gradient/{n}"].abs().max() < 1e-12 * largest


@pytest.mark.parametrize(
    ("name", "recipe", "classes"),
    [("sngan32", SNGAN(), 0), ("sngan64", SNGAN(width=16), 0), ("cgan32", SNGAN(conditional=True), 10)],
)
def test_initial_weights_are_distributed_as_mimicrys(name: str, recipe: SNGAN, classes: int) -> None:
    """Mean, standard deviation and largest magnitude of every tensor, as far as its size lets one tell."""
    networks = recipe.build(shape(64 if name == "sngan64" else 32, classes), 3)
    counts = [sum(p.numel() for p in network.parameters()) for network in networks]
    assert counts == PUBLISHED.numbers[f"{name}/counts"].tolist()
    for player, network in zip("GD", networks, strict=True):
        names = {key for key in PUBLISHED.numbers if key.startswith(f"{name}/{player}_initial/")}
        assert names == {f"{name}/{player}_initial/{own}" for own, _ in network.named_parameters()}
        for own, tensor in network.named_parameters():
            mean, std, most = PUBLISHED.numbers[f"{name}/{player}_initial/{own}"].tolist()
            if tensor.numel() < 16:
                assert own.endswith("last.bias") or own.endswith("last.layer.bias")
                continue  # too few to say anything
            error = 6 * std / tensor.numel() ** 0.5
            assert abs(tensor.mean().item() - mean) <= error, own
            assert abs(tensor.std(correction=0).item() - std) <= error, own
            if tensor.numel() > 1000:
                assert tensor.abs().max().item() == pytest.approx(most, rel=0.02 if mean < 0.5 else 0.05), own


def test_the_learning_rates_are_mimicrys() -> None:
    """At the start of an update. Within one, ours decays from turn to turn of D, and theirs waits."""
    config = load(ROOT / "configs" / "cifar10_sngan.yaml")
    images = config.discriminator_turns * config.batch_size
    for update, expected in PUBLISHED.numbers["schedule"].T.tolist():
        for optimizer in (config.generator_optimizer, config.discriminator_optimizer):
            assert optimizer.rate(int(update) * images) == pytest.approx(expected, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("size", [1, 4, 7])
def test_doubling_is_torchs_interpolation(size: int) -> None:
    x = numbers(2, 3, size, size, seed=1)
    expected = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(doubling(size, "bilinear").double()(x), expected, rtol=0, atol=1e-14)
    assert torch.equal(doubling(size, "nearest").double()(x), F.interpolate(x, scale_factor=2, mode="nearest"))


def test_a_pooled_convolution_is_a_convolution_and_a_mean() -> None:
    # On a CPU: what was wrong on a GPU is seen by tests/game/test_on_a_gpu.py.
    layer = PooledConv2d(3, 5).double()
    weights_channels_last(layer)
    x = numbers(2, 3, 8, 6, seed=1)
    found, expected = layer(x), F.avg_pool2d(F.conv2d(x, layer.weight, layer.bias, padding=1), 2)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    ours, theirs = (torch.autograd.grad(y.square().sum(), layer.weight)[0] for y in (found, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_each_class_has_its_own_scale_and_shift() -> None:
    layer = ClassBatchNorm2d(3, 4, 5).double()
    with torch.no_grad():
        layer.scale.copy_(numbers(5, 3, seed=1))
        layer.shift.copy_(numbers(5, 3, seed=2))
    x, labels = numbers(8, 3, 4, 4, seed=3), torch.tensor([0, 4, 2, 2, 1, 3, 0, 4])
    plain = GroupBatchNorm2d(3, 4, affine=False).double()(x)
    for i, label in enumerate(labels):
        expected = plain[i] * layer.scale[label][:, None, None] + layer.shift[label][:, None, None]
        torch.testing.assert_close(layer(x, labels)[i], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("side", [8, 16, 256])
def test_other_sizes_work(side: int) -> None:
    recipe = SNGAN(width=1, group=2, upsample="nearest")
    G, D = recipe.build(shape(side), 0)
    images = G(numbers(2, 128, seed=1).float())
    assert images.shape == (2, 3, side, side)
    assert D(images).shape == (2,)


def test_the_class_changes_image_and_logit() -> None:
    G, D = SNGAN(width=2, group=2, conditional=True).build(shape(16, 5), 0)
    latents = numbers(2, 128, seed=1).float()
    zeros, ones = torch.zeros(2, dtype=torch.int64), torch.ones(2, dtype=torch.int64)
    images = G(latents, zeros)
    assert not torch.equal(images, G(latents, ones))
    assert not torch.equal(D(images, zeros), D(images, ones))


def test_every_weight_of_D_has_spectral_normalization() -> None:
    D = SNGAN(width=2, conditional=True).build(shape(32, 5), 0).discriminator
    inside = {id(p) for layer in D.modules() if isinstance(layer, SpectralNorm) for p in layer.parameters()}
    assert {id(p) for p in D.parameters()} == inside


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_a_penalty_can_be_differentiated(dtype: torch.dtype) -> None:
    """Also where the forward is in mixed precision."""
    G, D = SNGAN(width=2, group=2, conditional=True).build(shape(32, 5), 0)
    mixed = dtype == torch.bfloat16
    if dtype == torch.float64:
        G.double()
        D.double()
    labels = torch.tensor([1, 3])
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        images = (
            G(numbers(2, 128, seed=1).to(D.last.u.dtype), labels).float()
            if mixed
            else G(numbers(2, 128, seed=1).to(dtype), labels)
        )
        images = images.detach().requires_grad_()
        logits = D(images, labels)
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    gradient.square().sum().backward()
    for name, parameter in D.named_parameters():
        if "weight" in name:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


def test_what_it_cannot_make_is_said() -> None:
    assert "square images of 32x32 or 16x16" in SNGAN().mistakes(ImageShape(1, 28, 28))[0]
    assert SNGAN().mistakes(ImageShape(3, 64, 32))
    assert SNGAN().mistakes(ImageShape(3, 128, 128)) == []
    assert not SNGAN().mixes_samples


@pytest.mark.parametrize("conditional", [False, True])
def test_microbatches_make_the_same_model(double: Processes, conditional: bool) -> None:
    states = []
    for microbatch in (0, 16):
        recipe = SNGAN(width=1, conditional=conditional)
        options = {"microbatch": microbatch, "discriminator_turns": 2}
        game = tiny.game(double, recipe, Objective(loss=HINGE), optimizer=SGD(learning_rate=0.01), **options)
        states.append(tiny.state(tiny.play(game, 2)))
    assert tiny.difference(*states) < 1e-9


@pytest.mark.parametrize("classes", [0, 5])
def test_it_can_be_exported(classes: int, tmp_path: Path) -> None:
    """For any number of images, with the same result."""
    G = SNGAN(width=2, conditional=classes > 0).build(shape(16, classes), 0).generator
    write_programs(G, tmp_path, onnx=False, program=True)
