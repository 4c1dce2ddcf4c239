"""The command (see this package)."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported anywhere: forked ranks must not inherit threads
import argparse
import random
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch._dynamo
import torch.distributed.tensor  # these two take seconds, and each rank would import them
from rich.console import Console
from rich.table import Table

from tests.campaigns.proof import __doc__ as about
from tests.campaigns.proof.cases import cases, large_cases
from tests.campaigns.proof.compare import (
    ALL_KINDS,
    BOUNDS,
    SMALL,
    WHOLE,
    ZERO,
    Counts,
    counts,
    differences,
    flat,
    largest,
)
from tests.campaigns.proof.play import LARGE_MODES, MODES, PARTS, UPDATES, Cases, Found, leg, one_world, written
from tests.support.forked import forked
from tests.support.tiny import digest

WORLDS = (1, 2, 3, 4)
LARGE = 64
SECONDS = 1800
"""What a world may take."""


def main() -> int:
    """Play in all worlds, compare, print."""
    options = _options()
    console = Console(width=None if sys.stdout.isatty() else 190, highlight=False)
    choose = random.Random(options.seed)
    began = time.monotonic()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        proof = _Proof(console, Path(folder), choose, options.only)
        if not options.large:
            failed += proof.small()
        if options.large is not None or not options.only:
            failed += proof.large(options.large or LARGE)
    console.print(f"{'FAILED: ' + str(failed) if failed else 'passed'}, in {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


class _Proof:
    """Results come back through files in `folder`. All worlds are played before anything is compared."""

    def __init__(self, console: Console, folder: Path, choose: random.Random, only: str) -> None:
        self.console = console
        self.folder = folder
        self.choose = choose
        self.only = only

    def small(self) -> int:
        """A few processes, every case. Returns how many cases failed."""
        chosen = self._chosen(cases())
        cuts = {world: self.choose.randrange(1, UPDATES) for world in WORLDS}
        legs = _legs(self.choose)
        self.console.print(f"stopped after (processes: updates) {cuts}; handed on as {legs}")
        worlds = {world: self._play(world, lambda w=world: one_world(chosen, cuts[w])) for world in WORLDS}
        handed: dict[str, Any] = {}
        for world, updates in legs:
            handed = self._play(world, lambda n=updates, before=handed: leg(chosen, MODES, n, before))
        table = _table("against one process that never stopped", BOUNDS, ("resumed:\nbitwise", "exact:\nbitwise"))
        failed = 0
        less: dict[str, list[int]] = {}
        for name in chosen:
            counting = counts(worlds[1][f"fp64/{name}/1"])
            shares = [share for own in counting.values() for share in own.values()]
            less[name] = [shares.count(0.0), sum(0 < share < 1 for share in shares)]
            cells, passed = _small_row(name, worlds, handed, counting)
            table.add_row(name, *cells, style=None if passed else "red")
            failed += not passed
        self.console.print(table)
        self.console.print(
            f"{', '.join(map(str, WORLDS))} processes, {', '.join(map(str, PARTS))} microbatches; bounds: "
            + ", ".join(f"{bound:g} in {mode}" for mode, bound in BOUNDS.items())
            + "; resumed on the same number of processes, and exact on every number: equal to the bit\n"
            + "relative: to the largest number of each tensor; in fp32 the norm of all tensors of a network or moment\n"
            + f"parameters whose gradients are zero but for rounding (below {ZERO:g} of the player's largest) count 0, "
            + f"those below {SMALL:g} count less: "
            + (", ".join(f"{zero} and {few} of {name}" for name, (zero, few) in less.items() if zero or few) or "none")
        )
        return failed

    def large(self, count: int) -> int:
        """`count` processes, and from there to one. Returns how many cases failed."""
        chosen = self._chosen(large_cases(count))
        cut = self.choose.randrange(1, UPDATES)
        alone = self._play(1, lambda: leg(chosen, LARGE_MODES, UPDATES, {}))
        half = self._play(count, lambda: leg(chosen, LARGE_MODES, cut, {}))
        handed = self._play(1, lambda: leg(chosen, LARGE_MODES, UPDATES - cut, half))
        together = self._play(count, lambda: leg(chosen, LARGE_MODES, UPDATES, {}))
        bounds = {mode: BOUNDS[mode] for mode in LARGE_MODES if mode in BOUNDS}
        table = _table(f"on {count} processes, against one process", bounds, ("exact:\nbitwise",))
        failed = 0
        for name in chosen:
            right = {mode: alone[f"{mode}/{name}"] for mode in bounds}
            cells, passed = _distances(name, bounds, right, [together, handed], counts(right["fp64"]))
            hashes = [digest(flat(found[f"exact/{name}"])) for found in (alone, together, handed)]
            same = hashes.count(hashes[0])
            passed &= same == len(hashes)
            table.add_row(name, *cells, f"{same} of {len(hashes)}", style=None if passed else "red")
            failed += not passed
        self.console.print(table)
        self.console.print(
            f"{count} processes from the beginning to the end, and {count} for {cut} updates, then one; all ranks equal"
        )
        return failed

    def _chosen(self, cases: Cases) -> Cases:
        return {name: config for name, config in cases.items() if re.search(self.only, name)}

    def _play(self, count: int, what: Callable[[], Found]) -> dict[str, Any]:
        out = self.folder / "out.pt"
        began = time.monotonic()
        try:
            forked(count, lambda: written(what(), out), timeout=SECONDS)
        except RuntimeError as error:
            sys.exit(f"FAILED: {error}")
        self.console.print(f"{count} process{'es' if count > 1 else ''}: {time.monotonic() - began:.1f} s")
        return dict(torch.load(out, weights_only=True))


def _small_row(
    name: str, worlds: dict[int, dict[str, Any]], handed: dict[str, Any], counting: Counts
) -> tuple[list[str], bool]:
    right = {mode: worlds[1][f"{mode}/{name}/1"] for mode in BOUNDS}
    others = [
        {f"{mode}/{name}": worlds[world][f"{mode}/{name}/{parts}"] for mode in BOUNDS}
        for world in WORLDS
        for parts in PARTS
    ]
    cells, passed = _distances(name, BOUNDS, right, [*others, handed], counting)
    resumes = [worlds[world][f"{mode}/{name}/bitwise"] for world in WORLDS for mode in MODES]
    hashes = [digest(flat(worlds[world][f"exact/{name}/1"])) for world in WORLDS]
    hashes.append(digest(flat(handed[f"exact/{name}"])))
    same = hashes.count(hashes[0])
    cells += [f"{sum(resumes)} of {len(resumes)}", f"{same} of {len(hashes)}"]
    return cells, passed and all(resumes) and same == len(hashes)


def _distances(
    name: str,
    bounds: dict[str, float],
    right: dict[str, Any],
    others: list[dict[str, Any]],
    counting: Counts,
) -> tuple[list[str], bool]:
    """The cells of a row, for each bound and kind the largest difference; and whether all are within their bounds."""
    cells, passed = [], True
    for mode, bound in bounds.items():
        found = largest(
            differences(other[f"{mode}/{name}"], right[mode], counting, whole=mode in WHOLE) for other in others
        )
        cells += [f"{found[kind]:.1e}" if kind in found else "" for kind in ALL_KINDS]
        passed &= all(value <= bound for value in found.values())
    return cells, passed


def _table(title: str, bounds: dict[str, float], more: tuple[str, ...]) -> Table:
    table = Table(title=f"after {UPDATES} updates, {title}: largest relative difference")
    table.add_column("case")
    for column in (*(f"{mode}\n{kind}" for mode in bounds for kind in ALL_KINDS), *more):
        table.add_column(column, justify="right")
    return table


def _legs(choose: random.Random) -> list[tuple[int, int]]:
    """(processes, updates) one after the other, each number of processes another than before; UPDATES in all."""
    points = sorted(choose.sample(range(1, UPDATES), 3))
    order = choose.sample(WORLDS, 4)
    return list(zip(order, (b - a for a, b in zip([0, *points], [*points, UPDATES], strict=True)), strict=True))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of the random points where runs stop")
    parser.add_argument(
        "--large", type=int, nargs="?", const=LARGE, help=f"only the cases of many processes; {LARGE} by default"
    )
    parser.add_argument("--only", default="", metavar="REGEX", help="only the cases in whose names this is found")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
