"""What is known of real images, kept on disk by everything that it depends on: the second evaluation starts at once."""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dist_gan.data.fetch import data_root
from dist_gan.data.source import Dataset
from dist_gan.metrics.extract import Images
from dist_gan.metrics.metric import Need, Summary
from dist_gan.metrics.moments import Moments
from dist_gan.randomness import Purpose, permutation, words

VERSION = 1
"""Of the file's layout, and of the order of the reals."""


class RealOrder:
    """The fixed order of a data set's images, the same for every run and seed: shuffled, so that the first ones are a
    fair choice of all. Ordinal i is image permutation[i mod M]."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self._order: Tensor | None = None

    def source(self, ranges: Iterable[range]) -> Iterator[Images]:
        """Images and classes of each range, read by this process (see `dist_gan.metrics.extract`)."""
        for images, labels in self.dataset.batches(ranges, self.order, self.choose):
            yield partial(_handed_over, images, labels)

    def labels_of(self, ordinals: range) -> Tensor:
        """int64 [n]: the classes of these images."""
        return self.dataset.labels_of(ordinals, self.order, self.choose)

    def order(self, ordinals: range) -> Tensor:
        """Which images these are."""
        if self._order is None:
            self._order = permutation(0, 0, len(self.dataset))
        return self._order[torch.arange(ordinals.start, ordinals.stop) % len(self.dataset)]

    def choose(self, ordinals: range, k: int) -> Tensor:
        """Which k images each of these is made of, for data that is stacked."""
        return (words(0, Purpose.STACK, ordinals, k) * len(self.dataset)) >> 32


def _handed_over(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    return images, labels


class Cache:
    """Summaries of reals in a folder, a file for each protocol. Only rank 0 uses it."""

    def __init__(self, warn: Callable[[str], None], folder: Path | None = None) -> None:
        """In the data root, or in `folder`."""
        self.warn = warn
        self.folder = folder or data_root() / "statistics"

    def load(self, protocol: Mapping[str, Any], count: int, needs: set[Need]) -> Summary | None:
        """What was stored for `protocol`; None where there is nothing. A damaged file is removed, with a warning."""
        path = self._path(protocol, needs)
        try:
            with safe_open(path, "pt") as file:
                noted = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
        except FileNotFoundError:
            return None
        except OSError as error:
            self.warn(f"{path} cannot be read ({error.strerror or error}); these statistics are computed again")
            return None
        except SafetensorError as error:
            self._discard(path, str(error))
            return None
        if noted.get("sha256") != _digest(tensors) or noted.get("protocol") != _text(protocol, needs):
            self._discard(path, "its content and its SHA-256 differ")
            return None
        found = Moments(count, tensors["mean"], tensors["covariance"]) if "mean" in tensors else None
        return Summary(count, found, tensors.get("features"), tensors.get("logits"), tensors.get("labels"))

    def store(self, protocol: Mapping[str, Any], needs: set[Need], summary: Summary) -> None:
        """Published by one rename. A disk that is full is a warning."""
        tensors = {
            name: tensor.contiguous()
            for name, tensor in (
                ("mean", summary.moments and summary.moments.mean),
                ("covariance", summary.moments and summary.moments.covariance),
                ("features", summary.features),
                ("logits", summary.logits),
                ("labels", summary.labels),
            )
            if tensor is not None
        }
        path = self._path(protocol, needs)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            notes = {"protocol": _text(protocol, needs), "sha256": _digest(tensors)}
            temporary.write_bytes(save(tensors, notes))
            temporary.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            self.warn(f"statistics of the real images are not kept ({error}); the next evaluation computes them again")

    def _path(self, protocol: Mapping[str, Any], needs: set[Need]) -> Path:
        name = hashlib.sha256(_text(protocol, needs).encode()).hexdigest()[:32]
        return self.folder / f"{name}.safetensors"

    def _discard(self, path: Path, why: str) -> None:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        self.warn(f"{path} was damaged ({why}) and is removed; these statistics are computed again")


def _text(protocol: Mapping[str, Any], needs: set[Need]) -> str:
    return json.dumps({"version": VERSION, **protocol, "needs": sorted(needs)}, sort_keys=True)


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
