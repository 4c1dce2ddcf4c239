"""Streams of a source, and opened folders, for the tests of data."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from dist_gan.data import Batch, Folder, Source, Stream
from dist_gan.data.source import READING, Dataset, Reading
from dist_gan.errors import ConfigError

CPU = torch.device("cpu")


def stream(source: Source, *, batch_size: int = 32, rank: int = 0, processes: int = 1, **options: Any) -> Stream:
    how = {"seed": 0, "batch_size": batch_size, "rank": rank, "processes": processes, "device": CPU, **options}
    return Stream(source.open(CPU), flip=source.flip, **how)


def take(stream: Stream, count: int, images_seen: int = 0) -> list[Batch]:
    return list(itertools.islice(stream.batches(images_seen), count))


def opened(path: Path, reading: Reading = READING, **options: Any) -> Dataset:
    return Folder(path=str(path), **{"size": 16, **options}).open(CPU, reading)


def images(path: Path, **options: Any) -> torch.Tensor:
    return opened(path, **options).images  # type: ignore[attr-defined]


def refused(path: Path, reading: Reading = READING, **options: Any) -> str:
    with pytest.raises(ConfigError) as error:
        opened(path, reading, **options)
    return str(error.value)
