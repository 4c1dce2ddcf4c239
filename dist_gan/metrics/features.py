"""What a metric sees of an image: a feature network, chosen by name, with the SHA-256 of its weights."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dist_gan.data.source import Progress
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
    def open(self, device: torch.device) -> FeatureNetwork:
        """Find (or download, or train) the weights, and build the network.

        Raises:
            FeaturesMissing: there are no weights; the message says what to do.
            ConfigError: they are not what they should be.
        """

    def open_and_report(self, device: torch.device, progress: Progress) -> FeatureNetwork:
        """As `open`; `progress` is called where that takes long."""
        return self.open(device)


def colored(images: Tensor) -> Tensor:
    """[n, C, H, W] -> [n, 3, H, W], as a picture file shows it. Gray is repeated; of more than three channels
    the first three are shown, and of two the first one."""
    return images[:, :3] if images.shape[1] >= 3 else images[:, :1].expand(-1, 3, -1, -1)


def sha256_of(network: nn.Module, *settings: object) -> str:
    """The SHA-256 of a network's weights and buffers, 64 hexadecimal digits: of names, dtypes, shapes and bytes, in the
    order of the names. The same on every device and after every save and load.

    Args:
        network: with its weights.
        settings: numbers and text that decide too what it sees, such as the number of a layer.
    """
    digest = hashlib.sha256("".join(f"{setting!r}\n" for setting in settings).encode())
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


@contextmanager
def plain_float32(device: torch.device) -> Iterator[None]:
    """Inside, networks compute in float32, without TF32, mixed precision or gradients, whatever the caller has set.

    TF32 is a state of the process, on a GPU: there, only one thread at a time may enter.
    """
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        if device.type != "cuda":
            yield
            return
        before = torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision  # type: ignore[attr-defined]
        torch.backends.cuda.matmul.fp32_precision = torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
        try:
            yield
        finally:
            torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision = before  # type: ignore[attr-defined]
