"""The page: sections out of runs, put together with everything that it needs to be read without a network."""

import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from string import Template
from typing import TYPE_CHECKING, Any, NamedTuple

from dist_gan import __version__
from dist_gan.errors import ConfigError
from dist_gan.reporting.chart_sections import chart_sections, health_section, more_section
from dist_gan.reporting.charts import charts_of, data_of
from dist_gan.reporting.configs import differences
from dist_gan.reporting.elements import Element, element, script_data, table, text, together
from dist_gan.reporting.from_model import classes_section, model_of, neighbors_section
from dist_gan.reporting.head import runs_section
from dist_gan.reporting.over_time import BUDGET, Samples, samples_of
from dist_gan.reporting.reading import Run, when
from dist_gan.reporting.thinning import points_each
from dist_gan.reporting.videos import videos_of

if TYPE_CHECKING:
    from dist_gan.data.source import Progress  # data needs fcntl, which not every system has


def _silent(what: str, done: int, total: int) -> None:
    pass


class Section(NamedTuple):
    """A part of the page with a heading."""

    name: str
    title: str
    content: Element


def page(runs: Sequence[Run], trust_code: bool = False, progress: "Progress" = _silent) -> str:
    """The whole page as HTML, about any number of runs. `progress` is called where it takes long.

    Raises:
        ConfigError: plotly is not installed.
    """
    plotly = _plotly()
    charts = charts_of(runs)
    videos = videos_of(runs)
    samples = samples_of(runs, BUDGET - videos.size)
    sections = [
        *_section("samples", "Samples over time", samples.section),
        *_section("video", "Training as a video", videos.section),
        *(Section(*parts) for parts in chart_sections(charts)),
        *_section("health", "Health notes", health_section(runs)),
        *_model_sections(runs, trust_code, progress),
        *_section("configs", "Configuration" if len(runs) == 1 else "What differs", _configs(runs)),
        *_section("more", "More", more_section(charts)),
    ]
    title = runs[0].label if len(runs) == 1 else f"{len(runs)} runs: {', '.join(run.label for run in runs)}"
    body = together(
        [
            _header(title if len(runs) == 1 else f"{len(runs)} runs compared", sections),
            runs_section(runs, time.time()),
            *(element("section", element("h2", s.title), s.content, id=s.name) for s in sections),
            _footer(runs, samples, points_each(charts.lines) if charts.was_thinned else 0, charts.not_finite),
        ]
    )
    data = together([script_data("charts-data", data_of(charts, runs)), script_data("samples-data", samples.data)])
    return Template(_file("page.html")).substitute(
        title=text(f"{title} · dist_gan"),
        style=_file("page.css"),
        body=body,
        data=data,
        plotly=plotly,
        script=_file("page.js"),
    )


def _plotly() -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise ConfigError("the charts need plotly. Install it: pip install 'dist_gan[report]'") from None
    return str(get_plotlyjs())


def _file(name: str) -> str:
    return resources.files("dist_gan.reporting").joinpath(name).read_text("utf-8")


def _section(name: str, title: str, content: Element) -> Iterator[Section]:
    if content:
        yield Section(name, title, content)


def _header(title: str, sections: Sequence[Section]) -> Element:
    links = [element("a", section.title, href=f"#{section.name}") for section in sections]
    made = element("p", f"Made by dist_gan {__version__} on {when(time.time())}")
    return element("header", element("h1", title), made, element("nav", *links))


def _model_sections(runs: Sequence[Run], trust_code: bool, progress: "Progress") -> Iterator[Section]:
    models = [model_of(run, trust_code) for run in runs]
    conditional = [
        (run, model)
        for run, model in zip(runs, models, strict=True)
        if isinstance(model, str) or model.generator.classes
    ]
    if any(not isinstance(model, str) or _conditional(run.config) for run, model in conditional):
        content = [(run, classes_section(run, model, len(conditional))) for run, model in conditional]
        yield Section("classes", "Classes", _by_run(content, runs))
    near = [
        (run, neighbors_section(run, model, trust_code, len(runs), progress))
        for run, model in zip(runs, models, strict=True)
    ]
    yield Section("nearest", "Nearest training images", _by_run(near, runs))


def _conditional(config: Mapping[str, Any]) -> bool:
    networks = config.get("networks")
    return isinstance(networks, Mapping) and networks.get("conditional") is True


def _by_run(parts: Sequence[tuple[Run, Element]], runs: Sequence[Run]) -> Element:
    """A card for each run, which names it where there are several."""

    def heading(run: Run) -> Element:
        chip = element("span", class_="chip", style=f"--color: var(--c{runs.index(run) % 8})")
        return element("h3", chip, run.label) if len(runs) > 1 else Element()

    cards = [element("div", heading(run), content, class_="card") for run, content in parts]
    return element("div", *cards, class_="byrun")


def _configs(runs: Sequence[Run]) -> Element:
    """The keys that differ, and each config as it is."""
    files = [
        element("details", element("summary", f"config.yaml of {run.label}"), element("pre", run.config_text))
        for run in runs
        if run.config_text
    ]
    if not files:
        return Element()
    parts = []
    if len(runs) > 1:
        rows = differences([run.config for run in runs])
        same = element("p", "Their configs say the same.", class_="said")
        cells = ((_breakable(key), *values) for key, values in rows)
        parts.append(table(["key", *(run.label for run in runs)], cells) if rows else same)
    return element("div", *parts, *files, class_="card")


def _breakable(key: str) -> Element:
    """A dotted key, which a narrow screen breaks after a dot."""
    first, *others = key.split(".")
    steps = (together((".", element("wbr"), step)) for step in others)
    return element("code", first, *steps)


def _footer(runs: Sequence[Run], samples: Samples, thinned_to: int, not_finite: int) -> Element:
    said = ["Drag over a chart to enlarge a part of it, double-click to see all of it again; click a name to hide it."]
    if thinned_to:
        said.append(
            f"Lines of more than {thinned_to:,} points are thinned: they are drawn through the lowest and the highest "
            "value of each short stretch, so that every peak is there."
        )
    if not_finite:
        said.append(f"{not_finite:,} values that are NaN or infinite are not drawn.")
    said += samples.notes
    for run in runs:
        if run.broken_lines:
            lines = "one line" if run.broken_lines == 1 else f"{run.broken_lines:,} lines"
            said.append(f"{run.label}: {lines} of metrics.jsonl could not be read, such as an incomplete last one.")
    return element("footer", *(element("p", sentence) for sentence in said))
