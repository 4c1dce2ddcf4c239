"""The contracts of what an objective consists of: losses, penalties, augmentations. See `dist_gan.run.contracts`."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dist_gan.objective.augment import Augment
from dist_gan.objective.losses import Loss
from dist_gan.objective.penalty import DifferencePenalty, GeneratorPenalty, LogitPenalty, Penalty, Weighted
from dist_gan.randomness import Purpose, draw
from dist_gan.sampling.generate import sample_latents
from dist_gan.shapes import DataShape, ImageShape

N = 6
Hold = Callable[[bool, str], None]
"""Whether it holds, what must hold."""


def loss_contract(loss: Loss, _: DataShape, hold: Hold) -> None:
    """Shapes, each sample for itself, finite values and gradients."""
    for scale in (1.0, 60.0):
        real = torch.linspace(-scale, 0.9 * scale, N, requires_grad=True)
        fake = torch.linspace(0.8 * scale, -scale, N, requires_grad=True)
        part = slice(1, 3)
        for player, values, alone, inputs in (
            ("D", loss.discriminator(real, fake), loss.discriminator(real[part], fake[part]), [real, fake]),
            (
                "G",
                loss.generator(real if loss.pairs else None, fake),
                loss.generator(real[part] if loss.pairs else None, fake[part]),
                [fake],
            ),
        ):
            hold(values.shape == (N,), f"{player}'s loss has one number a sample, [N]; it has {list(values.shape)}")
            hold(is_finite(values), f"{player}'s loss is finite for logits up to {scale:g}")
            hold(is_close(values[part], alone), f"{player}'s loss of a sample does not depend on the other samples")
            gradients = torch.autograd.grad(values.sum(), inputs, allow_unused=True)
            hold(all(g is not None for g in gradients), f"{player}'s loss depends on its logits")
            hold(all(is_finite(g) for g in gradients), f"{player}'s gradients are finite for logits up to {scale:g}")


class _Smooth(nn.Module):
    """A network of one layer without kinks, each sample for itself."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, inputs * outputs).view(inputs, outputs) / inputs**0.5)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x.flatten(1) @ self.weight)


def penalty_contract(penalty: Penalty, shape: DataShape, hold: Hold) -> None:
    """Shape, each sample for itself, a gradient for D's weights."""
    hold(penalty.at in ("real", "fake", "mixed"), "`at` is real, fake or mixed")
    D = _Smooth(math.prod(shape.image), 2)

    def of(images: Tensor) -> Tensor:
        images = images.clone().requires_grad_()
        return penalty.penalty(images, D(images).square().sum(1))

    images = made_up_images(shape.image, N)
    values = of(images)
    hold(values.shape == (N,), f"a penalty has one number a sample, [N]; it has {list(values.shape)}")
    hold(is_finite(values), "a penalty is finite")
    hold(is_close(values[1:3], of(images[1:3])), "the penalty of a sample does not depend on the other samples")
    hold(values.requires_grad, "D's weights get a gradient from the penalty (create_graph=True)")
    (gradient,) = torch.autograd.grad(values.sum(), D.weight, allow_unused=True)
    hold(gradient is not None and is_finite(gradient), "the penalty's gradient by D's weights is finite")
    _strengths(penalty, hold)
    hold(
        not hasattr(penalty, "initial_state"),
        "a penalty of D has no state: what it penalizes follows from its samples alone",
    )


def difference_penalty_contract(penalty: DifferencePenalty, shape: DataShape, hold: Hold) -> None:
    """Shapes, each sample for itself, a gradient for D's weights."""
    hold(penalty.at in ("real", "fake", "mixed"), "`at` is real, fake or mixed")
    D = _Smooth(math.prod(shape.image), 2)
    bits, images = made_up_bits(penalty.bits(shape.image), N), made_up_images(shape.image, N)

    def of(part: slice) -> Tensor:
        near = penalty.near(images[part], bits[part])
        hold(near.shape == images[part].shape, f"what is near has the shape of the images; it has {list(near.shape)}")
        return penalty.penalty(D(images[part]).square().sum(1), D(near).square().sum(1))

    _of_logits(penalty, of(slice(N)), of(slice(1, 3)), D, hold)


def logit_penalty_contract(penalty: LogitPenalty, shape: DataShape, hold: Hold) -> None:
    """Shape, each sample for itself, a gradient for D's weights."""
    D = _Smooth(math.prod(shape.image), 2)
    images = made_up_images(shape.image, N)

    def of(part: slice) -> Tensor:
        return penalty.penalty(D(images[part]).sum(1), D(-0.5 * images[part]).sum(1) + 1)

    _of_logits(penalty, of(slice(N)), of(slice(1, 3)), D, hold)


def _of_logits(penalty: Weighted, values: Tensor, alone: Tensor, D: _Smooth, hold: Hold) -> None:
    hold(values.shape == (N,), f"a penalty has one number a sample, [N]; it has {list(values.shape)}")
    hold(is_finite(values), "a penalty is finite")
    hold(is_close(values[1:3], alone, 1e-4), "the penalty of a sample does not depend on the other samples")
    (gradient,) = torch.autograd.grad(values.sum(), D.weight, allow_unused=True)
    hold(gradient is not None and is_finite(gradient), "the penalty's gradient by D's weights is finite")
    _strengths(penalty, hold)


def generator_penalty_contract(penalty: GeneratorPenalty, shape: DataShape, hold: Hold) -> None:
    """Shape, each sample for itself, a gradient for G's weights."""
    latent = 5
    G = _Smooth(latent, math.prod(shape.image))
    bits = made_up_bits(penalty.bits(shape.image), N)
    state = penalty.initial_state()

    def of(part: slice) -> tuple[Tensor, Tensor | None]:
        latents = sample_latents(0, range(N), latent)[part].requires_grad_()
        return penalty.penalty(G(latents).view(-1, *shape.image), latents, bits[part], state)

    values, observed = of(slice(N))
    alone, _ = of(slice(1, 3))
    hold(values.shape == (N,), f"a penalty has one number a sample, [N]; it has {list(values.shape)}")
    hold(is_finite(values), "a penalty is finite")
    hold(is_close(values[1:3], alone), "the penalty of a sample does not depend on the other samples")
    hold(observed is None or observed.shape == (N,), "what is observed has one number a sample, [N], or is None")
    hold(values.requires_grad, "G's weights get a gradient from the penalty (create_graph=True)")
    (gradient,) = torch.autograd.grad(values.sum(), G.weight, allow_unused=True)
    hold(gradient is not None and is_finite(gradient), "the penalty's gradient by G's weights is finite")
    _strengths(penalty, hold)
    _state(penalty, hold)


def _strengths(penalty: Weighted, hold: Hold) -> None:
    strengths = [penalty.strength(images, 64) for images in range(0, 64_000, 64)]
    hold(all(math.isfinite(s) and s >= 0 for s in strengths), "its strength is finite, and never negative")
    hold(strengths == [penalty.strength(i, 64) for i in range(0, 64_000, 64)], "its strength follows from images alone")


def _state(part: Any, hold: Hold) -> None:
    before = {name: value.double() for name, value in part.initial_state().items()}  # as its runtime twin holds it
    after = part.follow(before, torch.tensor(0.5, dtype=torch.float64), torch.tensor(64.0, dtype=torch.float64))
    hold(after.keys() == before.keys(), "`follow` gives the same names as `initial_state`")
    hold(
        is_same(before, {k: v.double() for k, v in part.initial_state().items()}),
        "`initial_state` and `follow` are pure",
    )
    hold(all(after[k].shape == before[k].shape for k in before), "`follow` changes no shape")


def augment_contract(augment: Augment, shape: DataShape, hold: Hold) -> None:
    """Shape, pure, each sample by its own bits, a gradient through every image."""
    count = augment.bits(tuple(shape.image))
    numbers = {name: torch.tensor(value) for name, value in augment.numbers(10**6).items()}
    bits, state = made_up_bits(count, N), augment.initial_state() | numbers
    images = made_up_images(shape.image, N).requires_grad_()
    kept, random = images.detach().clone(), torch.get_rng_state()
    out = augment(images, bits, state)
    hold(out.shape == images.shape, f"its images have the shape of what came in; it gives {list(out.shape)}")
    hold(is_finite(out), "its images are finite")
    hold(torch.equal(kept, images.detach()), "what came in stays as it was")
    hold(torch.equal(augment(images, bits, state), out), "the same images and bits give the same twice")
    hold(torch.equal(random, torch.get_rng_state()), "it draws no random numbers but its bits")
    hold(is_close(augment(images[1:3], bits[1:3], state), out[1:3]), "a sample does not depend on the other samples")
    (gradient,) = torch.autograd.grad((out * kept).sum(), images)
    hold(is_finite(gradient), "gradients are finite")
    hold(bool((gradient.flatten(1).abs().sum(1) > 0).all()), "a gradient flows through every image")
    if count:
        other = bits.clone()
        other[0] = made_up_bits(count, N + 1)[N]
        hold(torch.equal(augment(images, other, state)[1:], out[1:]), "a sample's bits change that sample alone")
    _state(augment, hold)


def made_up_images(shape: ImageShape, n: int) -> Tensor:
    """[n, C, H, W] in [-1, 1]."""
    return sample_latents(7, range(n), math.prod(shape)).view(n, *shape).clamp(-1, 1)


def made_up_bits(count: int, n: int) -> Tensor:
    """int16 [n, count]."""
    return draw(11, {Purpose.D_TURN_REAL: count}, range(n))[Purpose.D_TURN_REAL]


def is_finite(values: Tensor | None) -> bool:
    """Whether there are values, all finite."""
    return values is not None and bool(values.isfinite().all())


def is_close(a: Tensor, b: Tensor, tolerance: float = 1e-5) -> bool:
    """Whether two tensors are alike, to rounding."""
    return a.shape == b.shape and torch.allclose(a, b, rtol=tolerance, atol=tolerance)


def is_same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    """Whether they have the same names and bits."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def copy_of(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies, which nothing moves."""
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
