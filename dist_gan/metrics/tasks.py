"""What a metric needs to know of fakes and reals, and the name that its numbers get by that."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dist_gan.data.source import Dataset
from dist_gan.errors import ConfigError
from dist_gan.metrics.features import FeatureNetwork, Features
from dist_gan.metrics.metric import Metric, Need
from dist_gan.metrics.protocol import Protocol

HELD_OUT = "test"
"""The split of the images that are not learnt from."""


@dataclass(frozen=True)
class Reals:
    """Real images, and what a number's name says of them."""

    dataset: Dataset
    split: str

    @property
    def data(self) -> str:
        """The first 8 digits of the fingerprint."""
        return self.dataset.fingerprint[:8]


@dataclass(frozen=True)
class Wanted:
    """What must be known of some reals."""

    reals: Reals
    count: int
    needs: frozenset[Need]
    features: Features
    sha256: str

    @property
    def protocol(self) -> dict[str, Any]:
        """What is known depends on this, and on what was needed."""
        return {
            "features": self.features.identity(),
            "sha256": self.sha256,
            "resizing": self.features.resizing,
            "reals": self.count,
            "data": self.reals.dataset.fingerprint,
            "shape": list(self.reals.dataset.shape),
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
    def protocol(self) -> Protocol:
        own, there = self.features, self.reals
        return Protocol(
            str(getattr(own, "name", type(own).__name__)),
            self.network.sha256[:8],
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
) -> Task:
    """Everything that a metric needs. `weights`: what makes the fakes; empty: what the metric says.

    Raises:
        ConfigError: it cannot be computed of these features, or of this many images.
    """
    reals = reals_of(metric.split)
    count = metric.reals_of(len(reals.dataset))
    of_fakes, of_reals = metric.needs(network, metric.images, count)
    if "labels" in of_fakes and len(network.classes) != (there := len(reals.dataset.classes)):
        raise ConfigError(
            f"{metric.label}: features={metric.features_name} knows {len(network.classes):,} classes, and the "
            f"data has {there:,}. Choose a classifier of the data's own classes"
        )
    held_out = None
    if metric.held_out:
        unseen = reals_of(HELD_OUT)
        number = min(metric.held_out, len(unseen.dataset))
        held_out = Wanted(unseen, number, frozenset({"features"}), features, network.sha256)
    wanted = Wanted(reals, count, frozenset(of_reals), features, network.sha256)
    return Task(metric, network, features, of_fakes, wanted, held_out, weights or metric.weights)
