"""Images and labels as Python programs have them, checked: arrays, tensors, Pillow images, items of a Dataset."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset as Indexed

from dist_gan.data.streamed import Item
from dist_gan.errors import ConfigError, DataError
from dist_gan.shapes import ImageShape

CHANNELS = (1, 3, 4)
SMALLEST = 4  # pixels of a side
LAYOUTS = "[M, H, W], [M, H, W, C] or [M, C, H, W], where C is 1, 3 or 4, and H and W are 4 or more"


class Items(Indexed[Item]):
    """The items of a Dataset, checked one by one."""

    def __init__(self, data: Any, labels: Any) -> None:
        """Looks at the first item."""
        is_indexed = all(callable(getattr(data, name, None)) for name in ("__getitem__", "__len__"))
        if not is_indexed or isinstance(data, str | Mapping):
            raise ConfigError(
                f"data: {type(data).__name__} has no length or no items by number. Give an array or tensor, or a "
                "torch.utils.data.Dataset with __len__ and __getitem__"
            )
        self.data = data
        self.count = len(data)
        if not self.count:
            raise ConfigError("data: there are no images")
        self.numbers = None if labels is None or labels is False else class_numbers(labels, self.count)
        self.names: tuple[str, ...] = ()
        first, label = _split(data[0])
        self.from_items = labels is None and label is not None
        self.has_labels = self.from_items or self.numbers is not None
        known = getattr(data, "classes", None)
        if self.has_labels and isinstance(known, list | tuple) and all(isinstance(name, str) for name in known):
            self.names = tuple(known)
        self.shape = ImageShape(*_image(first, 0).shape)
        if not torch.equal(self[0].image, self[0].image):
            raise ConfigError(
                "data: item 0 is another image each time it is read. Give a Dataset without random transforms; what "
                "is random must come from the run's seed: flip=True, or augment in the configuration"
            )

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Item:
        """Raises ConfigError for an item that cannot be used, DataError for one that cannot be read."""
        try:
            image, label = _split(self.data[index])
        except OSError as error:
            raise DataError(f"data: item {index} of the Dataset cannot be read ({error})") from None
        pixels = _image(image, index)
        if tuple(pixels.shape) != tuple(self.shape):
            raise ConfigError(
                f"data: item {index} has the shape {_text(pixels.shape)} and item 0 {_text(self.shape)}. All images "
                "must have one shape"
            )
        if not self.from_items:
            return Item(pixels, -1 if self.numbers is None else int(self.numbers[index]))
        number = class_numbers([label], 1, f"the label of item {index}")
        if self.names and int(number) >= len(self.names):
            raise ConfigError(
                f"data: the label of item {index} is {int(number)}, and there are {len(self.names)} class names"
            )
        return Item(pixels, int(number))


def _split(item: Any) -> tuple[Any, Any]:
    """(image, label or None) of an item of a Dataset."""
    if isinstance(item, tuple | list) and len(item) in (1, 2):
        return item[0], item[1] if len(item) == 2 else None
    return item, None


def stack(data: Any) -> Tensor:
    """uint8 [M, C, H, W], a view of `data`."""
    images = _tensor(data, "the array")
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and _is_channels_last(images.shape[1:], images.shape):
        images = images.permute(0, 3, 1, 2)
    if images.ndim != 4 or not len(images) or min(images.shape[2:]) < SMALLEST:
        raise ConfigError(f"data: images of the shape {_text(_tensor(data, '').shape)}, expected {LAYOUTS}")
    return images


def _image(data: Any, index: int) -> Tensor:
    """uint8 [C, H, W]."""
    where = f"item {index}"
    if isinstance(data, Image.Image):
        if data.mode not in ("1", "L", "RGB", "RGBA"):
            raise ConfigError(f"data: {where} is a Pillow image of the mode {data.mode}. Use image.convert('RGB')")
        data = np.array(data.convert("L") if data.mode == "1" else data)
    image = _tensor(data, where)
    if image.ndim == 2:
        image = image[None]
    elif image.ndim == 3 and _is_channels_last(image.shape, image.shape):
        image = image.permute(2, 0, 1)
    if image.ndim != 3 or min(image.shape[1:]) < SMALLEST:
        raise ConfigError(f"data: {where} has the shape {_text(image.shape)}, expected {LAYOUTS.replace('M, ', '')}")
    return image.contiguous()


def _tensor(data: Any, where: str) -> Tensor:
    """`data` as a tensor that shares its memory. It must be uint8."""
    if isinstance(data, np.ndarray) and data.dtype == np.uint8:
        if any(stride < 0 for stride in data.strides):
            data = data.copy()
        with warnings.catch_warnings():  # about arrays that are read-only: nothing is written to them here
            warnings.simplefilter("ignore", UserWarning)
            return torch.from_numpy(data)
    if isinstance(data, Tensor) and data.dtype == torch.uint8:
        return data
    kind = getattr(data, "dtype", None)
    advice = f"its values are {kind}" if kind is not None else f"it is a {type(data).__name__}"
    if "float" in str(kind):
        advice += " (for floats from 0 to 1: images.mul(255).round().to(torch.uint8), or PILToTensor, not ToTensor)"
    raise ConfigError(f"data: {where} is no image of uint8 values from 0 to 255: {advice}")


def _is_channels_last(shape: Sequence[int], whole: Sequence[int]) -> bool:
    """Of three sizes, whether the last is the channels, and not the first."""
    first = shape[0] in CHANNELS and min(shape[1:]) >= SMALLEST
    last = shape[2] in CHANNELS and min(shape[:2]) >= SMALLEST
    if first == last:
        which = "could have its channels first or last" if first else "is of none of the kinds that are known"
        raise ConfigError(f"data: the shape {_text(whole)} {which}: {LAYOUTS}")
    return last


def class_numbers(labels: Any, count: int, what: str = "labels") -> Tensor:
    """int64 [count], none negative."""
    try:
        numbers = torch.as_tensor(np.asarray(labels.cpu() if isinstance(labels, Tensor) else labels))
    except (TypeError, ValueError):
        numbers = torch.empty(0)
    if numbers.is_floating_point() or numbers.is_complex() or numbers.dtype == torch.bool:
        raise ConfigError(f"data: {what} must be integers from 0 on (or labels=False, which uses none)")
    if numbers.shape != (count,):
        raise ConfigError(f"data: {what} have the shape {_text(numbers.shape)}, expected [{count}], one for each image")
    numbers = numbers.to(torch.int64)
    if numbers.min() < 0:
        raise ConfigError(f"data: {what} must be 0 or more, got {int(numbers.min())}")
    return numbers


def class_names_of(names: Sequence[str] | None, numbers: Tensor | None) -> tuple[str, ...]:
    """The names of all classes; empty where there are no labels."""
    if numbers is None:
        if names:
            raise ConfigError("data: class_names are given, and no labels")
        return ()
    needed = int(numbers.max()) + 1
    if names and len(names) < needed:
        raise ConfigError(f"data: labels go up to {needed - 1}, and there are {len(names)} class_names")
    return tuple(names) if names else tuple(map(str, range(needed)))


def _text(shape: Sequence[int]) -> str:
    return f"[{', '.join(map(str, shape))}]"
