"""In what generated images and training images are compared: features of a network, or pixels."""

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from dist_gan.data.fetch import on_disk_only
from dist_gan.errors import ConfigError, FeaturesMissing
from dist_gan.metrics import digit_cache
from dist_gan.metrics.any_features import AnyFeatures
from dist_gan.metrics.digits import Digits, StackedDigits
from dist_gan.metrics.features import FeatureNetwork, Features
from dist_gan.metrics.lite0 import EfficientNetLite0
from dist_gan.own_parts import reading
from dist_gan.randomness import CPU
from dist_gan.reporting.reading import why

CHUNK = 16
"""Images that a network sees at once, in one thread."""
SMALLEST = 16
"""Height and width from which on a network that was trained on photographs is asked."""
TRIES, SECONDS = 10, 2.0
"""How often a network is tried, to learn its speed; no more once that took so long."""
PIXELS = "pixels"


class View(NamedTuple):
    """What is compared of an image."""

    name: str
    """Of the features; `PIXELS`."""
    network: FeatureNetwork | None = None
    per_second: float = float("inf")
    """Images that it sees on this machine now, about."""
    note: str = ""
    """Why it is not the view that was wanted first, for people."""

    def vectors(self, images: Tensor) -> Tensor:
        """uint8 [n, C, H, W] -> float64 [n, F]; pixels are whole numbers from 0 to 255."""
        if self.network is None:
            return images.flatten(1).double()
        return torch.cat(_seen(self.network, images))

    def distances(self, squares: Tensor, length: int) -> Tensor:
        """Squares of Euclidean distances of vectors of this length -> distances as the page names them: of features
        these themselves; of pixels the root of the mean squared difference of two pixels."""
        return (squares.clamp(min=0) / (length if self.network is None else 1)).sqrt()


def view_of(config: Mapping[str, Any], images: Tensor, trust_code: bool) -> View:
    """The features by which the run is judged, if these are a network's; else those that fit its images and are here.

    Nothing is downloaded or trained.

    Args:
        config: of the run, as plain data.
        images: some of its images, uint8 [n, C, H, W], by which a network is tried.
        trust_code: whether code of the user's own features may be executed.
    """
    note = ""
    for given, sentence in _wanted(config, images.shape):
        try:
            features = _validated(given, trust_code)
            with on_disk_only():
                network = _opened(features)
            speed = _images_per_second(network, images)
            return View(str(getattr(features, "name", type(features).__name__)), network, speed, note)
        except Exception as error:  # of the user's own features anything
            note = note or sentence + why(error)
    return View(PIXELS, note=note)


def _wanted(config: Mapping[str, Any], shape: torch.Size) -> Iterator[tuple[Any, str]]:
    """Features as configuration, the best first, and what is said before the reason where they cannot be used."""
    evaluate, data = config.get("evaluate"), config.get("data")
    for metric in evaluate if isinstance(evaluate, list) else []:
        given = metric.get("features") if isinstance(metric, Mapping) else None
        name = given.get("name") if isinstance(given, Mapping) else given
        if name not in (None, PIXELS):
            yield given, "The features of the run's own evaluations could not be used: "
            break
    if isinstance(data, Mapping) and data.get("name") == "mnist" and digit_cache.there():
        yield Digits(), ""
    if min(shape[2:]) >= SMALLEST:
        yield EfficientNetLite0(), "Distances of features would say more than those of pixels: "


def _validated(given: Any, trust_code: bool) -> Features:
    try:
        with reading("run" if trust_code else "known"):
            found: Features = TypeAdapter(AnyFeatures).validate_python(given)
    except ValidationError as error:
        raise ConfigError("; ".join(f"features: {each['msg']}" for each in error.errors(include_url=False))) from None
    return found


def _opened(features: Features) -> FeatureNetwork:
    if isinstance(features, Digits | StackedDigits) and not digit_cache.there():
        raise FeaturesMissing(
            "features: the digit network is not on this machine yet. It is made by the first evaluation: "
            "python -m dist_gan.score RUN"
        )
    return features.open(CPU).requires_grad_(False).eval()


def _seen(network: FeatureNetwork, images: Tensor) -> list[Tensor]:
    """float64 [n, F] of each chunk, one thread for each: where other programs compute too, several threads that work on
    one chunk would wait for each other most of the time."""

    def see(some: Tensor) -> Tensor:
        with torch.inference_mode():
            return network(some).features.double()

    threads = torch.get_num_threads()
    with ThreadPoolExecutor(threads, "features", initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            return list(pool.map(see, images.split(CHUNK)))
        finally:
            torch.set_num_threads(threads)


def _images_per_second(network: FeatureNetwork, images: Tensor) -> float:
    """Of the fastest of several tries, since the first ones may have more to do; of the first where that took long."""
    count = CHUNK * torch.get_num_threads()
    some = images.repeat(-(-count // len(images)), 1, 1, 1)[:count]
    taken: list[float] = []
    while len(taken) < TRIES and sum(taken) < SECONDS:
        begun = time.perf_counter()
        _seen(network, some)
        taken.append(time.perf_counter() - begun)
    return count / max(min(taken), 1e-6)
