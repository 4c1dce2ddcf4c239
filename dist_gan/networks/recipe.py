"""The base of network recipes: a Part that builds both players' networks for an image shape."""

from abc import abstractmethod

from dist_gan.data.source import ImageShape
from dist_gan.networks.layers import Networks
from dist_gan.part import Part


class Recipe(Part):
    """A pair of networks as configuration."""

    @property
    def whole(self) -> int:
        """Every piece of a batch must be a multiple of this many samples."""
        return 1

    @property
    def mixes_samples(self) -> bool:
        """Whether D's logit of one image depends on the other images of its piece."""
        return False

    def mistakes(self, shape: ImageShape) -> list[str]:
        """Why it cannot make images of `shape`; empty where it can."""
        return []

    @abstractmethod
    def build(self, shape: ImageShape, seed: int) -> Networks:
        """Both networks, in float32 on the CPU, their weights a function of `seed`."""
