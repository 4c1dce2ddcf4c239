"""What a metric needs to know of fakes and reals, and the name that its numbers get by that."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from dist_gan.data.source import Dataset, Source, fingerprint
from dist_gan.errors import ConfigError
from dist_gan.metrics.features import FeatureNetwork, Features
from dist_gan.metrics.metric import Metric, Need
from dist_gan.metrics.protocol import Protocol, parsed
from dist_gan.own_parts import reference_of

HELD_OUT = "test"
"""The split of the images that are not learnt from."""


@dataclass(frozen=True)
class Reals:
    """Real images, and what a number's name says of them."""

    dataset: Dataset
    source: Source

    @property
    def split(self) -> str:
        """Which part of the data they are."""
        return str(getattr(self.source, "split", "train"))

    @property
    def identity(self) -> dict[str, Any]:
        """What the pixels depend on: the data, and how images are made of it. (Reals are never mirrored.)"""
        made = {key: value for key, value in self.source.identity().items() if key != "flip"}
        return {"fingerprint": self.dataset.fingerprint, "shape": list(self.dataset.shape), "made": made}

    @property
    def data(self) -> str:
        """8 digits that stand for the identity."""
        return fingerprint(json.dumps(self.identity, sort_keys=True, default=str))[:8]


@dataclass(frozen=True)
class Wanted:
    """What must be known of some reals."""

    reals: Reals
    count: int
    needs: frozenset[Need]
    features: Features
    network: FeatureNetwork
    device: str

    @property
    def protocol(self) -> dict[str, Any]:
        """What is known depends on this, and on what was needed."""
        return {
            "features": self.features.identity(),
            "sha256": seen_by(self.features, self.network),
            "resizing": self.features.resizing,
            "reals": self.count,
            "data": self.reals.identity,
            "device": self.device,
            "torch": torch.__version__,
        }

    @property
    def name(self) -> str:
        """Equal where the same must be known of the same reals."""
        return f"{self.protocol} {sorted(self.needs)}"


@dataclass(frozen=True)
class Task:
    """A metric with everything that it needs."""

    metric: Metric
    network: FeatureNetwork
    features: Features
    of_fakes: set[Need]
    reals: Wanted
    held_out: Wanted | None
    weights: str

    @property
    def wanted(self) -> list[Wanted]:
        """Of reals."""
        return [w for w in (self.reals, self.held_out) if w is not None and w.count and w.needs]

    @property
    def values(self) -> dict[str, bool]:
        """The names of its numbers, and whether higher is better."""
        return self.metric.given(self.network, self.reals.reals.dataset.class_counts())

    @property
    def protocol(self) -> Protocol:
        own, there = self.features, self.reals
        return Protocol(
            str(getattr(own, "name", type(own).__name__)),
            seen_by(own, self.network)[:8],
            own.resizing,
            self.metric.images,
            self.weights,
            *((there.count, there.reals.split, there.reals.data) if there.count else (0, "", "")),
            options=self.metric.options,
        )


def task_of(
    metric: Metric,
    features: Features,
    network: FeatureNetwork,
    reals_of: Callable[[str], Reals],
    weights: str,
    device: str,
) -> Task:
    """Everything that a metric needs. `weights`: what makes the fakes; empty: what the metric says.

    Raises:
        ConfigError: it cannot be computed of these features, or of this many images.
    """
    reals = reals_of(metric.split)
    count = metric.reals_of(len(reals.dataset))
    of_fakes, of_reals = metric.needs(network, metric.images, count)
    if "labels" in of_fakes and network.classes != reals.dataset.classes:
        raise ConfigError(
            f"{metric.label}: features={metric.features_name} knows {_some(network.classes)}, and the data has "
            f"{_some(reals.dataset.classes)}. Choose a classifier of the data's own classes, in the same order"
        )
    held_out = None
    if metric.held_out:
        if reals.split in (HELD_OUT, "all"):
            raise ConfigError(
                f"{metric.label}: it compares images that are learnt from with others, and split={reals.split} has "
                "both kinds. Leave it out"
            )
        try:
            unseen = reals_of(HELD_OUT)
        except ConfigError:
            raise ConfigError(
                f"{metric.label}: it needs images that are not learnt from, and this data has no test split. Leave it "
                "out"
            ) from None
        number = min(metric.held_out, len(unseen.dataset))
        held_out = Wanted(unseen, number, frozenset({"features"}), features, network, device)
    wanted = Wanted(reals, count, frozenset(of_reals), features, network, device)
    task = Task(metric, network, features, of_fakes, wanted, held_out, weights or metric.weights)
    for key in map(task.protocol.key, task.values):
        if parsed(key) is None:
            raise ConfigError(
                f"{metric.label}: {key} is no name of a number. Names of numbers are lower-case words; the features' "
                "`resizing` has letters, digits and dots; `sha256` has 64 hexadecimal digits"
            )
    return task


def seen_by(features: Features, network: FeatureNetwork) -> str:
    """The SHA-256 of what sees the images: of the weights, and of the code where that is a user's own."""
    own = reference_of(type(features))
    return hashlib.sha256(f"{network.sha256} {own.sha256}".encode()).hexdigest() if own else network.sha256


def _some(classes: Sequence[str]) -> str:
    return f"{len(classes):,} classes" + (f" ({', '.join(classes[:3])}, ...)" if classes else "")
