"""The training images that are nearest to generated ones: whether G repeats what it has seen."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from dist_gan.data import AnySource, Dataset, Source
from dist_gan.data.fetch import on_disk_only
from dist_gan.data.source import READING, Progress
from dist_gan.data.streamed import Streamed
from dist_gan.errors import ConfigError
from dist_gan.own_parts import reading
from dist_gan.randomness import CPU
from dist_gan.reporting.seeing import View, view_of

COMPARED = 100_000
"""Training images at most that are compared: reading more would take too long for a page."""
AT_ONCE, PIXELS_AT_ONCE = 4000, 2**24
"""Training images of one comparison at most, and how many pixels and channels of theirs."""
FEWEST = 100
"""Training images at least that are compared, however slow the feature network is."""
HELD_OUT = 100
"""Real images that nobody learnt from, which show how near real images are to each other."""
SECONDS = 30.0
"""That a feature network has for the images of one page."""


class Nearest(NamedTuple):
    """The k nearest training images of n generated ones."""

    images: Tensor
    """uint8 [n, k, C, H, W], the nearest first."""
    distances: Tensor
    """float64 [n, k]: see `View.distances`."""
    compared: int
    """How many training images were compared."""
    total: int
    """How many there are."""
    same_data: bool
    """Whether they are the images that the run was trained on, as far as their fingerprint says."""
    view: View
    """In what they were compared."""
    held_out: int = 0
    """How many real images of another split were compared too; 0: there are none."""
    held_out_distance: float = math.nan
    """The median of their distances to their nearest training image."""


def nearest_images(
    generated: Tensor,
    config: Mapping[str, Any],
    data: str,
    k: int,
    trust_code: bool,
    seconds: float = SECONDS,
    progress: Progress = READING.progress,
) -> Nearest:
    """Compare images with the training data that a run's config names.

    Args:
        generated: uint8 [n, C, H, W].
        config: of the run, as plain data.
        data: the fingerprint of its data; empty where it is not known.
        k: how many neighbors of each.
        trust_code: whether code of the user's own, a data source's or a feature network's, may be executed.
        seconds: about so long a feature network may see images: if it is slow, only some are compared.
        progress: called while it works.

    Raises:
        ConfigError: the data cannot be opened; nothing is downloaded.
        DataError: an image cannot be read.
    """
    source = _source(config, trust_code)
    dataset = _opened(source)
    if tuple(dataset.shape) != tuple(generated.shape[1:]):
        now, then = ("x".join(map(str, shape)) for shape in (dataset.shape, generated.shape[1:]))
        raise ConfigError(f"the data has images of {now} now, and the run's are {then}")
    view = view_of(config, generated, trust_code)
    compared = min(COMPARED, len(dataset), max(FEWEST, int(_round(view.per_second * seconds))))
    held_out = _held_out(source)
    ours = view.vectors(torch.cat([generated, held_out]))
    best = ours.new_empty(len(ours), 0)
    found = generated.new_empty(len(generated), 0, *generated.shape[1:])
    done = 0
    for images in _images(dataset, compared):
        theirs = view.vectors(images)
        # Of pixels exact: all of it are integers below 2**53.
        squares = ours.square().sum(1)[:, None] + theirs.square().sum(1)[None] - 2 * ours @ theirs.T
        everything = torch.cat([best, squares], 1)
        best, order = everything.topk(min(k, everything.shape[1]), largest=False)
        old = found.shape[1]
        found = torch.stack(
            [
                torch.stack([found[row, i] if i < old else images[i - old] for i in order[row].tolist()])
                for row in range(len(generated))
            ]
        )
        done += len(images)
        progress("comparing training images", done, compared)
    distances = view.distances(best, ours.shape[1])
    median = float(distances[len(generated) :, 0].median()) if len(held_out) else math.nan
    same = not data or dataset.fingerprint == data
    return Nearest(found, distances[: len(generated)], done, len(dataset), same, view, len(held_out), median)


def _round(number: float) -> float:
    """Down to one digit: 3,217 -> 3,000."""
    if not math.isfinite(number) or number < 1:
        return min(number, COMPARED)
    step = 10 ** math.floor(math.log10(number))
    return number // step * step


def _source(config: Mapping[str, Any], trust_code: bool) -> Source:
    if not isinstance(config.get("data"), Mapping):
        raise ConfigError("the run's config names no data")
    try:
        with reading("run" if trust_code else "known"):
            source: Source = TypeAdapter(AnySource).validate_python(config.get("data"))
    except ValidationError as error:
        raise ConfigError("; ".join(f"data: {each['msg']}" for each in error.errors(include_url=False))) from None
    return source


def _opened(source: Source) -> Dataset:
    with on_disk_only():
        dataset = source.open(CPU)
    if isinstance(dataset, Streamed):
        dataset.workers = 0  # they would live on after the last image that is wanted
    return dataset


def _held_out(source: Source) -> Tensor:
    """uint8 [m, C, H, W]: images of the test split, where the run learnt from the training split alone."""
    if getattr(source, "split", "") == "train":
        dataset = _opened(source.model_copy(update={"split": "test"}))
        return next(_images(dataset, min(HELD_OUT, len(dataset))))
    return torch.empty(0, *source.shape, dtype=torch.uint8)


def _images(dataset: Dataset, count: int) -> Iterator[Tensor]:
    """uint8 [n, C, H, W]: `count` evenly spaced ones of all."""

    def order(ordinals: range) -> Tensor:
        return torch.tensor([i * len(dataset) // count for i in ordinals])

    def choose(ordinals: range, k: int) -> Tensor:
        raise ConfigError("this data makes each image anew from parts of others, so there is no list to compare with")

    step = max(1, min(AT_ONCE, PIXELS_AT_ONCE // math.prod(dataset.shape)))
    ranges = [range(start, min(start + step, count)) for start in range(0, count, step)]
    for images, _ in dataset.batches(ranges, order, choose):
        yield images.cpu()
