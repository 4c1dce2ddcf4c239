"""What every Part must hold, whoever wrote it. Tests ask it of the built-in ones, debug mode of a user's own.

Everything runs on the CPU with small made-up inputs. The first statement that does not hold raises CheckFailed.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dist_gan.config.schema import Config
from dist_gan.data import Source, Stream
from dist_gan.errors import CheckFailed, RunError
from dist_gan.game.player import OptimizerState
from dist_gan.game.purity import PurityGuard
from dist_gan.networks import Recipe
from dist_gan.objective.augment import Augment
from dist_gan.objective.losses import Loss
from dist_gan.objective.penalties import GeneratorPenalty, Penalty
from dist_gan.optim.optimizers import Optimizer
from dist_gan.optim.schedules import Schedule
from dist_gan.own_parts import owned
from dist_gan.part import Part
from dist_gan.randomness import Purpose, draw
from dist_gan.sampling.generate import sample_latents
from dist_gan.shapes import DataShape, ImageShape

CPU = torch.device("cpu")
N = 6
SMALL = ImageShape(3, 8, 8)
CLASSES = 3
"""Of conditional networks, for which the data is not opened here."""

Hold = Callable[[bool, str], None]
"""Whether it holds, what must hold."""


def check_own_parts(config: Config) -> int:
    """Check every part of a user's own in `config`; returns how many statements held. Raises CheckFailed."""
    classes = CLASSES if config.networks.is_conditional else 0
    shape = DataShape(config.data.shape, classes)
    return sum(check(part, shape, key) for key, part in owned(config))


def check(part: Part, shape: DataShape = DataShape(SMALL), key: str = "") -> int:  # noqa: B008  # it is immutable
    """Check one Part; returns how many statements held.

    Args:
        part: of any kind.
        shape: of images, for those that care.
        key: what messages call it.

    Raises:
        CheckFailed: a statement does not hold, or the part fails.
    """
    name = f"{key or 'part'} ({type(part).__name__})"
    held = 0

    def hold(holds: bool, what: str) -> None:
        nonlocal held
        if not holds:
            raise CheckFailed(f"debug: {name}: it must hold that {what}")
        held += 1

    checks: Mapping[type[Part], Callable[[Any, DataShape, Hold], None]] = {
        Loss: _loss,
        Penalty: _penalty,
        GeneratorPenalty: _generator_penalty,
        Augment: _augment,
        Recipe: _recipe,
        Optimizer: _optimizer,
        Schedule: _schedule,
        Source: _source,
    }
    for kind, function in checks.items():
        if isinstance(part, kind):
            try:
                function(part, shape, hold)
            except RunError as error:
                raise error if isinstance(error, CheckFailed) else CheckFailed(f"debug: {name}: {error}") from None
            except Exception as error:
                raise CheckFailed(f"debug: {name} fails: {type(error).__name__}: {error}") from error
    return held


def _loss(loss: Loss, _: DataShape, hold: Hold) -> None:
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
            hold(_finite(values), f"{player}'s loss is finite for logits up to {scale:g}")
            hold(_close(values[part], alone), f"{player}'s loss of a sample does not depend on the other samples")
            gradients = torch.autograd.grad(values.sum(), inputs, allow_unused=True)
            hold(all(g is not None for g in gradients), f"{player}'s loss depends on its logits")
            hold(all(_finite(g) for g in gradients), f"{player}'s gradients are finite for logits up to {scale:g}")


class _Smooth(nn.Module):
    """A network of one layer without kinks, each sample for itself."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, inputs * outputs).view(inputs, outputs) / inputs**0.5)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x.flatten(1) @ self.weight)


def _penalty(penalty: Penalty, shape: DataShape, hold: Hold) -> None:
    hold(penalty.at in ("real", "fake", "mixed"), "`at` is real, fake or mixed")
    D = _Smooth(math.prod(shape.image), 2)

    def of(images: Tensor) -> Tensor:
        images = images.clone().requires_grad_()
        return penalty.penalty(images, D(images).square().sum(1))

    images = _images(shape.image, N)
    values = of(images)
    hold(values.shape == (N,), f"a penalty has one number a sample, [N]; it has {list(values.shape)}")
    hold(_finite(values), "a penalty is finite")
    hold(_close(values[1:3], of(images[1:3])), "the penalty of a sample does not depend on the other samples")
    hold(values.requires_grad, "D's weights get a gradient from the penalty (create_graph=True)")
    (gradient,) = torch.autograd.grad(values.sum(), D.weight, allow_unused=True)
    hold(gradient is not None and _finite(gradient), "the penalty's gradient by D's weights is finite")
    _strengths(penalty, hold)
    _state(penalty, hold)


def _generator_penalty(penalty: GeneratorPenalty, shape: DataShape, hold: Hold) -> None:
    latent = 5
    G = _Smooth(latent, math.prod(shape.image))
    bits = _bits(penalty.bits(shape.image), N)
    state = penalty.initial_state()

    def of(part: slice) -> tuple[Tensor, Tensor | None]:
        latents = sample_latents(0, range(N), latent)[part].requires_grad_()
        return penalty.penalty(G(latents).view(-1, *shape.image), latents, bits[part], state)

    values, observed = of(slice(N))
    alone, _ = of(slice(1, 3))
    hold(values.shape == (N,), f"a penalty has one number a sample, [N]; it has {list(values.shape)}")
    hold(_finite(values), "a penalty is finite")
    hold(_close(values[1:3], alone), "the penalty of a sample does not depend on the other samples")
    hold(observed is None or observed.shape == (N,), "what is observed has one number a sample, [N], or is None")
    hold(values.requires_grad, "G's weights get a gradient from the penalty (create_graph=True)")
    (gradient,) = torch.autograd.grad(values.sum(), G.weight, allow_unused=True)
    hold(gradient is not None and _finite(gradient), "the penalty's gradient by G's weights is finite")
    _strengths(penalty, hold)
    _state(penalty, hold)


def _strengths(penalty: Penalty | GeneratorPenalty, hold: Hold) -> None:
    strengths = [penalty.strength(images, 64) for images in range(0, 64_000, 64)]
    hold(all(math.isfinite(s) and s >= 0 for s in strengths), "its strength is finite, and never negative")
    hold(strengths == [penalty.strength(i, 64) for i in range(0, 64_000, 64)], "its strength follows from images alone")


def _state(part: Any, hold: Hold) -> None:
    before = part.initial_state()
    after = part.follow(before, torch.tensor(0.5, dtype=torch.float64))
    hold(after.keys() == before.keys(), "`follow` gives the same names as `initial_state`")
    hold(_same(before, part.initial_state()), "`initial_state` and `follow` are pure")
    hold(all(after[k].shape == before[k].shape for k in before), "`follow` changes no shape")


def _augment(augment: Augment, shape: DataShape, hold: Hold) -> None:
    count = augment.bits(tuple(shape.image))
    bits, state = _bits(count, N), augment.initial_state()
    images = _images(shape.image, N).requires_grad_()
    kept, random = images.detach().clone(), torch.get_rng_state()
    out = augment(images, bits, state)
    hold(out.shape == images.shape, f"its images have the shape of what came in; it gives {list(out.shape)}")
    hold(_finite(out), "its images are finite")
    hold(torch.equal(kept, images.detach()), "what came in stays as it was")
    hold(torch.equal(augment(images, bits, state), out), "the same images and bits give the same twice")
    hold(torch.equal(random, torch.get_rng_state()), "it draws no random numbers but its bits")
    hold(_close(augment(images[1:3], bits[1:3], state), out[1:3]), "a sample does not depend on the other samples")
    (gradient,) = torch.autograd.grad((out * kept).sum(), images)
    hold(_finite(gradient), "gradients are finite")
    hold(bool((gradient.flatten(1).abs().sum(1) > 0).all()), "a gradient flows through every image")
    if count:
        other = bits.clone()
        other[0] = _bits(count, N + 1)[N]
        hold(torch.equal(augment(images, other, state)[1:], out[1:]), "a sample's bits change that sample alone")
    _state(augment, hold)


def _recipe(recipe: Recipe, shape: DataShape, hold: Hold) -> None:
    mistakes = recipe.mistakes(shape.image)
    hold(not mistakes, f"it can make images of {'x'.join(map(str, shape.image))} ({'; '.join(mistakes)})")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        networks = recipe.build(shape, 3)
        torch.manual_seed(2)
        again = recipe.build(shape, 3)
        other = recipe.build(shape, 4)
    states = [[net.state_dict() for net in pair] for pair in (networks, again, other)]
    hold(all(_same(a, b) for a, b in zip(states[0], states[1], strict=True)), "weights follow from the seed alone")
    hold(not all(_same(a, b) for a, b in zip(states[0], states[2], strict=True)), "another seed gives other weights")
    G, D = (network.train() for network in networks)
    each = recipe.batch_multiple
    n = 2 * each
    latents = sample_latents(0, range(n), G.latent)
    condition = torch.arange(n) % shape.classes if recipe.is_conditional and shape.classes else None
    g_bits, d_bits = _bits(G.noise_bits, n), _bits(D.noise_bits, n)
    with PurityGuard(networks).watching():
        images = G(latents, condition, g_bits)
        logits = D(images, condition, d_bits)
    hold(images.shape == (n, *shape.image), f"G makes images {[n, *shape.image]}; it makes {list(images.shape)}")
    hold(images.abs().max().item() <= 1, "G's images lie in [-1, 1]")
    hold(logits.shape == (n,), f"D gives one logit a sample, [N]; it gives {list(logits.shape)}")
    hold(_finite(images) and _finite(logits), "images and logits are finite")
    (logits.sum() + images.square().sum()).backward()
    for player, network in zip("GD", networks, strict=True):
        for name, parameter in network.named_parameters():
            hold(
                not parameter.requires_grad or parameter.grad is not None,
                f"{player}.{name} takes part in every forward (its gradient is missing)",
            )
    with torch.no_grad():
        for part in (slice(each), slice(each, n)):
            own = None if condition is None else condition[part]
            hold(
                _close(G(latents[part], own, g_bits[part]), images[part], 1e-4),
                f"G makes the same images in microbatches of {each}",
            )
            hold(
                _close(D(images[part], own, d_bits[part]), logits[part], 1e-4),
                f"D gives the same logits in microbatches of {each}",
            )
        hold(_finite(G.eval()(latents, condition)), "G works in eval mode, without noise")


def _optimizer(optimizer: Optimizer, _: DataShape, hold: Hold) -> None:
    def made() -> tuple[nn.Module, torch.optim.Optimizer, Tensor]:
        network, rate = nn.Linear(3, 2), torch.tensor(optimizer.learning_rate)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.copy_(torch.linspace(-1, 1, parameter.numel()).view(parameter.shape))
        return network, optimizer.build(list(network.parameters()), rate), rate

    def step(network: nn.Module, built: torch.optim.Optimizer, value: float) -> None:
        for parameter in network.parameters():
            parameter.grad = torch.full_like(parameter, value) * torch.arange(1, parameter.numel() + 1).view_as(
                parameter
            )
        optimizer.step(built, torch.tensor(0.0 if math.isfinite(value) else 1.0))

    network, built, rate = made()
    start = _copy(network.state_dict())
    for value in (1.0, -0.5, 0.25):
        step(network, built, value)
    hold(not _same(start, network.state_dict()), "a step moves the weights")
    hold(all(_finite(p) for p in network.parameters()), "weights stay finite")

    kept, state = _copy(network.state_dict()), OptimizerState(built, network)
    saved = _copy(state.state())
    step(network, built, math.nan)
    hold(_same(kept, network.state_dict()), "a gradient that is not finite leaves the weights as they were")
    hold(_same(saved, state.state()), "a gradient that is not finite leaves the optimizer's state as it was")

    second, built_again, _rate = made()
    second.load_state_dict(kept)
    OptimizerState(built_again, second).load(saved)
    hold(_same(saved, OptimizerState(built_again, second).state()), "its state can be saved and loaded")
    step(network, built, 0.75)
    step(second, built_again, 0.75)
    hold(_same(network.state_dict(), second.state_dict()), "after a load it goes on to the bit")

    kept = _copy(network.state_dict())
    rate.zero_()
    step(network, built, 1.0)
    hold(_same(kept, network.state_dict()), "it reads the learning rate from its tensor at each step (0 moves nothing)")
    if type(optimizer).model_fields.get("schedule"):
        _schedule(optimizer.schedule, DataShape(SMALL), hold)


def _schedule(schedule: Schedule, _: DataShape, hold: Hold) -> None:
    moments = [0, 1, 64, 1_000, 100_000, 10_000_000, 10**12]
    factors = [schedule.factor(images) for images in moments]
    hold(all(math.isfinite(factor) and factor >= 0 for factor in factors), "factors are finite, and never negative")
    again = [schedule.factor(images) for images in reversed(moments)][::-1]
    hold(factors == again, "a factor follows from the images seen alone, in whatever order it is asked for")


def _source(source: Source, _: DataShape, hold: Hold) -> None:
    first, second = source.open(CPU), source.open(CPU)
    hold(first.fingerprint == second.fingerprint != "", "its fingerprint is the same each time it is opened")
    hold(len(first) == len(second) > 0, "it has images, the same number each time")
    hold(tuple(first.shape) == tuple(source.shape), f"its images have its shape, {tuple(source.shape)}")
    count = min(4, len(first))

    def read(dataset: Any) -> tuple[Tensor, Tensor]:
        stream = Stream(dataset, seed=0, batch_size=count, rank=0, processes=1, device=CPU)
        raw: tuple[Tensor, Tensor] = next(dataset.batches(iter([range(count)]), stream._order, stream._choose))
        return raw

    (images, labels), (images_again, labels_again) = read(first), read(second)
    hold(images.dtype == torch.uint8, f"images are uint8; they are {images.dtype}")
    hold(images.shape == (count, *source.shape), f"a batch is {[count, *source.shape]}; it is {list(images.shape)}")
    hold(torch.equal(images, images_again) and torch.equal(labels, labels_again), "the same samples come each time")
    hold(len(labels) in (0, count), "there is a label for each image, or none")
    if len(labels):
        inside = bool(((labels >= 0) & (labels < len(first.classes))).all())
        hold(labels.dtype == torch.int64 and inside, "labels are int64 numbers of its classes")


def _images(shape: ImageShape, n: int) -> Tensor:
    return sample_latents(7, range(n), math.prod(shape)).view(n, *shape).clamp(-1, 1)


def _bits(count: int, n: int) -> Tensor:
    return draw(11, {Purpose.D_TURN_REAL: count}, range(n))[Purpose.D_TURN_REAL]


def _finite(values: Tensor | None) -> bool:
    return values is not None and bool(values.isfinite().all())


def _close(a: Tensor, b: Tensor, tolerance: float = 1e-5) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=tolerance, atol=tolerance)


def _same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def _copy(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
