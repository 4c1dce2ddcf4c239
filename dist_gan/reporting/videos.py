"""The samples over time as a video: within the page, and as a file to hand on."""

import base64
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from dist_gan.errors import ConfigError
from dist_gan.reporting.elements import Element, element, together
from dist_gan.reporting.pictures import about, spaced
from dist_gan.reporting.reading import Run, why
from dist_gan.sampling.video import check_video, training_video

BUDGET = 2_000_000
"""Bytes of the videos of a page, out of those of its samples (`dist_gan.reporting.over_time`)."""
FEWEST = 3
"""Grids that make a video."""
LEVELS = ((100, 768), (50, 512), (25, 512))
"""Frames at most, and the longer side in pixels at most; from the best to the smallest. A file has no such limits."""
TRIED = 4
"""Frames, one after the other, from which the size of a video is guessed."""


@dataclass
class Videos:
    """What the page shows of them."""

    section: Element = field(default_factory=Element)
    size: int = 0
    """Bytes of all of them, before they become text."""


def fps_of(frames: int) -> int:
    """Frames a second: about ten seconds for many frames, and no faster than an eye can follow."""
    return max(3, min(24, round(frames / 10)))


def check_file(runs: Sequence[Run], path: Path) -> None:
    """Whether `write_file` can work.

    Raises:
        ConfigError: there are several runs or no grids, or as `check_video`.
    """
    if len(runs) > 1:
        raise ConfigError("video: a video shows one run. Give one, or leave video=... out")
    if not runs[0].grids:
        raise ConfigError(f"video: {runs[0].path} has no grids of samples yet")
    check_video(path, fps_of(len(runs[0].grids)))


def write_file(run: Run, path: Path) -> None:
    """All grids of a run as a video, as large as they are. Raises ConfigError where it cannot be made."""
    grids = list(run.grids.values())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        training_video(grids, path, fps_of(len(grids)))
    except OSError as error:
        raise ConfigError(f"video: cannot write {path} ({error.strerror or error}). Choose another place") from None


def videos_of(runs: Sequence[Run]) -> Videos:
    """A video of each run; a sentence where there is none, and nothing where no run has enough grids."""
    shown = [run for run in runs if len(run.grids) >= FEWEST]
    if not shown:
        return Videos()
    if find_spec("av") is None:
        return Videos(
            _card(
                "The video of these samples is left out: it needs PyAV. pip install 'dist_gan[video]', and make the "
                "page again."
            )
        )
    cells, said, total = [], [], 0
    for run in shown:
        name = f"{run.label}: " if len(runs) > 1 else ""
        try:
            content, frames = _fitting(list(run.grids.values()), BUDGET // len(shown))
        except (ConfigError, OSError) as error:
            said.append(f"{name}There is no video: {why(error)}.")
            continue
        if not content:
            said.append(f"{name}The video would be too large for a page; video=training.mp4 makes it as a file.")
            continue
        total += len(content)
        cells.append(_cell(run, content, about(frames, len(run.grids), "grid"), len(runs) > 1))
    if cells:
        said.append("As a file, with all grids as large as they are: python -m dist_gan.report RUN video=training.mp4.")
    return Videos(_card(" ".join(said), *cells), total)


def _fitting(grids: Sequence[Path], budget: int) -> tuple[bytes, int]:
    """The best video within `budget` bytes, and its frames; no bytes where none fits."""
    for most, side in LEVELS:
        some = [grids[i] for i in spaced(len(grids), most)]
        begin = (len(some) - TRIED) // 2
        if len(some) > 3 * TRIED and len(_file(some[begin : begin + TRIED], side)) / TRIED * len(some) > 1.3 * budget:
            continue
        content = _file(some, side)
        if len(content) <= budget:
            return content, len(some)
    return b"", 0


def _file(grids: Sequence[Path], side: int) -> bytes:
    with tempfile.TemporaryDirectory(prefix="dist_gan-") as folder:
        path = Path(folder, "training.mp4")
        training_video(grids, path, fps_of(len(grids)), side)
        return path.read_bytes()


def _cell(run: Run, content: bytes, frames: str, several: bool) -> Element:
    url = f"data:video/mp4;base64,{base64.b64encode(content).decode()}"
    caption = element("figcaption", element("b", run.label if several else "generated"), element("span", frames))
    label = f"samples of {run.label} over the training"
    video = element("video", src=url, controls=True, loop=True, muted=True, playsinline=True, aria_label=label)
    return element("figure", caption, video)


def _card(sentences: str, *cells: Element) -> Element:
    said = element("p", sentences, class_="said") if sentences else Element()
    films = element("div", *cells, class_="grids") if cells else Element()
    return element("div", together([said, films]), class_="card")
