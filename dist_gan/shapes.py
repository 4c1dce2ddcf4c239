"""Shapes of what a run is made of."""

from typing import NamedTuple


class ImageShape(NamedTuple):
    """The shape of one image."""

    channels: int
    height: int
    width: int


class DataShape(NamedTuple):
    """What networks must fit: the shape of one image, and how many classes the labels name (0: no labels)."""

    image: ImageShape
    classes: int = 0
