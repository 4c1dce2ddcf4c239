"""Metrics that compare features of fakes with features of reals."""

import math
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

from pydantic import Field

from dist_gan.metrics.any_features import AnyFeatures
from dist_gan.metrics.features import FeatureNetwork
from dist_gan.metrics.frechet import frechet_distance, frechet_distance_of_few
from dist_gan.metrics.health_images import FEWEST
from dist_gan.metrics.metric import Metric, Need, Summary
from dist_gan.metrics.pairs import density_coverage, kernel_distance, nearest, precision_recall, sliced_distance

MOST_PAIRS = 10_000
"""Images by default where all pairs of them are compared."""


class FID(Metric):
    """The Fréchet distance of both sets of features, each taken for a Gaussian (Heusel et al. 2017). It is the FID of
    the papers with features=inception, 50,000 images and all reals; smaller numbers of images give larger ones."""

    values: ClassVar[Mapping[str, bool]] = {"fid": False}

    name: Literal["fid"] = "fid"
    features: AnyFeatures
    """What sees the images."""

    def needs(self, network: FeatureNetwork, fakes: int, reals: int) -> tuple[set[Need], set[Need]]:
        """Features of the smaller set where it has fewer images than a feature vector has numbers."""
        self.at_least(2, "a covariance", fakes, reals)
        few = min(fakes, reals) <= network.size
        return {"features" if few and fakes <= reals else "moments"}, {
            "features" if few and reals < fakes else "moments"
        }

    def unwise(self, network: FeatureNetwork, fakes: int, reals: int) -> list[str]:
        if min(fakes, reals) > network.size:
            return []
        return [
            f"{self.label}: {min(fakes, reals):,} {'fakes' if fakes <= reals else 'real images'} are fewer than "
            f"the {network.size:,} numbers of a feature vector, so the distance is biased: compare it only with one of "
            "as many"
        ]

    def compute(self, fakes: Summary, reals: Summary, tick: Callable[[], None]) -> dict[str, float]:
        few, many = (fakes, reals) if fakes.count <= reals.count else (reals, fakes)
        if few.features is not None and few.count <= few.features.shape[1]:
            assert many.moments is not None
            return {"fid": frechet_distance_of_few(few.features, many.moments)}
        assert fakes.moments is not None
        assert reals.moments is not None
        return {"fid": frechet_distance(fakes.moments, reals.moments)}


class _Pairs(Metric):
    """Needs the features themselves."""

    images: int = Field(MOST_PAIRS, ge=2)
    """How many fakes are made: those of the ordinals from 0 on, of a purpose of their own."""
    reals: int = Field(MOST_PAIRS, ge=0)
    """How many reals they are compared with, in a fixed shuffled order; 0: all, each once."""

    def least(self) -> tuple[int, str]:
        """How many images of each set it needs, and what for."""
        return 2, "a distance"

    def needs(self, network: FeatureNetwork, fakes: int, reals: int) -> tuple[set[Need], set[Need]]:
        self.at_least(*self.least(), fakes, reals)
        return {"features"}, {"features"}


class KID(_Pairs):
    """The kernel distance: a squared maximum mean discrepancy, without bias (Binkowski et al. 2018)."""

    values: ClassVar[Mapping[str, bool]] = {"kid": False, "kid_std": False}

    name: Literal["kid"] = "kid"
    features: AnyFeatures
    """What sees the images."""
    subsets: int = Field(100, ge=1)
    """The mean over this many random subsets."""
    subset_size: int = Field(1000, ge=2)
    """Images of each set in a subset."""

    def least(self) -> tuple[int, str]:
        return self.subset_size, f"subset_size={self.subset_size} (a key of kid that may be smaller)"

    def compute(self, fakes: Summary, reals: Summary, tick: Callable[[], None]) -> dict[str, float]:
        assert fakes.features is not None
        assert reals.features is not None
        mean, std = kernel_distance(fakes.features, reals.features, self.subsets, self.subset_size, tick)
        return {"kid": mean, "kid_std": std}


class MIND(_Pairs):
    """The Monge Inception distance: a sliced Wasserstein distance, which needs fewer images than FID (Berthet et al.
    2026, arXiv 2605.06797, who use 5,000)."""

    values: ClassVar[Mapping[str, bool]] = {"mind": False}

    name: Literal["mind"] = "mind"
    features: AnyFeatures
    """What sees the images."""
    images: int = Field(5000, ge=2)
    """How many fakes are made: those of the ordinals from 0 on, of a purpose of their own."""
    reals: int = Field(5000, ge=0)
    """How many reals they are compared with, in a fixed shuffled order; of both sets as many are used as the smaller
    one has. 0: all."""
    projections: int = Field(1000, ge=1)
    """Directions on which both sets are compared."""

    def compute(self, fakes: Summary, reals: Summary, tick: Callable[[], None]) -> dict[str, float]:
        assert fakes.features is not None
        assert reals.features is not None
        count = min(fakes.count, reals.count)
        return {"mind": sliced_distance(fakes.features[:count], reals.features[:count], self.projections, tick)}


class PrecisionRecall(_Pairs):
    """Which share of the fakes looks real, and which share of the reals is covered (Kynkäänniemi et al. 2019)."""

    values: ClassVar[Mapping[str, bool]] = {"precision": True, "recall": True}

    name: Literal["precision_recall"] = "precision_recall"
    features: AnyFeatures
    """What sees the images."""
    k: int = Field(3, ge=1)
    """Neighbors: a set reaches as far around each image as its k-th nearest other one."""

    def least(self) -> tuple[int, str]:
        return self.k + 1, f"k={self.k} neighbors"

    def compute(self, fakes: Summary, reals: Summary, tick: Callable[[], None]) -> dict[str, float]:
        assert fakes.features is not None
        assert reals.features is not None
        precision, recall = precision_recall(fakes.features, reals.features, self.k, tick)
        return {"precision": precision, "recall": recall}


class DensityCoverage(_Pairs):
    """Precision and recall that single outliers do not change much (Naeem et al. 2020)."""

    values: ClassVar[Mapping[str, bool]] = {"density": True, "coverage": True}

    name: Literal["density_coverage"] = "density_coverage"
    features: AnyFeatures
    """What sees the images."""
    k: int = Field(5, ge=1)
    """Neighbors: a ball around each real reaches to its k-th nearest other one."""

    def least(self) -> tuple[int, str]:
        return self.k + 1, f"k={self.k} neighbors"

    def compute(self, fakes: Summary, reals: Summary, tick: Callable[[], None]) -> dict[str, float]:
        assert fakes.features is not None
        assert reals.features is not None
        density, coverage = density_coverage(fakes.features, reals.features, self.k, tick)
        return {"density": density, "coverage": coverage}


class Copies(_Pairs):
    """Whether G repeats training images: the median distance of a fake to the nearest training image, over that of real
    images which are not learnt from (Meehan et al. 2020, "A non-parametric test to detect data-copying", compare both).
    1 is as far as new images are; 0 is a copy. For data with a split of its own for tests."""

    values: ClassVar[Mapping[str, bool]] = {"nearest_ratio": True}
    held_out: ClassVar[int] = 1000

    name: Literal["copies"] = "copies"
    features: AnyFeatures
    """What sees the images."""
    images: int = Field(1000, ge=2)
    """How many fakes are made: those of the ordinals from 0 on, of a purpose of their own."""
    reals: int = Field(0, ge=0)
    """How many training images are searched, in a fixed shuffled order; 0: all, as only what is searched is found."""

    def least(self) -> tuple[int, str]:
        return FEWEST, "a median"

    def compute(self, fakes: Summary, reals: Summary, tick: Callable[[], None]) -> dict[str, float]:
        assert fakes.features is not None
        assert reals.features is not None
        assert reals.held_out is not None
        near, usual = (nearest(x, reals.features, tick)[0].median() for x in (fakes.features, reals.held_out))
        return {"nearest_ratio": float(near / usual) if usual else math.inf}
