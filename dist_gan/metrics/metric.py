"""What a metric is: what it needs to know of fakes and reals, and a number (or several) computed from that."""

import re
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from dist_gan.errors import ConfigError
from dist_gan.metrics.features import FeatureNetwork
from dist_gan.metrics.moments import Moments
from dist_gan.own_parts import reference_of
from dist_gan.part import Part

Need = Literal["moments", "features", "logits", "labels"]
"""Mean and covariance of the features; all features; a classifier's logits; the classes that were asked for."""


@dataclass(frozen=True)
class Summary:
    """What is known of a set of images, in the order of their ordinals, on the CPU."""

    count: int
    moments: Moments | None = None
    features: Tensor | None = None
    """float32 [N, F]."""
    logits: Tensor | None = None
    """float32 [N, K]."""
    labels: Tensor | None = None
    """int64 [N]: the classes that were asked for."""
    class_counts: Tensor | None = None
    """[K]: how often each of the classifier's classes is in the complete data, where they are the data's own."""
    held_out: Tensor | None = None
    """float32 [H, F]: features of real images that are not learnt from."""

    def only(self, needs: set[Need]) -> "Summary":
        """What was needed, and nothing else that is known."""
        known = {"moments": self.moments, "features": self.features, "logits": self.logits, "labels": self.labels}
        return Summary(self.count, **{need: known[need] for need in needs})  # type: ignore[arg-type]  # by these names


class Metric(Part):
    """A metric as configuration. Members have a field `name` and a field `features`."""

    values: ClassVar[Mapping[str, bool]]
    """The names of its numbers, and whether higher is better."""
    has_reals: ClassVar[bool] = True
    """Whether fakes are compared with reals."""

    held_out: ClassVar[int] = 0
    """How many real images that are not learnt from it needs the features of."""

    images: int = Field(50_000, ge=2)
    """How many fakes are made: those of the ordinals from 0 on, of a purpose of their own."""
    reals: int = Field(0, ge=0)
    """How many reals they are compared with, in a fixed shuffled order; 0: all, each once."""
    split: Literal["", "train", "test", "all"] = ""
    """Which reals, where the data has several splits; empty: those that are learnt from."""
    weights: Literal["ema", "ema_2", "ema_3", "ema_4", "newest"] = "ema"
    """Which weights of G make the fakes: their average, or the newest. A run with several averages computes `ema` of
    each of them, and ema_2 of that one alone."""
    every: int = Field(640_000, ge=1)
    """Images of training between two evaluations; there is always one at the end."""

    def reals_of(self, there: int) -> int:
        """How many reals are used where there are `there`."""
        return min(self.reals or there, there) if self.has_reals else 0

    @abstractmethod
    def needs(self, network: FeatureNetwork, fakes: int, reals: int) -> tuple[set[Need], set[Need]]:
        """What must be known of `fakes` fakes, and of `reals` reals.

        Raises:
            ConfigError: it cannot be computed of this network, or of this many images.
        """

    def unwise(self, network: FeatureNetwork, fakes: int, reals: int) -> list[str]:
        """What works, but is most likely not what was meant."""
        return []

    @abstractmethod
    def compute(self, fakes: Summary, reals: Summary, tick: Callable[[], None]) -> dict[str, float]:
        """The numbers, by the names in `values`. Called on one process; a function of its arguments alone.

        Args:
            fakes: what `needs` asked for.
            reals: likewise; empty where the metric has none.
            tick: called now and then; it may raise, which ends the work.
        """

    def at_least(self, least: int, why: str, *counts: int) -> None:
        """Raises ConfigError where one of `counts` is below `least`."""
        if min(counts) < least:
            raise ConfigError(
                f"{self.label}: {min(counts):,} images are too few: {why} needs at least {least:,} fakes"
                + (" and as many reals" if len(counts) > 1 else "")
            )

    @property
    def options(self) -> str:
        """Those of its own that are not the default ones, as a number's name has them; and the code of a user's own."""
        own = {name: field.default for name, field in type(self).model_fields.items() if name not in COMMON}
        found = {name: getattr(self, name) for name, default in own.items() if getattr(self, name) != default}
        if reference := reference_of(type(self)):
            found["code"] = reference.sha256[:8]
        return "".join(f",{name}={re.sub('[,/= ]+', '_', str(value))}" for name, value in found.items())

    def given(self, network: FeatureNetwork, class_counts: Mapping[str, int] | None) -> dict[str, bool]:
        """Those of `values` that it gives with this network, for data with these classes."""
        return dict(self.values)

    @property
    def features_name(self) -> str:
        """The name of its features."""
        return str(getattr(getattr(self, "features", None), "name", ""))

    @property
    def label(self) -> str:
        """Its name in messages."""
        return f"evaluate {getattr(self, 'name', type(self).__name__)}"


COMMON = {"name", "features", *Metric.model_fields}
"""The fields of every metric."""
