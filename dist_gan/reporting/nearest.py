"""The training images that are nearest to generated ones: whether G repeats what it has seen."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from dist_gan.data import AnySource, Dataset, Source
from dist_gan.data.fetch import on_disk_only
from dist_gan.data.streamed import Streamed
from dist_gan.errors import ConfigError
from dist_gan.own_parts import reading
from dist_gan.randomness import CPU

COMPARED = 100_000
"""Training images at most that are compared: reading more would take too long for a page."""
AT_ONCE = 500
"""Training images of one comparison."""


class Nearest(NamedTuple):
    """The k nearest training images of n generated ones."""

    images: Tensor
    """uint8 [n, k, C, H, W], the nearest first."""
    distances: Tensor
    """float64 [n, k]: root of the mean squared difference of two pixels, in levels from 0 to 255."""
    compared: int
    """How many training images were compared."""
    total: int
    """How many there are."""
    same_data: bool
    """Whether they are the images that the run was trained on, as far as their fingerprint says."""


def nearest_in_pixels(generated: Tensor, config: Mapping[str, Any], data: str, k: int, trust_code: bool) -> Nearest:
    """Compare images with the training data that a run's config names.

    Args:
        generated: uint8 [n, C, H, W].
        config: of the run, as plain data.
        data: the fingerprint of its data; empty where it is not known.
        k: how many neighbors of each.
        trust_code: whether the code of a data source of the user's own may be executed.

    Raises:
        ConfigError: the data cannot be opened; nothing is downloaded.
        DataError: an image cannot be read.
    """
    dataset = _opened(config, trust_code)
    if tuple(dataset.shape) != tuple(generated.shape[1:]):
        now, then = ("x".join(map(str, shape)) for shape in (dataset.shape, generated.shape[1:]))
        raise ConfigError(f"the data has images of {now} now, and the run's are {then}")
    best = torch.full((len(generated), 0), 0.0, dtype=torch.float64)
    found = generated.new_empty(len(generated), 0, *generated.shape[1:])
    ours = generated.flatten(1).double()
    compared = 0
    for images in _images(dataset):
        theirs = images.flatten(1).double()
        # Exact: all of it are integers below 2**53.
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
        compared += len(images)
    same = not data or dataset.fingerprint == data
    return Nearest(found, (best / ours.shape[1]).sqrt(), compared, len(dataset), same)


def _opened(config: Mapping[str, Any], trust_code: bool) -> Dataset:
    if not isinstance(config.get("data"), Mapping):
        raise ConfigError("the run's config names no data")
    try:
        with reading("run" if trust_code else "known"):
            source: Source = TypeAdapter(AnySource).validate_python(config.get("data"))
    except ValidationError as error:
        raise ConfigError("; ".join(f"data: {each['msg']}" for each in error.errors(include_url=False))) from None
    with on_disk_only():
        dataset = source.open(CPU)
    if isinstance(dataset, Streamed):
        dataset.workers = 0  # they would live on after the last image that is wanted
    return dataset


def _images(dataset: Dataset) -> Iterator[Tensor]:
    """uint8 [n, C, H, W]: all of them, or `COMPARED` evenly spaced ones."""
    count = min(COMPARED, len(dataset))

    def order(ordinals: range) -> Tensor:
        return torch.tensor([i * len(dataset) // count for i in ordinals])

    def choose(ordinals: range, k: int) -> Tensor:
        raise ConfigError("this data makes each image anew from parts of others, so there is no list to compare with")

    ranges = [range(start, min(start + AT_ONCE, count)) for start in range(0, count, AT_ONCE)]
    for images, _ in dataset.batches(ranges, order, choose):
        yield images.cpu()
