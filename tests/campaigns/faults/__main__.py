import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from tests.campaigns.faults import __doc__ as about
from tests.campaigns.faults.broken import broken
from tests.campaigns.faults.calls import can_trace, system_calls
from tests.campaigns.faults.disk import disk, full, limited, read_only, small_disk
from tests.campaigns.faults.kills import kills
from tests.campaigns.faults.peers import peers
from tests.campaigns.faults.rot import rot
from tests.campaigns.faults.runs import Tally

PARTS = ("bytes", "calls", "disk", "kills", "peers", "mistakes")


def campaign(folder: Path, given: argparse.Namespace) -> Iterator[Tally]:
    """The parts that are asked for; those that need root or strace only where these are."""
    generator = random.Random(given.seed)

    def room(name: str) -> Path:
        (folder / name).mkdir()
        return folder / name

    if "bytes" in given.parts:
        yield rot(room("rot"), given.bytes, generator)
    if "calls" in given.parts and can_trace():
        yield from system_calls(room("calls"), given.calls, generator)
    if "disk" in given.parts:
        yield disk(room("limited"), limited)
        with small_disk(room("full")) as mounted:
            if mounted:
                yield disk(mounted, full)
                yield disk(room("read_only"), read_only)
    if "kills" in given.parts:
        on_two = given.kills * 2 // 5
        for ranks, count in ((1, given.kills - on_two), (2, on_two)):
            yield kills(room(f"kills-{ranks}"), ranks, count, generator)
    if "peers" in given.parts:
        yield from peers(room("peers"), given.peers, generator)
    if "mistakes" in given.parts:
        yield broken(room("mistakes"), generator)


def main() -> int:
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=PARTS, help=f"of {', '.join(PARTS)}; all where none is named")
    for name, default in (("kills", 1000), ("calls", 0), ("bytes", 1000), ("peers", 10), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", type=Path, help="write what was counted to this file as well")
    given = parser.parse_args()
    console = Console(width=100)
    begun = time.monotonic()
    console.print(f"seed {given.seed}")
    with tempfile.TemporaryDirectory() as folder:
        tallies = []
        for tally in campaign(Path(folder), given):
            tallies.append(tally)
            console.print(
                f"[{time.monotonic() - begun:6.0f} s] {tally.name}: {len(tally.failures)} failures", markup=False
            )
            for failure in tally.failures[:5]:
                console.print(failure, markup=False)
    table = Table("fault", "what", "", title=f"faults (seed {given.seed})")
    for tally in tallies:
        rows = [(what, f"{times:,}") for what, times in tally.counts.items()]
        rows += [(f"seconds {what}", f"{median(s):.1f}, {max(s):.1f} at most") for what, s in tally.seconds.items()]
        for k, row in enumerate(rows):
            table.add_row("" if k else tally.name, *row, end_section=k == len(rows) - 1)
    console.print(table)
    if given.json:
        given.json.write_text(json.dumps({t.name: {"counts": t.counts, "failures": t.failures} for t in tallies}))
    return int(any(tally.failures for tally in tallies))


if __name__ == "__main__":
    sys.exit(main())
