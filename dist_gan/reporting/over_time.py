"""Samples over time: all grids of all runs, and the slider that moves through them."""

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dist_gan.optim.names import NAMES
from dist_gan.reporting.elements import Element, element
from dist_gan.reporting.pictures import Encoded, about, encoded, spaced
from dist_gan.reporting.reading import Run

BUDGET = 4_200_000
"""Bytes of all grids and videos of a page, before they become text, which makes a third more of them."""
REAL_BUDGET = 400_000
"""Bytes of the grids of real images."""
MOST = 200
"""Grids of a page, of all runs and averages together."""
FEWEST = 12
"""Grids of each average of a run, however many there are."""


@dataclass
class Samples:
    """What the page shows and says of the grids."""

    section: Element = field(default_factory=Element)
    data: dict[str, Any] = field(default_factory=lambda: {"steps": [], "runs": []})
    notes: list[str] = field(default_factory=list)


@dataclass
class _Shown:
    """Grids of one average of one run."""

    label: str
    grids: dict[int, Path]
    images: list[int]
    """Those of them that are shown."""
    first: int
    """Where its pictures begin among those of all runs."""


def samples_of(runs: Sequence[Run], budget: int = BUDGET) -> Samples:
    """The grids of all runs side by side, in `budget` bytes, and the real images beside them."""
    grids = {label: own for run in runs for label, own in _grids_of(run, len(runs) > 1).items() if own}
    most = max(FEWEST, MOST // max(1, len(grids)))
    shown: list[_Shown] = []
    files: list[Path] = []
    for label, own in grids.items():
        images = list(own)
        shown.append(_Shown(label, own, [images[i] for i in spaced(len(images), most)], len(files)))
        files += [own[each] for each in shown[-1].images]
    if not shown:
        return Samples()
    pictures = encoded(files, budget)
    result = Samples(notes=_notes(shown, pictures))
    cells = []
    for number, part in enumerate(shown):
        urls = pictures.urls[part.first : part.first + len(part.images)]
        readable = [(images, url) for images, url in zip(part.images, urls, strict=True) if url]
        if missing := len(urls) - len(readable):
            result.notes.append(f"{part.label}: {about(missing, len(urls), 'grid')} could not be read.")
        if readable:
            cells.append(_grid(f"grid{number}", part.label, pictures.enlarged))
            images, urls = map(list, zip(*readable, strict=True))
            result.data["runs"].append({"id": f"grid{number}", "images": images, "urls": urls})
    if not cells:
        return result
    steps = sorted({images for run in result.data["runs"] for images in run["images"]})
    for run in result.data["runs"]:
        run["at"] = [max(0, bisect_right(run["images"], step) - 1) for step in steps]
    result.data["steps"] = steps
    result.section = element(
        "div", _slider(len(steps)), element("div", *cells, *_real(runs), class_="grids"), class_="card"
    )
    return result


def _grids_of(run: Run, several: bool) -> dict[str, dict[int, Path]]:
    """All averages' grids, by what they are called in the page."""
    names = [NAMES[0] if run.more_grids else "", *run.more_grids]
    labels = [", ".join(filter(None, [run.label if several else "", name])) or "generated" for name in names]
    return dict(zip(labels, [run.grids, *run.more_grids.values()], strict=True))


def _grid(name: str, label: str, enlarged: bool) -> Element:
    caption = element("figcaption", element("b", label), element("span", id=f"{name}-images"))
    picture = element("img", id=name, alt=f"samples: {label}", class_="pixels" if enlarged else None)
    return element("figure", caption, picture)


def _slider(steps: int) -> Element:
    slider = element(
        "input", type="range", id="scrub", min=0, max=steps - 1, step=1, value=steps - 1, aria_label="images seen"
    )
    play = element("button", id="play", type="button", aria_label="Play")
    return element("div", play, slider, element("output", id="images", for_="scrub"), class_="scrubber")


def _real(runs: Sequence[Run]) -> list[Element]:
    """The grids of real images, each once: runs with the same data have the same."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        if run.real is not None:
            found.setdefault(_digest(run.real), []).append(run)
    owners = list(found.values())
    pictures = encoded([own[0].real for own in owners if own[0].real], REAL_BUDGET)
    cells = []
    for own, url in zip(owners, pictures.urls, strict=True):
        of = "" if len(owners) == 1 else ", ".join(run.label for run in own)
        caption = element("figcaption", element("b", "real"), element("span", of))
        picture = element("img", src=url, alt="real images", class_="pixels" if pictures.enlarged else None)
        cells += [element("figure", caption, picture)] if url else []
    return cells


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return str(path)


def _notes(shown: Sequence[_Shown], pictures: Encoded) -> list[str]:
    notes = [
        f"{part.label}: {about(len(part.images), len(part.grids), 'grid')} of samples are shown, evenly spaced."
        for part in shown
        if len(part.images) < len(part.grids)
    ]
    return notes + ([f"The grids of samples are {pictures.note}."] if pictures.note else [])
