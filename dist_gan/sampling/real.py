"""Real images for a grid beside the one of generated images."""

from collections.abc import Iterable

import torch
from torch import Tensor

SEARCHED = 1024
"""Real images that are looked at for those of certain classes, and at least one batch: more would delay the start."""


def like(classes: Tensor | None, count: int, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Real images uint8 [count, C, H, W]: the first ones, or where `classes` int64 [count] is given the first of each.

    Args:
        classes: of the generated images of a grid; None: they have none.
        count: how many, at most; without classes no more than the first batch has.
        batches: images uint8 [n, C, H, W] and their labels int64 [n]. No more are read than needed.

    Returns:
        The images. Where a class is not among the first 1,024 images and more, its images are black.
    """
    wanted = [] if classes is None else classes.tolist()
    found: list[Tensor | None] = [None] * count
    seen, images = 0, torch.empty(0)
    for images, labels in batches:
        if classes is None:
            return images[:count]
        places: dict[int, list[int]] = {}
        for place, number in enumerate(wanted):
            if found[place] is None:
                places.setdefault(number, []).append(place)
        for image, number in zip(images, labels.tolist(), strict=True):
            if free := places.get(number):
                found[free.pop(0)] = image.clone()
        seen += len(images)
        if seen >= SEARCHED or all(image is not None for image in found):
            break
    return torch.stack([torch.zeros_like(images[0]) if image is None else image for image in found])
