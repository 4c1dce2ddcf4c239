"""bench.py's tables."""

import sys
from typing import Any

from rich.console import Console
from rich.table import Table

console = Console(width=None if sys.stdout.isatty() else 132, highlight=False)


def show(kind: str, found: dict[str, Any]) -> None:
    """One pair of networks: the gate, the candidates, the bar, what stands beside the update."""
    console.print()
    _gate(kind, found["gate"])
    _candidates(kind, found)
    for name, reason in found["missing"].items():
        console.print(f"{name}: {reason}")
    bar = found["bar"]
    if bar["at_least"] is None:
        console.print(f"{kind}: dist_gan has {bar['ratio']:.3f} of best's speed; no bar here")
    else:
        verdict = "[green]met" if bar["met"] else "[red]not met"
        console.print(
            f"{kind}: dist_gan has {bar['ratio']:.3f} of best's speed, the bar is {bar['at_least']}: {verdict}"
        )
    checkpoint, source, numbers = found["checkpoint"], found["source"], found["random_numbers"]
    console.print(
        f"a checkpoint: {checkpoint['state_ms']:.1f} ms to gather the state (the average's statistics are measured), "
        f"then Writer.save blocks for {checkpoint['save_stall_ms']:.1f} ms; "
        f"on disk {checkpoint['written_after_ms']:.0f} ms later"
    )
    console.print(
        f"the source alone: {source['images_per_second']:,.0f} images/s, {source['times_what_is_needed']:.0f} times "
        f"what is needed"
    )
    console.print(
        f"random numbers: draw of {numbers['numbers']:,} takes {numbers['draw_ms']:.3f} ms, "
        f"{numbers['share']:.1%} of an update"
    )


def _gate(kind: str, gate: dict[str, Any]) -> None:
    table = Table(title=f"{kind}: parity, largest difference of a parameter after {gate['updates']} updates")
    precisions = [key for key in gate if key in ("fp64", "fp32")]
    table.add_column("pair")
    for precision in precisions:
        part = gate[precision]
        limit = f"at most {part['tolerance']:.0e}" if part["decides"] else "for information"
        for network in ("G", "D", "average"):
            table.add_column(f"{precision} {network}\n({limit})", justify="right")
    for pair in gate[precisions[0]]["largest_difference"]:
        cells = [gate[p]["largest_difference"][pair].values() for p in precisions]
        table.add_row(pair, *(f"{value:.1e}" for values in cells for value in values))
    console.print(table)


def _candidates(kind: str, found: dict[str, Any]) -> None:
    table = Table(
        title=f"{kind}: batch {found['batch']}, {found['precision']}, {found['rounds']} rounds of "
        f"{found['updates_per_round']} updates in turn; best does D's turn {found['best_way']}"
    )
    table.add_column("candidate")
    headings = (
        "median ms",
        "min ms",
        "images/s",
        "ratio to best\n(>1: faster)",
        "10% .. 90%",
        "over best\nµs",
        "first update\nms",
    )
    for heading in headings:
        table.add_column(heading, justify="right")
    for name, row in found["candidates"].items():
        ratio = row["ratio_to_best"]
        table.add_row(
            name,
            f"{row['median_ms']:.3f}",
            f"{row['minimum_ms']:.3f}",
            f"{row['images_per_second']:,.0f}",
            f"{ratio['median']:.3f}",
            f"{ratio['p10']:.3f} .. {ratio['p90']:.3f}",
            f"{row['overhead_us']:+,.0f}",
            f"{row['first_update_ms']:.0f}",
        )
    console.print(table)


def show_recipes(found: dict[str, Any]) -> None:
    """The later recipes: the gate, and dist_gan's speed as a part of the written loop's."""
    if not found:
        return
    table = Table(title="later recipes beside the same update by hand (recipes.py): tiny, 32x32")
    for heading in (
        "recipe",
        "parity fp64\n(at most 1e-09)",
        "fp32",
        "by hand ms",
        "dist_gan ms",
        "ratio",
        "10% .. 90%",
    ):
        table.add_column(heading)
    for name, one in found.items():
        words = [name, *(f"{value:.1e}" for value in one["largest_difference"].values())]
        if one["wrong"]:
            table.add_row(*words, "[red]the gate is closed; nothing was timed")
            continue
        if not one["candidates"]:
            table.add_row(*words)
            continue
        by_hand, ours = one["candidates"].values()
        ratio = ours["ratio_to_best"]
        words += [f"{by_hand['median_ms']:.1f}", f"{ours['median_ms']:.1f}", f"{ratio['median']:.3f}"]
        table.add_row(*words, f"{ratio['p10']:.2f} .. {ratio['p90']:.2f}")
    console.print(table)
