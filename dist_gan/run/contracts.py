"""What must be true of every Part. Tests check the built-in ones; debug mode checks a user's own.

Everything runs on the CPU with small random inputs. The first statement that is not true raises CheckFailed.
"""

import math
import re
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dist_gan.config.schema import Config
from dist_gan.data import Source, Stream
from dist_gan.errors import CheckFailed, RunError
from dist_gan.game.purity import PurityGuard
from dist_gan.game.states import OptimizerState
from dist_gan.metrics.features import Features
from dist_gan.networks import Recipe
from dist_gan.objective.augment import Augment
from dist_gan.objective.losses import Loss
from dist_gan.objective.penalty import DifferencePenalty, GeneratorPenalty, LogitPenalty, Penalty
from dist_gan.optim.optimizers import RATE, Optimizer
from dist_gan.optim.schedules import Schedule
from dist_gan.own_parts import owned, reference_of
from dist_gan.part import Part
from dist_gan.randomness import Purpose, words
from dist_gan.run.objective_contracts import (
    Hold,
    augment_contract,
    copy_of,
    difference_penalty_contract,
    generator_penalty_contract,
    is_close,
    is_finite,
    is_same,
    logit_penalty_contract,
    loss_contract,
    made_up_bits,
    penalty_contract,
)
from dist_gan.sampling.generate import sample_latents
from dist_gan.shapes import DataShape, ImageShape

CPU = torch.device("cpu")
SMALL = ImageShape(3, 8, 8)
CLASSES = 3
"""The number of classes for conditional networks: the data is not opened here."""


def check_own_parts(config: Config) -> int:
    """Check every part of a user's own in `config`; returns how many statements held. Raises CheckFailed."""
    classes = CLASSES if config.networks.is_conditional else 0
    shape = DataShape(config.data.shape, classes)
    return sum(check(part, shape, key) for key, part in owned(config))


def check(part: Part, shape: DataShape = DataShape(SMALL), key: str = "") -> int:  # noqa: B008  # it is immutable
    """Check one Part; returns how many statements held.

    Args:
        part: of any kind.
        shape: of images, for parts that depend on it.
        key: its name in messages.

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
        Loss: loss_contract,
        Penalty: penalty_contract,
        DifferencePenalty: difference_penalty_contract,
        LogitPenalty: logit_penalty_contract,
        GeneratorPenalty: generator_penalty_contract,
        Augment: augment_contract,
        Recipe: _recipe,
        Optimizer: _optimizer,
        Schedule: _schedule,
        Source: _source,
        Features: _features,
    }
    for kind, function in checks.items():
        if isinstance(part, kind):
            try:
                function(part, shape, hold)
            except RunError as error:
                raise error if isinstance(error, CheckFailed) else CheckFailed(f"debug: {name}: {error}") from None
            except Exception as error:
                text = f"{type(error).__name__}: {error}{_place(error, part)}"
                raise CheckFailed(f"debug: {name} fails: {text}") from error
    return held


def _place(error: Exception, part: Part) -> str:
    """Where in the file of `part` the error was raised; empty where it was elsewhere."""
    if (found := reference_of(type(part))) is None:
        return ""
    frames = traceback.walk_tb(error.__traceback__)
    lines = [line for frame, line in frames if frame.f_code.co_filename == found.file]
    return f" ({Path(found.file).name}, line {lines[-1]})" if lines else ""


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
    hold(all(is_same(a, b) for a, b in zip(states[0], states[1], strict=True)), "weights follow from the seed alone")
    hold(not all(is_same(a, b) for a, b in zip(states[0], states[2], strict=True)), "another seed gives other weights")
    G, D = networks
    G.train()
    D.train()
    each = recipe.batch_multiple
    n = 2 * each
    latents = sample_latents(0, range(n), G.latent)
    condition = torch.arange(n) % shape.classes if recipe.is_conditional and shape.classes else None
    g_bits, d_bits = made_up_bits(G.noise_bits, n), made_up_bits(D.noise_bits, n)
    with PurityGuard(networks).watching():
        images = G(latents, condition, g_bits)
        logits = D(images, condition, d_bits)
    hold(images.shape == (n, *shape.image), f"G makes images {[n, *shape.image]}; it makes {list(images.shape)}")
    if G.bounded:
        hold(images.abs().max().item() <= 1, "G's images lie in [-1, 1]")
    hold(logits.shape == (n,), f"D gives one logit a sample, [N]; it gives {list(logits.shape)}")
    hold(is_finite(images) and is_finite(logits), "images and logits are finite")
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
                is_close(G(latents[part], own, g_bits[part]), images[part], 1e-4),
                f"G makes the same images in microbatches of {each}",
            )
            hold(
                is_close(D(images[part], own, d_bits[part]), logits[part], 1e-4),
                f"D gives the same logits in microbatches of {each}",
            )
        hold(is_finite(G.eval()(latents, condition)), "G works in eval mode, without noise")


def _optimizer(optimizer: Optimizer, _: DataShape, hold: Hold) -> None:
    def made() -> tuple[nn.Module, torch.optim.Optimizer, Tensor]:
        network = nn.Linear(3, 2)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.copy_(torch.linspace(-1, 1, parameter.numel()).view(parameter.shape))
        numbers = {name: torch.tensor(number) for name, number in optimizer.numbers(0).items()}
        return network, optimizer.build_with(list(network.parameters()), numbers), numbers[RATE]

    def step(network: nn.Module, built: torch.optim.Optimizer, value: float) -> None:
        for parameter in network.parameters():
            parameter.grad = torch.full_like(parameter, value) * torch.arange(1, parameter.numel() + 1).view_as(
                parameter
            )
        optimizer.step(built, torch.tensor(0.0 if math.isfinite(value) else 1.0))

    network, built, rate = made()
    start = copy_of(network.state_dict())
    for value in (1.0, -0.5, 0.25):
        step(network, built, value)
    hold(not is_same(start, network.state_dict()), "a step moves the weights")
    hold(all(is_finite(p) for p in network.parameters()), "weights stay finite")

    kept, state = copy_of(network.state_dict()), OptimizerState(built, network)
    saved = copy_of(state.state())
    step(network, built, math.nan)
    hold(is_same(kept, network.state_dict()), "a gradient that is not finite leaves the weights as they were")
    hold(is_same(saved, state.state()), "a gradient that is not finite leaves the optimizer's state as it was")

    second, built_again, _rate = made()
    second.load_state_dict(kept)
    OptimizerState(built_again, second).load(saved)
    hold(is_same(saved, OptimizerState(built_again, second).state()), "its state can be saved and loaded")
    step(network, built, 0.75)
    step(second, built_again, 0.75)
    hold(is_same(network.state_dict(), second.state_dict()), "after a load it goes on to the bit")

    kept = copy_of(network.state_dict())
    rate.zero_()
    step(network, built, 1.0)
    hold(
        is_same(kept, network.state_dict()), "it reads the learning rate from its tensor at each step: 0 moves nothing"
    )
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


def _features(features: Features, shape: DataShape, hold: Hold) -> None:
    hold(
        re.fullmatch(r"[a-z0-9.]+", features.resizing) is not None,
        f"resizing is one word of small letters, digits and dots; it is {features.resizing!r}",
    )
    network = features.open(CPU)
    hold(
        re.fullmatch(r"[0-9a-f]{64}", network.sha256) is not None,
        f"sha256 has 64 hexadecimal digits; it is {network.sha256!r}",
    )
    hold(network.sha256 == features.open(CPU).sha256, "sha256 is the same each time it is opened")
    for channels in (1, 3):
        what = f"of images with {channels} channel{'s' if channels > 1 else ''}"
        size = (2, channels, shape.image.height, shape.image.width)
        numbers = words(11, Purpose.GENERATED_DATA, range(2), math.prod(size[1:]))
        images = (numbers & 255).to(torch.uint8).view(size)
        kept = images.clone()
        seen, again, single = network(images), network(images), network(images[:1])
        hold(torch.equal(images, kept), "images stay as they were")
        hold(
            (seen.logits is not None) == (len(network.classes) > 0),
            "there are logits where there are classes, and only there",
        )
        for kind, width in (("features", network.size), ("logits", len(network.classes))):
            values = getattr(seen, kind)
            if values is None:
                continue
            hold(
                values.dtype == torch.float32 and values.shape == (2, width),
                f"{kind} {what} are float32 {[2, width]}; they are {values.dtype} {list(values.shape)}",
            )
            hold(is_finite(values), f"{kind} {what} are finite")
            hold(not values.requires_grad, f"{kind} have no gradient")
            hold(torch.equal(values, getattr(again, kind)), f"the same images give the same {kind} twice, to the bit")
            apart = (getattr(single, kind) - values[:1]).abs().max().item()
            hold(apart <= 1e-5 * values.abs().max().item(), f"{kind} of an image do not depend on the other images")
        hold(not torch.equal(seen.features[0], seen.features[1]), f"it sees a difference {what}")
