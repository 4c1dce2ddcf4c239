"""MNIST, Fashion-MNIST and CIFAR-10 through torchvision, and MNIST's digits stacked into color images."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from dist_gan.data import published
from dist_gan.data.fetch import fetch, fetch_torchvision
from dist_gan.data.source import READING, Choose, Dataset, Order, Reading, Resident, Source, fingerprint
from dist_gan.shapes import ImageShape


class _Torchvision(Source):
    classes: ClassVar[tuple[str, ...]]

    split: Literal["train", "test", "all"] = "train"
    """Which images are learnt from."""

    @abstractmethod
    def load(self, train: bool) -> tuple[Tensor, Tensor]:
        """images uint8 [M, C, H, W], labels int64 [M] of one half of the data."""

    def tensors(self) -> tuple[Tensor, Tensor]:
        """All images and labels that `split` names."""
        halves = {"train": [True], "test": [False], "all": [True, False]}[self.split]
        images, labels = zip(*map(self.load, halves), strict=True)
        return torch.cat(images), torch.cat(labels)

    @property
    def has_labels(self) -> bool:
        return True

    def open(self, device: torch.device, reading: Reading = READING) -> Dataset:
        """All of it on the device: 47 MB for MNIST, 154 MB for CIFAR-10."""
        images, labels = self.tensors()
        name = fingerprint(type(self).__name__, self.split, *images.shape)
        return Resident(images, labels, device, name, self.classes)


class _Digits(_Torchvision):
    size: Literal[28, 32] = 28
    """Side in pixels: 28 as they are, 32 with a black border of two pixels, for networks that double maps."""

    @property
    def shape(self) -> ImageShape:
        return ImageShape(1, self.size, self.size)

    def load(self, train: bool) -> tuple[Tensor, Tensor]:
        half = self.half(train)
        border = (self.size - 28) // 2
        return torch.nn.functional.pad(half.data[:, None], [border] * 4), half.targets

    @abstractmethod
    def half(self, train: bool) -> Any:
        """torchvision's data set."""


class MNIST(_Digits):
    """60,000 handwritten digits, 28x28 (LeCun et al. 1998). Fetched when it is not on the machine."""

    classes: ClassVar[tuple[str, ...]] = tuple("0123456789")

    name: Literal["mnist"] = "mnist"

    def half(self, train: bool) -> Any:
        from torchvision.datasets import MNIST as TorchvisionMNIST

        return TorchvisionMNIST(str(fetch(published.MNIST)), train=train)


class FashionMNIST(_Digits):
    """60,000 pieces of clothing, 28x28 (Xiao et al. 2017). Fetched when it is not on the machine."""

    classes: ClassVar[tuple[str, ...]] = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )

    name: Literal["fashion_mnist"] = "fashion_mnist"

    def half(self, train: bool) -> Any:
        from torchvision.datasets import FashionMNIST as TorchvisionFashionMNIST

        return TorchvisionFashionMNIST(str(fetch(published.FASHION_MNIST)), train=train)


class CIFAR10(_Torchvision):
    """50,000 photographs of ten kinds of things, 32x32 in color (Krizhevsky 2009)."""

    classes: ClassVar[tuple[str, ...]] = (
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    )

    name: Literal["cifar10"] = "cifar10"

    @property
    def shape(self) -> ImageShape:
        return ImageShape(3, 32, 32)

    def load(self, train: bool) -> tuple[Tensor, Tensor]:
        from torchvision.datasets import CIFAR10 as TorchvisionCIFAR10

        def open_(root: Path, download: bool) -> Any:
            return TorchvisionCIFAR10(str(root), train=train, download=download)

        half = fetch_torchvision(self.name, open_)
        return torch.from_numpy(half.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(half.targets)


class StackedMNIST(MNIST):
    """Three random digits as the channels of one image: 1,000 modes to count (Metz et al. 2017).

    Which three is a function of the sample's ordinal.
    """

    classes: ClassVar[tuple[str, ...]] = tuple(f"{number:03d}" for number in range(1000))
    channels: ClassVar[int] = 3

    name: Literal["stacked_mnist"] = "stacked_mnist"  # type: ignore[assignment]  # a narrower name, as in every union
    labels: bool = False
    """Whether the three digits of an image are its class (1,000 classes), or it has none."""

    @property
    def shape(self) -> ImageShape:
        return ImageShape(self.channels, self.size, self.size)

    @property
    def has_labels(self) -> bool:
        return self.labels

    def open(self, device: torch.device, reading: Reading = READING) -> Dataset:
        images, labels = self.tensors()
        name = fingerprint(type(self).__name__, self.split, *images.shape)
        return _Stacked(images, labels, device, name, self.classes if self.labels else ())


class _Stacked(Resident):
    def __init__(
        self, images: Tensor, labels: Tensor, device: torch.device, fingerprint: str, classes: tuple[str, ...]
    ) -> None:
        super().__init__(images, labels, device, fingerprint, classes)
        self.shape = ImageShape(StackedMNIST.channels, *images.shape[2:])

    def batches(self, ranges: Iterable[range], order: Order, choose: Choose) -> Iterator[tuple[Tensor, Tensor]]:
        """images [n, 3, H, W], labels 0..999 or none; the order of passes does not matter here."""
        for ordinals in ranges:
            index = choose(ordinals, self.shape.channels)  # [n, 3]
            yield self.images[index].squeeze(2), self._labels(index)

    def labels_of(self, ordinals: range, order: Order, choose: Choose) -> Tensor:
        return self._labels(choose(ordinals, self.shape.channels))

    def class_counts(self) -> dict[str, int]:
        """Of the 1,000 numbers, whether labels are used or not: each digit is drawn independently."""
        digits = torch.bincount(self.labels, minlength=10).cpu()
        counts = (digits[:, None, None] * digits[:, None] * digits).flatten().tolist()
        return dict(zip(StackedMNIST.classes, counts, strict=True))

    def _labels(self, index: Tensor) -> Tensor:
        hundreds, tens, ones = self.labels[index].unbind(1)
        labels = hundreds * 100 + tens * 10 + ones
        return labels if self.classes else labels[:0]
