"""What a metric sees of an image: a feature network, chosen by name, with the SHA-256 of its weights."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dist_gan.data.source import READING, Progress
from dist_gan.part import Part


class Seen(NamedTuple):
    """What a feature network sees in n images."""

    features: Tensor
    """float32 [n, F]."""
    logits: Tensor | None = None
    """float32 [n, K] of a classifier; None where the network is none."""


class FeatureNetwork(nn.Module, ABC):
    """uint8 images [n, C, H, W] on its device -> `Seen`. In eval mode, without gradients.

    What is seen in one image depends on no other image. C is 1 or 3; `colored` makes 3 of both.

    Attributes:
        size: F, the length of a feature vector.
        classes: the names of a classifier's K classes, by number; empty where it is none.
        sha256: of the weights, 64 hexadecimal digits: part of the name of every number.
    """

    size: int
    classes: tuple[str, ...] = ()
    sha256: str

    @abstractmethod
    def forward(self, images: Tensor) -> Seen:
        """What is seen in `images`."""


class Features(Part):
    """A feature network as configuration. Members have a field `name`."""

    @property
    @abstractmethod
    def resizing(self) -> str:
        """The filter and the size to which images are scaled, as one word such as `bicubic224`; `none` where they are
        not. Part of the name of every number."""

    @abstractmethod
    def open(self, device: torch.device, progress: Progress = READING.progress) -> FeatureNetwork:
        """Find (or download, or train) the weights, and build the network. `progress` is called where that takes long.

        Raises:
            FeaturesMissing: there are no weights; the message says what to do.
            ConfigError: they are not what they should be.
        """


def colored(images: Tensor) -> Tensor:
    """[n, C, H, W] -> [n, 3, H, W], as a picture file shows it. Gray is repeated; of more than three channels
    the first three are shown, and of two the first one."""
    return images[:, :3] if images.shape[1] >= 3 else images[:, :1].expand(-1, 3, -1, -1)
