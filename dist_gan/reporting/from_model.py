"""Sections of the page for which images are made: a grid for each class, and the nearest training images."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from dist_gan.networks import Generator
from dist_gan.reporting.elements import Element, element
from dist_gan.reporting.pictures import encoded, spaced, tiles
from dist_gan.reporting.reading import Run, why
from dist_gan.run.restore import class_names, find_model, load_generator
from dist_gan.sampling.samples import samples

if TYPE_CHECKING:
    from dist_gan.data.source import Progress
    from dist_gan.reporting.nearest import Nearest

MOST_CLASSES = 20
PER_CLASS, ACROSS = 16, 4
"""Images of each class, and how many are in a row."""
GENERATED, NEIGHBORS = 8, 5
BUDGET = 300_000
"""Bytes of the pictures of one section, for all runs."""


class Model(NamedTuple):
    """The newest generator of a run."""

    generator: Generator
    names: Sequence[str]
    """Of the classes."""
    path: Path
    images: int
    """Seen by it."""


def model_of(run: Run, trust_code: bool) -> Model | str:
    """The generator of the newest valid checkpoint, on the CPU; or the sentence that says why there is none.

    The networks' code, where it is the user's own, is executed only where `trust_code` says so.
    """
    if not run.checkpoints:
        return "This run has no checkpoint yet."
    try:
        path = find_model(run.path)
        generator = load_generator(path, "cpu", trust_code=trust_code)
        return Model(generator, class_names(path), path, int(path.name.rpartition("-")[2]))
    except Exception as error:  # of the user's own code anything; the rest of the page does not need it
        return why(error)


def classes_section(run: Run, model: Model | str, runs: int) -> Element:
    """A grid for each class of a conditional run. `runs`: how many share the bytes."""
    if isinstance(model, str):
        return _said(model)
    if not model.generator.classes:
        return _said("This run has no classes.")
    count = model.generator.classes
    shown = spaced(count, MOST_CLASSES)
    try:
        sheets = [
            tiles(_arrays(torch.cat(list(samples(model.generator, PER_CLASS, classes=c)))), ACROSS) for c in shown
        ]
    except Exception as error:  # as in `model_of`
        return _said(why(error))
    pictures = encoded(sheets, BUDGET // runs)
    cells = [
        element(
            "figure",
            _picture(url, f"images of class {model.names[c]}", sheet),
            element("figcaption", model.names[c]),
        )
        for c, url, sheet in zip(shown, pictures.urls, sheets, strict=True)
    ]
    which = f"{len(shown)} of its {count:,} classes, evenly spaced" if len(shown) < count else f"all {count} classes"
    said = (
        f"{PER_CLASS} images of the average of G at {model.images:,} images, for {which}. The same as those of "
        f"python -m dist_gan.sample with seed=0."
    )
    return element("div", _said(said, pictures.note), element("div", *cells, class_="classes"))


def neighbors_section(run: Run, model: Model | str, trust_code: bool, runs: int, progress: "Progress") -> Element:
    """Generated images, each with its nearest training images. `runs`: how many share the bytes and the time."""
    if isinstance(model, str):
        return _said(model)
    try:
        from dist_gan.reporting import nearest  # data needs fcntl, which not every system has

        generated = torch.cat(list(samples(model.generator, GENERATED)))
        data, seconds = str(run.facts.get("data") or ""), nearest.SECONDS / runs
        found = nearest.nearest_images(generated, run.config, data, NEIGHBORS, trust_code, seconds, progress)
    except Exception as error:  # of the user's own data source anything
        return _said(f"The training data was not compared: {why(error)}")
    return _neighbors(generated, found, BUDGET // runs)


def _neighbors(generated: Tensor, found: "Nearest", budget: int) -> Element:
    sheets = [
        Image.fromarray(_rgb(image))
        for own, near in zip(generated, found.images, strict=True)
        for image in (own, *near)
    ]
    pictures = encoded(sheets, budget)
    across = 1 + found.images.shape[1]
    rows = []
    for row, distances in enumerate(found.distances.tolist()):
        own = slice(row * across, (row + 1) * across)
        urls, images = pictures.urls[own], sheets[own]
        cells = [element("figure", _picture(urls[0], "generated", images[0]), element("figcaption", "generated"))]
        for url, image, distance in zip(urls[1:], images[1:], distances, strict=True):
            picture = _picture(url, f"training image at distance {distance:.3g}", image)
            cells.append(element("figure", picture, element("figcaption", f"{distance:.3g}", _share(distance, found))))
        rows.append(element("div", *cells, class_="neighbors"))
    said = element("p", " ".join(_sentence(text) for text in (*_words(found), pictures.note) if text), class_="said")
    return element("div", said, element("div", *rows, class_="neighborhoods"))


def _share(distance: float, found: "Nearest") -> Element:
    """How far that is, compared with held-out images."""
    return element("small", f"{distance / found.held_out_distance:.2f}×") if found.held_out_distance > 0 else Element()


def _words(found: "Nearest") -> Iterator[str]:
    """What is seen, in sentences."""
    which = "all" if found.compared == found.total else f"{found.compared:,} evenly spaced ones of"
    yield (
        f"Each generated image (left), and the {found.images.shape[1]} of {which} {found.total:,} training images that "
        "are nearest to it"
    )
    first = "The first number" if found.held_out_distance > 0 else "The number"
    if found.view.network is None:
        yield f"{first} is the root of the mean squared difference of two pixels, in levels from 0 to 255"
    else:
        yield f"{first} is the distance between the features that the network {found.view.name} sees in both"
    if found.held_out_distance > 0:
        yield (
            f"The second one compares it with {found.held_out_distance:.3g}: so far is a real image that was not "
            f"learnt from, in the median of {found.held_out} images of the test split, from its own nearest training "
            "image. Copies would be far below 1×"
        )
    yield found.view.note
    if not found.same_data:
        yield "The data is not the same as when the run was trained: its fingerprint differs"


def _said(*sentences: str) -> Element:
    return element("p", " ".join(_sentence(text) for text in sentences if text), class_="said")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def _picture(url: str, alt: str, image: Image.Image) -> Element:
    return element("img", src=url, alt=alt, width=image.width, height=image.height, class_="pixels")


def _rgb(image: Tensor) -> Any:
    """uint8 [C, H, W] -> uint8 [H, W, 3], as picture files of the run show it."""
    visible = image[:3] if image.shape[0] >= 3 else image[:1].expand(3, -1, -1)
    return visible.permute(1, 2, 0).contiguous().numpy()


def _arrays(images: Tensor) -> list[Any]:
    return [_rgb(image) for image in images]
