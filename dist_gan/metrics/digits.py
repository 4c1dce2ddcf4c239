"""The digit network: a classifier of MNIST's digits, which this project trains itself, once on each machine.

Recipe 1 with torch 2.14 on two cores of an Intel Xeon: 99.57% of MNIST's test images (seeds 1 and 2: 99.49%, 99.47%),
60 to 75 seconds of CPU in two threads.
"""

from abc import abstractmethod
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from dist_gan.data.source import READING, Progress
from dist_gan.metrics.digit_cache import weights
from dist_gan.metrics.digit_recipe import CLASSES, RECIPE, SIDE, fingerprint, network
from dist_gan.metrics.features import FeatureNetwork, Features, Seen, plain_float32

PADDED, BORDER = 32, 2
"""MNIST as its data source pads it: the side, and the black border around the digit."""
FORWARD = 1_000
"""Digits in one forward: a map of the first layer is 18 MB for these."""


class _Digits(Features):
    @property
    def resizing(self) -> str:
        """One rule for all sizes: of 32x32 (MNIST with its border) the border of 2 is cut off, 28x28 stays, and all
        else is scaled to 28x28 (bilinear, antialiased). So MNIST is seen as it is at both of its sizes."""
        return f"crop{SIDE}"

    def open(self, device: torch.device) -> FeatureNetwork:
        return self.open_and_report(device, READING.progress)

    def open_and_report(self, device: torch.device, progress: Progress) -> FeatureNetwork:
        return self.build(weights(progress)).to(device).requires_grad_(False).eval()

    @abstractmethod
    def build(self, found: dict[str, Tensor]) -> FeatureNetwork:
        """The network with the weights `found`."""


class Digits(_Digits):
    """The project's own classifier of MNIST's ten digits, for gray images."""

    name: Literal["digits"] = "digits"

    def build(self, found: dict[str, Tensor]) -> "DigitNetwork":
        return DigitNetwork(found)


class StackedDigits(_Digits):
    """The same network on each channel of stacked MNIST: a digit each, and 1,000 classes for the three."""

    name: Literal["stacked_digits"] = "stacked_digits"

    def build(self, found: dict[str, Tensor]) -> "StackedDigitNetwork":
        return StackedDigitNetwork(found)


class DigitNetwork(FeatureNetwork):
    """Gray images, or the mean of the three channels of color images. Features: the last hidden layer, not negative."""

    size = RECIPE.features
    classes = tuple("0123456789")

    def __init__(self, found: dict[str, Tensor]) -> None:
        """`found`: the weights, as `digit_recipe.train` makes them."""
        super().__init__()
        self.layers = network()
        self.layers.load_state_dict(found)
        self.sha256 = fingerprint(found)

    def forward(self, images: Tensor) -> Seen:
        return self.see(images.sum(1, keepdim=True, dtype=torch.float32) / images.shape[1])

    def see(self, digits: Tensor) -> Seen:
        """[n, 1, H, W] in [0, 255] -> what is seen in one digit each, in float32 whatever surrounds it."""
        with plain_float32(digits.device):
            hidden, classifier = self.layers.get_submodule("hidden"), self.layers.get_submodule("classifier")
            features = torch.cat([hidden(scaled(chunk.float()) / 255) for chunk in digits.split(FORWARD)])
            return Seen(features, classifier(features))


class StackedDigitNetwork(DigitNetwork):
    """Color images: the features of the three channels side by side. A logit is the sum of the logarithms of the three
    digits' probabilities, so the largest one belongs to the three digits that are seen, and softmax gives the products.
    """

    size = 3 * RECIPE.features
    classes = tuple(f"{number:03d}" for number in range(CLASSES**3))

    def forward(self, images: Tensor) -> Seen:
        assert images.shape[1] == 3, f"stacked digits are 3 channels, got {images.shape[1]}"
        seen = self.see(images.flatten(0, 1).unsqueeze(1))
        assert seen.logits is not None
        hundreds, tens, ones = F.log_softmax(seen.logits, 1).view(-1, 3, CLASSES).unbind(1)
        logits = hundreds[:, :, None, None] + tens[:, None, :, None] + ones[:, None, None, :]
        return Seen(seen.features.view(-1, self.size), logits.flatten(1))


def scaled(digits: Tensor) -> Tensor:
    """float32 [n, 1, H, W] -> [n, 1, 28, 28], by the rule `crop28`."""
    if digits.shape[2:] == (SIDE, SIDE):
        return digits
    if digits.shape[2:] == (PADDED, PADDED):
        return digits[:, :, BORDER:-BORDER, BORDER:-BORDER]
    return F.interpolate(digits, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
