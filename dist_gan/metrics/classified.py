"""Metrics of what a classifier says of the images."""

from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

from pydantic import Field

from dist_gan.errors import ConfigError
from dist_gan.metrics.any_features import AnyFeatures
from dist_gan.metrics.classes import class_accuracy, inception_score
from dist_gan.metrics.features import FeatureNetwork
from dist_gan.metrics.metric import Metric, Need, Summary
from dist_gan.metrics.modes import SAMPLES, entropy, histogram, modes, reverse_kl, uniform


class _Classified(Metric):
    """Needs a classifier's logits of the fakes, and no images of reals."""

    def needs(self, network: FeatureNetwork, fakes: int, reals: int) -> tuple[set[Need], set[Need]]:
        if not network.classes:
            raise ConfigError(
                f"{self.label}: features={self.features_name} is no classifier. Choose another, as inception"
            )
        return {"logits"}, set()


class InceptionScore(_Classified):
    """How sure a classifier is of each image, and how different its answers are (Salimans et al. 2016): the one of the
    papers with features=inception and 50,000 images."""

    values: ClassVar[Mapping[str, bool]] = {"inception_score": True, "inception_score_std": False}
    has_reals: ClassVar[bool] = False

    name: Literal["inception_score"] = "inception_score"
    features: AnyFeatures
    """The classifier."""
    splits: int = Field(10, ge=1)
    """The mean over this many consecutive parts of the images."""

    def needs(self, network: FeatureNetwork, fakes: int, reals: int) -> tuple[set[Need], set[Need]]:
        self.at_least(self.splits, f"{self.splits} splits", fakes)
        return super().needs(network, fakes, reals)

    def compute(self, fakes: Summary, reals: Summary, tick: Callable[[], None]) -> dict[str, float]:
        assert fakes.logits is not None
        mean, std = inception_score(fakes.logits, self.splits)
        return {"inception_score": mean, "inception_score_std": std}


class ClassAccuracy(_Classified):
    """Which share of a conditional generator's images a classifier takes for the class that was asked for. Its classes
    must be those of the data, in the same order: features=digits for MNIST."""

    values: ClassVar[Mapping[str, bool]] = {"class_accuracy": True}
    has_reals: ClassVar[bool] = False

    name: Literal["class_accuracy"] = "class_accuracy"
    features: AnyFeatures
    """The classifier."""
    images: int = Field(10_000, ge=2)
    """How many fakes are made: those of the ordinals from 0 on, of a purpose of their own."""

    def needs(self, network: FeatureNetwork, fakes: int, reals: int) -> tuple[set[Need], set[Need]]:
        super().needs(network, fakes, reals)
        return {"logits", "labels"}, set()

    def compute(self, fakes: Summary, reals: Summary, tick: Callable[[], None]) -> dict[str, float]:
        assert fakes.logits is not None
        assert fakes.labels is not None
        return {"class_accuracy": class_accuracy(fakes.logits, fakes.labels)}


class Modes(_Classified):
    """How many classes a classifier finds in the images, and how unequal they are: with features=stacked_digits the
    1,000-mode benchmark of stacked MNIST.

    `modes`: classes that are there at least once. `reverse_kl`: from equal frequencies, in nats, as PacGAN counts it
    (Lin et al. 2018). `reverse_kl_data`: from the data's own frequencies (Metz et al. 2017), where these are known.
    `class_entropy`: of the classes, in nats.
    """

    values: ClassVar[Mapping[str, bool]] = {
        "modes": True,
        "reverse_kl": False,
        "reverse_kl_data": False,
        "class_entropy": True,
    }

    name: Literal["modes"] = "modes"
    features: AnyFeatures
    """The classifier."""
    images: int = Field(SAMPLES, ge=2)
    """How many fakes are made: those of the ordinals from 0 on, of a purpose of their own."""

    def given(self, network: FeatureNetwork, class_counts: Mapping[str, int] | None) -> dict[str, bool]:
        known = class_counts is not None and tuple(class_counts) == network.classes
        return {name: higher for name, higher in self.values.items() if known or name != "reverse_kl_data"}

    def compute(self, fakes: Summary, reals: Summary, tick: Callable[[], None]) -> dict[str, float]:
        assert fakes.logits is not None
        numbers, classes = fakes.logits.argmax(1), fakes.logits.shape[1]
        found = {"modes": float(modes(numbers, classes)), "reverse_kl": reverse_kl(numbers, uniform(classes))}
        if reals.class_counts is not None:
            found["reverse_kl_data"] = reverse_kl(numbers, reals.class_counts)
        return {**found, "class_entropy": entropy(histogram(numbers, classes))}
