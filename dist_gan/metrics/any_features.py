"""The union of all feature networks. To add one: write a file with a `Features`, and put its name here."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from dist_gan.metrics.digits import Digits, StackedDigits
from dist_gan.metrics.dinov2 import DINOv2
from dist_gan.metrics.features import Features
from dist_gan.metrics.inception import Inception
from dist_gan.metrics.lite0 import EfficientNetLite0
from dist_gan.metrics.pixels import Pixels
from dist_gan.own_parts import OwnPart


def _named(value: Any) -> Any:
    """A name alone stands for the features of that name with their defaults."""
    return {"name": value} if isinstance(value, str) else value


AnyFeatures = Annotated[
    EfficientNetLite0 | Inception | DINOv2 | Digits | StackedDigits | Pixels,
    Field(discriminator="name"),
    OwnPart(Features),
    BeforeValidator(_named),
]
