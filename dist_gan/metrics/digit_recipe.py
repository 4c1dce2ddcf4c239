"""How the digit network is made: a small classifier of MNIST, trained by this project alone, the same bits each time.

Each batch is two fixed halves. A thread computes the gradient of each, alone (torch's sums depend on how many threads
share one), and both are added in one order. So the weights do not depend on how many cores there are. They do depend on
the kind of processor and on torch's version, which choose other kernels: the SHA-256 of the weights names what is used.
"""

import hashlib
import math
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dist_gan.data.source import READING, Progress, throttled
from dist_gan.distributed.numerics import preserved
from dist_gan.networks.weights import initialize
from dist_gan.randomness import Purpose, draw, permutation, uniform

SIDE, CLASSES = 28, 10
WHAT = "training the digit network, once: about a minute"
CHUNK = 500
"""Images classified at once on a CPU."""


class Recipe(NamedTuple):
    """Everything that determines the weights, apart from the processor and torch."""

    version: int = 1
    """Of the code below: one more whenever it gives other weights."""
    seed: int = 0
    widths: tuple[int, int, int, int] = (32, 32, 64, 128)
    """Channels of the four convolutions."""
    features: int = 64
    """Width of the last hidden layer."""
    epochs: int = 4
    batch: int = 120
    """Images in two halves, each with its own batch statistics."""
    learning_rate: float = 3e-3
    """Of AdamW at its highest: it rises linearly, and falls linearly to 0."""
    warm_up: float = 0.2
    """Part of the training in which it rises."""
    beta2: float = 0.99
    weight_decay: float = 1e-4
    smoothing: float = 0.05
    """Part of the label that is spread over all classes (Szegedy et al. 2016)."""
    rotation: float = 10.0
    """Largest angle, in degrees."""
    scaling: float = 0.1
    shear: float = 0.15
    shift: float = 2.0
    """Largest one, in pixels."""
    measured: int = 7_680
    """How many training images the final statistics of batch normalization are measured on."""

    @property
    def name(self) -> str:
        """16 hexadecimal digits that identify the recipe."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16]


RECIPE = Recipe()
LAYERS = ((5, 2), (3, 1), (3, 2), (3, 1))
"""Kernel and stride of each convolution, without padding: 28 -> 12 -> 10 -> 4 -> 2."""
END = 2
"""Side of the last map."""


def network(recipe: Recipe = RECIPE) -> nn.Sequential:
    """float32 images [n, 1, 28, 28] in [0, 1] -> logits [n, 10]. `hidden` ends with the features [n, F], which are not
    negative."""
    return _network(recipe, normalized=False)


def train(
    images: Tensor, labels: Tensor, recipe: Recipe = RECIPE, progress: Progress = READING.progress
) -> dict[str, Tensor]:
    """The weights of `network(recipe)`. Nothing of the process is changed, and no other random numbers are moved.

    Args:
        images: uint8 [M, 1, 28, 28] on the CPU.
        labels: int64 [M].
        recipe: how.
        progress: called with how many updates are made.
    """
    with preserved(), torch.autocast("cpu", enabled=False):
        torch.set_num_threads(1)
        with ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return _trained(images, labels, recipe, throttled(progress), pool)


@torch.no_grad()
def classified(network: nn.Module, images: Tensor) -> Tensor:
    """uint8 [n, 1, 28, 28] -> int64 [n]."""
    return torch.cat([network(chunk / 255).argmax(1) for chunk in images.split(CHUNK)])


def fingerprint(weights: Mapping[str, Tensor]) -> str:
    """The SHA-256 of all names, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _network(recipe: Recipe, *, normalized: bool) -> nn.Sequential:
    """In training each layer has batch normalization in place of a bias."""
    hidden: OrderedDict[str, nn.Module] = OrderedDict()
    before = 1
    for number, (width, (kernel, stride)) in enumerate(zip(recipe.widths, LAYERS, strict=True)):
        hidden[f"convolution{number}"] = nn.Conv2d(before, width, kernel, stride, bias=not normalized)
        if normalized:
            hidden[f"normalization{number}"] = nn.BatchNorm2d(width, momentum=None)
        hidden[f"relu{number}"] = nn.ReLU()
        before = width
    hidden["flatten"] = nn.Flatten()
    hidden["linear"] = nn.Linear(before * END * END, recipe.features, bias=not normalized)
    if normalized:
        hidden["normalization"] = nn.BatchNorm1d(recipe.features, momentum=None)
    hidden["relu"] = nn.ReLU()
    layers = OrderedDict(hidden=nn.Sequential(hidden), classifier=nn.Linear(recipe.features, CLASSES))
    return nn.Sequential(layers).to(memory_format=torch.channels_last)


def _rule(name: str, parameter: Tensor, layer: nn.Module) -> tuple[str, float, float]:
    """He et al. 2015; normalization starts as the identity."""
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        return "normal", float(name == "weight"), 0.0
    return ("normal", 0.0, 0.0) if name == "bias" else ("normal", 0.0, math.sqrt(2 / parameter[0].numel()))


def _trained(
    images: Tensor, labels: Tensor, recipe: Recipe, progress: Progress, pool: ThreadPoolExecutor
) -> dict[str, Tensor]:
    learning = _network(recipe, normalized=True)
    initialize(learning, recipe.seed, Purpose.DIGIT_WEIGHTS, _rule)
    twin = _network(recipe, normalized=True)  # the same weights; statistics of its own, so that no thread waits
    for own, shared in zip(twin.parameters(), learning.parameters(), strict=True):
        own.data = shared.data
    parameters = list(learning.parameters())
    rate = torch.zeros(())
    betas = (0.9, recipe.beta2)
    optimizer = torch.optim.AdamW(parameters, rate, betas, weight_decay=recipe.weight_decay, fused=True)

    def gradients(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        loss = F.cross_entropy(model(_channels_last(images)), labels, label_smoothing=recipe.smoothing)
        return torch.autograd.grad(loss, list(model.parameters()))

    updates_each = len(images) // recipe.batch
    updates = recipe.epochs * updates_each
    for update in range(updates):
        progress(WHAT, update, updates)
        epoch, place = divmod(update, updates_each)
        if place == 0:
            order = permutation(recipe.seed, epoch, len(images))
        chosen = order[place * recipe.batch : (place + 1) * recipe.batch]
        ordinals = range(update * recipe.batch, (update + 1) * recipe.batch)
        batch = warped(images[chosen] / 255, ordinals, recipe)
        halves = pool.map(gradients, (learning, twin), batch.chunk(2), labels[chosen].chunk(2))
        for parameter, first, second in zip(parameters, *halves, strict=True):
            parameter.grad = (first + second) / 2
        rate.fill_(recipe.learning_rate * _factor((update + 1) / (updates + 1), recipe.warm_up))
        optimizer.step()
    weights = _folded(learning, images[: recipe.measured], recipe)
    progress(WHAT, updates, updates)
    return weights


def _factor(t: float, warm_up: float) -> float:
    return min(t / warm_up, (1 - t) / (1 - warm_up))


def _channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)


def warped(images: Tensor, ordinals: range, recipe: Recipe) -> Tensor:
    """images float32 [n, 1, H, W], black 0 -> the same, each turned, scaled, sheared and moved at random."""
    bits = draw(recipe.seed, {Purpose.DIGIT_WARP: 5}, ordinals)[Purpose.DIGIT_WARP]
    angle, scale, shear, right, down = (2 * uniform(bits) - 1).unbind(1)
    angle = angle * math.radians(recipe.rotation)
    scale = 1 + recipe.scaling * scale
    shift = recipe.shift * 2 / SIDE  # of [-1, 1], which the image fills
    cos, sin = scale * angle.cos(), scale * angle.sin()
    rows = (cos, recipe.shear * shear - sin, shift * right), (sin, cos, shift * down)
    matrix = torch.stack([torch.stack(row, 1) for row in rows], 1)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


@torch.no_grad()
def _folded(learning: nn.Sequential, images: Tensor, recipe: Recipe) -> dict[str, Tensor]:
    """The weights of the network without batch normalization: its statistics on `images` become part of the layers."""
    learning.train()
    for layer in learning.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.reset_running_stats()  # from here on the mean over the chunks, because `momentum` is None
    for chunk in images.split(max(2, recipe.batch)):
        learning(_channels_last(chunk / 255))
    final = network(recipe)
    before = dict(learning.get_submodule("hidden").named_children())
    for name, layer in final.get_submodule("hidden").named_children():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            norm = before[name.replace("convolution", "normalization").replace("linear", "normalization")]
            assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
            assert norm.running_mean is not None
            assert norm.running_var is not None
            factor = norm.weight / (norm.running_var + norm.eps).sqrt()
            plain: Tensor = before[name].get_parameter("weight")
            weight = plain * factor.view(-1, *[1] * (plain.dim() - 1))
            layer.load_state_dict({"weight": weight, "bias": norm.bias - norm.running_mean * factor})
    final.get_submodule("classifier").load_state_dict(learning.get_submodule("classifier").state_dict())
    return {name: tensor.detach().contiguous() for name, tensor in final.state_dict().items()}
