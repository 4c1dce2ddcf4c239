"""Which charts a page has, and the points of their lines."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dist_gan.metrics.protocol import parsed
from dist_gan.reporting.reading import Run, finite
from dist_gan.reporting.thinning import packed, points_each, thinned

NUMBER, PERCENT, SI, THOUSANDS = ".4~g", ".1~%", ".4~s", ",.6~r"
"""How values are written, as d3 formats."""
ABBREVIATIONS = {"fid", "kid", "mind", "kl"}
FEW = 40
"""Lines of at most this many points show each of them."""
MANY = 500
"""Lines of more points are drawn thinner."""
MOST_MARKS = 60
"""Health notes of a run that are marked in the charts."""


class Series(NamedTuple):
    """One metric within a chart."""

    column: str
    name: str = ""
    color: int = 0
    """Of a page about one run, where colors tell metrics apart; with several runs they tell runs apart."""


class Plan(NamedTuple):
    """A chart before it has points."""

    title: str
    series: tuple[Series, ...]
    unit: str = ""
    format: str = NUMBER
    zero: bool = False
    """Whether the axis of values begins at 0."""


D, G = 0, 1
PENALTIES = Plan("Penalties", (Series("D/penalty", "D", D), Series("G/penalty", "G", G)))
PLANS = (
    Plan("Losses", (Series("D/loss", "D", D), Series("G/loss", "G", G))),
    Plan(
        "Logits of D",
        (Series("D/real_logit", "real images", 2), Series("D/fake_logit", "generated images", G)),
    ),
    Plan("Accuracy of D", (Series("D/accuracy", "images told apart", D),), format=PERCENT),
    PENALTIES,
    Plan("Gradient norms", (Series("D/gradient_norm", "D", D), Series("G/gradient_norm", "G", G)), zero=True),
    Plan("Learning rates", (Series("D/learning_rate", "D", D), Series("G/learning_rate", "G", G)), zero=True),
)
SPEED = (
    Plan("Throughput", (Series("images_per_second", "images per second"),), "images per second", SI, zero=True),
    Plan("Waiting for data", (Series("seconds_waiting_for_data", "seconds"),), "seconds", zero=True),
    Plan("Peak memory", (Series("peak_memory_mib", "MiB"),), "MiB", THOUSANDS, zero=True),
)
SKIPPED = Plan("Updates skipped", (Series("D/skipped", "D", D), Series("G/skipped", "G", G)), zero=True)
RARE = (PENALTIES, SKIPPED)
"""Charts of what is 0 in most runs, and then in no chart."""


@dataclass
class Line:
    """One trace."""

    name: str
    run: Run
    values: Mapping[int, float]
    color: int
    dash: int
    protocol: str = ""
    """For people: how the numbers of an evaluation were computed."""
    best: int | None = None
    """The images of the best checkpoint, where it was chosen by these numbers."""


@dataclass
class Chart:
    """Lines over images, with one axis of values."""

    title: str
    lines: list[Line]
    unit: str = ""
    format: str = NUMBER
    zero: bool = False
    caption: str = ""
    number: int = field(default=0)
    """By which the page's script finds it."""


@dataclass
class Charts:
    """All charts of a page, by section."""

    training: list[Chart]
    evaluation: list[Chart]
    speed: list[Chart]
    more: list[Chart]
    constant: dict[str, float]
    """Metrics that are not worth a chart: in all runs and at all times they have this value."""

    def __post_init__(self) -> None:
        for number, chart in enumerate(self.all()):
            chart.number = number

    def all(self) -> Iterator[Chart]:
        """In the order of the page."""
        yield from (*self.evaluation, *self.training, *self.speed, *self.more)

    @property
    def lines(self) -> int:
        """Of all charts."""
        return sum(len(chart.lines) for chart in self.all())

    @property
    def was_thinned(self) -> bool:
        """Whether any line has fewer points than its metric."""
        most = points_each(self.lines)
        return any(len(finite(line.values.values())) > most for chart in self.all() for line in chart.lines)

    @property
    def not_finite(self) -> int:
        """How many values are NaN or infinite: they are not drawn."""
        return sum(len(line.values) - len(finite(line.values.values())) for chart in self.all() for line in chart.lines)


def charts_of(runs: Sequence[Run]) -> Charts:
    """Which charts these runs have; a metric that no run has is left out."""
    columns = list(dict.fromkeys(name for run in runs for name in run.columns))
    drawn = {series.column for plan in (*PLANS, *SPEED) for series in plan.series if plan not in RARE}
    rare = {series.column for plan in RARE for series in plan.series}
    constant = {
        name: value
        for name in columns
        if name not in drawn and parsed(name) is None and (value := _constant(name, runs)) is not None
        if value == 0 or name not in rare
    }
    others = [name for name in columns if name not in drawn | rare | constant.keys() and parsed(name) is None]
    return Charts(
        training=_charts(PLANS, runs, constant),
        evaluation=_evaluation(columns, runs),
        speed=_charts(SPEED, runs),
        more=_charts((SKIPPED, *(Plan(name, (Series(name, name),)) for name in others)), runs, constant),
        constant=constant,
    )


def data_of(charts: Charts, runs: Sequence[Run]) -> dict[str, Any]:
    """What the page's script draws."""
    most = points_each(charts.lines)
    last = max(run.images_seen for run in runs)
    return {
        "last": last,
        "charts": [_data(chart, most) for chart in charts.all()],
        "marks": [
            {"x": note.images, "run": runs.index(run) if len(runs) > 1 else -1, "number": number}
            for run in runs
            for number, note in enumerate(run.notes[:MOST_MARKS], 1)
        ],
    }


def _format(chart: Chart) -> str:
    """Plain numbers up to a million, and small ones with as many digits as they need."""
    if chart.format != NUMBER:
        return chart.format
    largest = max((abs(value) for line in chart.lines for value in finite(line.values.values())), default=0)
    return SI if largest >= 1e6 else THOUSANDS if largest >= 1e3 else NUMBER


def _data(chart: Chart, most: int) -> dict[str, Any]:
    lines = []
    for line in chart.lines:
        x, y = thinned(list(line.values), list(line.values.values()), most)
        shown = {
            "name": line.name,
            "color": line.color,
            "dash": line.dash,
            "points": len(x) <= FEW,
            "dense": len(x) > MANY,
        }
        if line.best is not None:
            shown["best"] = [line.best, line.values[line.best]]
        lines.append({**shown, "x": packed(x), "y": packed(y)})
    lowest = min((value for line in chart.lines for value in finite(line.values.values())), default=0)
    shown = {"title": chart.title, "unit": chart.unit, "format": _format(chart), "lines": lines}
    return {**shown, "range": "tozero" if chart.zero else "nonnegative" if lowest >= 0 else "normal"}


def _charts(plans: Sequence[Plan], runs: Sequence[Run], without: Collection[str] = ()) -> list[Chart]:
    found = []
    for plan in plans:
        lines = []
        for dash, series in enumerate(plan.series):
            for number, run in enumerate(runs):
                values = run.columns.get(series.column)
                if values and series.column not in without:
                    several = len(runs) > 1
                    names = [run.label] if several else []
                    names += [series.name] if len(plan.series) > 1 or not several else []
                    name = " · ".join(names)
                    lines.append(Line(name, run, values, number if several else series.color, dash if several else 0))
        if lines:
            found.append(Chart(plan.title, lines, plan.unit, plan.format, plan.zero))
    return found


def _evaluation(columns: Sequence[str], runs: Sequence[Run]) -> list[Chart]:
    """One chart for each value's name. Each protocol has lines of its own: two are never joined."""
    keys = {name: found for name in columns if (found := parsed(name))}
    charts = []
    for value in dict.fromkeys(value for value, _ in keys.values()):
        protocols = {name: protocol for name, (other, protocol) in keys.items() if other == value}
        lines = []
        for dash, (name, protocol) in enumerate(protocols.items()):
            for number, run in enumerate(runs):
                if name in run.columns:
                    parts = [run.label] if len(runs) > 1 else []
                    parts += [protocol.text()] if len(protocols) > 1 else []
                    line = " · ".join(parts) or title_of(value)
                    color, style = (number, dash) if len(runs) > 1 else (dash, 0)
                    best = run.best.images if run.best and run.best.key == name else None
                    lines.append(Line(line, run, run.columns[name], color, style, protocol.text(), best))
        caption = next(iter(protocols.values())).text() if len(protocols) == 1 else ""
        if any(line.best is not None for line in lines):
            caption = " ".join(part for part in (f"{caption}." if caption else "", "★ The best checkpoint.") if part)
        charts.append(Chart(title_of(value), lines, caption=caption))
    return charts


def title_of(value: str) -> str:
    """`fid` -> FID, `inception_score` -> Inception score, `reverse_kl` -> Reverse KL."""
    words = " ".join(word.upper() if word in ABBREVIATIONS else word for word in value.split("_"))
    return words[:1].upper() + words[1:]


def _constant(name: str, runs: Sequence[Run]) -> float | None:
    """The only value of this metric; None where it has several."""
    values = {value for run in runs for value in run.columns.get(name, {}).values()}
    return next(iter(values)) if len(values) == 1 else None
