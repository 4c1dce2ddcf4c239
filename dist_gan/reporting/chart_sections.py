"""Sections with charts, and what stands in words beside them."""

from collections.abc import Iterator, Sequence

from dist_gan.reporting.charts import MOST_MARKS, NUMBER, PERCENT, Chart, Charts, Line
from dist_gan.reporting.elements import Element, element, table, together
from dist_gan.reporting.reading import Run, finite


def chart_sections(charts: Charts) -> Iterator[tuple[str, str, Element]]:
    """(id, title, content) of each section that has charts."""
    if charts.evaluation:
        curves = [chart for chart in charts.evaluation if any(len(line.values) > 1 for line in chart.lines)]
        values = _values(charts.evaluation, folded=len(curves) == len(charts.evaluation))
        yield "evaluation", "Evaluation", together([*([_charts(curves)] if curves else []), values])
    if charts.training:
        yield "training", "Training", _charts(charts.training)
    if charts.speed:
        yield "speed", "Speed and memory", _charts(charts.speed)


def more_section(charts: Charts) -> Element:
    """Metrics without a place of their own; empty where there are none."""
    parts = [_charts(charts.more)] if charts.more else []
    if charts.constant:
        listed = ", ".join(f"{name} = {value:.6g}" for name, value in charts.constant.items())
        parts.append(element("p", f"The same at all times: {listed}.", class_="said"))
    return together(parts)


def health_section(runs: Sequence[Run]) -> Element:
    """What the runs noticed about themselves, numbered as in the charts; empty where there is nothing."""
    items = []
    for index, run in enumerate(runs):
        style = f"--color: var(--c{index % 8})" if len(runs) > 1 else None
        for number, note in enumerate(run.notes, 1):
            where = " · ".join(
                part for part in (run.label if style else "", f"{note.images:,} images", note.kind) if part
            )
            lines = [element("p", where, class_="where"), element("p", note.text)]
            lines += [element("p", note.advice, class_="where")] if note.advice else []
            items.append(element("li", element("span", number, class_="number"), element("div", *lines), style=style))
    if not items:
        return Element()
    marked = "Marked in the charts by dotted lines."
    if any(len(run.notes) > MOST_MARKS for run in runs):
        marked = f"The first {MOST_MARKS} of a run are marked in the charts by dotted lines."
    return element("div", element("p", marked, class_="said"), element("ol", *items, class_="notes"), class_="card")


def _charts(charts: Sequence[Chart]) -> Element:
    return element("div", *map(_chart, charts), class_="charts")


def _chart(chart: Chart) -> Element:
    positive = all(value > 0 for line in chart.lines for value in finite(line.values.values()))
    log = element("button", "log", class_="log", type="button", aria_pressed="false", title="logarithmic axis")
    heading = element("div", element("h3", chart.title), *([log] if positive else []))
    caption = element("p", chart.caption, class_="said") if chart.caption else Element()
    keys = element("div", *(_key(i, line, chart) for i, line in enumerate(chart.lines)), class_="keys")
    plot = element("div", class_="plot", role="img", aria_label=f"{chart.title} over images")
    return element("figure", heading, caption, keys, plot, class_="card chart", data_chart=chart.number)


def _key(number: int, line: Line, chart: Chart) -> Element:
    """A line's name, its last value, and how it is drawn; a click hides the line."""
    last = element("b", written(list(line.values.values())[-1], chart.format))
    style = element("i", class_=f"dash{line.dash % 4}")
    color = f"--color: var(--c{line.color % 8})"
    return element(
        "button",
        style,
        element("span", line.name, " ", last),
        type="button",
        data_line=number,
        aria_pressed="true",
        style=color,
    )


def _values(charts: Sequence[Chart], folded: bool) -> Element:
    """All numbers of the evaluation: what is meant, the last one, the lowest and the highest. `folded`: shown by a
    click, since all of them are in charts."""
    rows = []
    several = any(len(line.values) > 1 for chart in charts for line in chart.lines)
    for chart in charts:
        for line in chart.lines:
            values = {images: value for images, value in line.values.items() if finite([value])}
            if values:
                low, high = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
                at = (next(reversed(values)), low, high) if several else (low,)
                numbers = [_at(images, values[images]) for images in at]
                rows.append([chart.title, line.run.label, line.protocol, *numbers, _best(line)])
    best = any(row[-1] for row in rows)
    found = ["last", "lowest", "highest"] if several else ["value"]
    head = ["metric", "run", "protocol", *found, *(["best checkpoint"] if best else [])]
    body = table(head, rows if best else [row[:-1] for row in rows], class_="values")
    if not folded:
        return element("div", body, class_="card")
    return element("details", element("summary", "All values and their protocols"), body, class_="card")


def _at(images: int, value: float) -> Element:
    return element("span", written(value, NUMBER), element("br"), element("small", f"at {images:,}"))


def _best(line: Line) -> Element:
    """The value of the checkpoint that was chosen by this line; empty for other lines."""
    if line.best is None:
        return Element()
    return element("span", "★ ", _at(line.best, line.values[line.best]), class_="best")


def written(value: float, format_: str) -> str:
    """For people, about as a chart's axis writes it."""
    if format_ == PERCENT:
        return f"{value:.1%}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
