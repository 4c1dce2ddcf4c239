"""Shapes of images and data."""

from typing import NamedTuple


class ImageShape(NamedTuple):
    """The shape of one image."""

    channels: int
    height: int
    width: int


class DataShape(NamedTuple):
    """What networks are built for: the shape of one image, and the number of classes (0: no labels)."""

    image: ImageShape
    classes: int = 0
