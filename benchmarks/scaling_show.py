"""scaling.py's tables: what was predicted, what was measured, and how straight the lines of growth are."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from show import console

from dist_gan.planning.buckets import buckets_of, exposed
from dist_gan.planning.counting import Arrival
from dist_gan.planning.links import Host, Link, World
from dist_gan.planning.plan import INSIDE_MACHINE

AIM = 0.15


def show(report: dict[str, Any]) -> None:
    """All parts that are there."""
    console.print("  ".join(f"{key} {value}" for key, value in report["hardware"].items()))
    cells = report.get("cells", {})
    for part, table in (("processes", _processes), ("links", _links), ("growth", _growth)):
        own = {name.partition(": ")[2]: cell for name, cell in cells.items() if name.startswith(f"{part}: ")}
        if own:
            table(own, report["hardware"]["cores"])


def ratios(cell: Mapping[str, Any], world: World, alone: Sequence[float]) -> tuple[float, float, float]:
    """Medians over the rounds: predicted / measured, predicted seconds, measured seconds."""
    predicted = []
    for seconds in alone:
        added = 0.0
        for noted in cell["arrivals"].values():
            seen = [Arrival(numbers, left) for numbers, left in noted]
            added += exposed(buckets_of(seen, seconds, 4), world) if world.count > 1 else 0.0
        predicted.append(seconds + added)
    measured = cell["together"]
    each = [p / m for p, m in zip(predicted, measured, strict=True)]
    return statistics.median(each), statistics.median(predicted), statistics.median(measured)


def _processes(cells: Mapping[str, Any], cores: int) -> None:
    table = Table(title="Processes of one machine, each of 1 thread; predicted from the update of one of them alone")
    for heading in (
        "networks, processes",
        "one alone ms",
        "all at once ms",
        "predicted ms",
        "measured ms",
        "error",
        "load",
    ):
        table.add_column(heading, justify="left" if heading.startswith("net") else "right")
    for name, cell in cells.items():
        count = int(name.rpartition(", ")[2])
        hosts = [Host(**found) for found in cell["host"]]
        host = (
            Host(*(statistics.median(v) for v in zip(*((h.per_step, h.per_byte) for h in hosts), strict=True)))
            if hosts
            else Host()
        )
        shared = max(1.0, count / cores)
        world = World(1, count, INSIDE_MACHINE, INSIDE_MACHINE, "gloo", host, shared, count >= cores)
        ratio, predicted, measured = ratios(cell, world, [shared * seconds for seconds in cell["one"]])
        table.add_row(
            name,
            _ms(statistics.median(cell["one"])),
            _ms(statistics.median(cell["all"])),
            _ms(predicted),
            _ms(measured),
            _error(ratio),
            f"{cell['load']:.1f}",
        )
    console.print(table)


def host_of(cell: Mapping[str, Any]) -> Host:
    """What an all-reduce costs the processors, from those over a link that is not shaped."""
    times = {int(size): statistics.median(taken) for size, taken in cell["all_reduce"].items()}
    largest = max(times)
    return Host(times[4] / 2, max(0.0, times[largest] - 2 * times[4]) / largest)


def _links(cells: Mapping[str, Any], cores: int) -> None:
    updates = Table(title="Two processes with a link between; predicted from their updates at once without reductions")
    for heading in (
        "networks, link, delay",
        "alone ms",
        "predicted ms",
        "measured ms",
        "error",
        "wire share: predicted",
        "measured",
        "load",
    ):
        updates.add_column(heading, justify="left" if heading.startswith("net") else "right")
    sums = Table(title="An all-reduce over the link, ms: predicted / measured")
    sums.add_column("link, delay")
    heads = [4, 40_000, 1_000_000, 4_000_000]
    for size in heads:
        sums.add_column(f"{size:,} bytes", justify="right")
    for name, cell in cells.items():
        networks, link, delay = name.split(", ")
        host = host_of(cells[f"{networks}, 0 Mbit/s, 0 ms"])
        bandwidth = float(link.split()[0]) * 1e6 / 8 or float("inf")
        wire = Link(bandwidth, float(delay.split()[0]) / 1e3)
        world = World(2, 1, wire, INSIDE_MACHINE, "gloo", host, 1.0, True)
        ratio, predicted, measured = ratios(cell, world, cell["all"])
        alone = statistics.median(cell["all"])
        shares = [f"{1 - alone / whole:.0%}" for whole in (predicted, measured)]
        updates.add_row(name, _ms(alone), _ms(predicted), _ms(measured), _error(ratio), *shares, f"{cell['load']:.1f}")
        row = []
        for size in heads:
            taken = statistics.median(cell["all_reduce"][str(size)])
            row.append(f"{_ms(world.all_reduce(size))} / {_ms(taken)}")
        sums.add_row(name, *row)
    console.print(updates)
    console.print(sums)


def _growth(cells: Mapping[str, Any], cores: int) -> None:
    table = Table(title="Growth: one process, one thread")
    for heading in ("what grows", "GFLOP an update", "ms an update", "off the line", "MiB counted", "MiB seen", "load"):
        table.add_column(heading, justify="left" if heading.startswith("what") else "right")
    for name, cell in cells.items():
        rows = cell["rows"]
        offs = off_the_line([row["flops"] for row in rows], [row["seconds"] for row in rows])
        for row, off in zip(rows, offs, strict=True):
            table.add_row(
                f"{name}: {row['config']}",
                f"{row['flops'] / 1e9:.3g}",
                _ms(row["seconds"]),
                f"{off:+.0%}" if "microbatch" not in name else "",
                f"{row['counted'] / 2**20:.1f}",
                f"{row['peak'] / 2**20:.1f}",
                f"{cell['load']:.1f}",
            )
    console.print(table)


def off_the_line(xs: Sequence[float], ys: Sequence[float]) -> list[float]:
    """How far each point is off the straight line through all of them, as a part of the line; weighted so that each
    point's own size counts alike."""
    weights = [1 / y**2 for y in ys]
    total = sum(weights)
    x0 = sum(w * x for w, x in zip(weights, xs, strict=True)) / total
    y0 = sum(w * y for w, y in zip(weights, ys, strict=True)) / total
    spread = sum(w * (x - x0) ** 2 for w, x in zip(weights, xs, strict=True))
    slope = sum(w * (x - x0) * (y - y0) for w, x, y in zip(weights, xs, ys, strict=True)) / spread if spread else 0.0
    return [y / (y0 + slope * (x - x0)) - 1 for x, y in zip(xs, ys, strict=True)]


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g}" if seconds < 1 else f"{1e3 * seconds:,.0f}"


def _error(ratio: float) -> str:
    color = "green" if abs(ratio - 1) <= AIM else "red"
    return f"[{color}]{ratio - 1:+.0%}"
