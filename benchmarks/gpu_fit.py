"""How well the roofline of `doctor --plan` fits the updates that were measured on a GPU, and the fit itself.

python benchmarks/gpu_fit.py [--count NAME ...] [--refit]

`--count` counts configs again (minutes for the large ones) into results/counted.json. `--refit` looks for the four
numbers of `H100_SEEN` in dist_gan/planning/devices.py; without it these are used as they are.
"""

import argparse
import itertools
import json
import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from show import console
from subjects import config_of

from dist_gan.config.command_line import load
from dist_gan.config.schema import Config
from dist_gan.distributed.processes import Processes
from dist_gan.planning.counting import Work, count
from dist_gan.planning.devices import DEVICES, H100_SEEN, Reached

RESULTS = Path(__file__).parent / "results"
MEASURED = RESULTS / "gpu-nvidia-h100-80gb-hbm3.json"
COUNTED = RESULTS / "counted.json"


@dataclass(frozen=True)
class Row:
    """An update that was measured, and what was counted of it."""

    name: str
    precision: str
    batch: int
    seconds: float
    work: Work
    memory: float
    """Bytes, the peak; 0 where it was not measured."""
    counted_memory: float


def config(name: str) -> Config:
    """As it was measured: eagerly."""
    return config_of(name, 128) if name == "dcgan64" else load(Path(__file__).parents[1] / "configs" / f"{name}.yaml")


def counted(names: list[str]) -> None:
    """Count these configs, each written as soon as it is known."""
    for name in names:
        found = json.loads(COUNTED.read_text()) if COUNTED.exists() else {}
        costs = count(config(name), Processes("fp32"))
        found[name] = {part: vars(getattr(costs, part)) for part in ("fixed", "per_image", "per_microbatch")} | {
            "state_bytes": costs.state_bytes,
            "kept_fixed": costs.kept_fixed,
            "kept_bytes": costs.kept_bytes,
            "parameters": costs.parameters,
        }
        COUNTED.write_text(json.dumps(dict(sorted(found.items())), indent=1) + "\n")
        console.print(f"{name}: {found[name]}", soft_wrap=True)


def rows() -> list[Row]:
    """All measured updates whose config is counted; those of `exact` runs are not among them."""
    cells: dict[str, Any] = json.loads(MEASURED.read_text())["cells"]
    counts: dict[str, Any] = json.loads(COUNTED.read_text())
    found = []
    for cell, numbers in cells.items():
        part, _, what = cell.partition(": ")
        name, _, precision = what.partition(", ")
        if part not in ("recipes", "presets", "profile") or name not in counts:
            continue
        one, own = counts[name], config(name)
        images = own.batch_size
        microbatch = numbers.get("microbatch") or images
        parts = [Work(**one[key]) for key in ("fixed", "per_image", "per_microbatch")]
        work = parts[0] + images * parts[1] + (images // microbatch - 1) * parts[2]
        seconds = numbers["update_us"] / 1e6 if "update_us" in numbers else numbers["update_ms"] / 1e3
        gradients = 4 * max(one["parameters"].values())
        memory = one["state_bytes"] + gradients + one["kept_fixed"] + one["kept_bytes"] * microbatch
        peak = numbers.get("peak_memory_mib", 0.0) * 2**20
        found.append(Row(f"{part}: {name}", precision, images, seconds, work, peak, memory))
    return found


def errors(measured: list[Row], reached: Reached) -> list[float]:
    """Predicted / measured, row by row."""
    h100 = DEVICES["h100"]
    return [h100.seconds(row.work, row.precision, reached=reached)[0] / row.seconds for row in measured]


def fit(measured: list[Row]) -> Reached:
    """The four numbers with the least sum of absolute logarithms of the errors, from a grid that becomes finer."""
    point, step = [1e-5, 1e-5, 0.3, 1.0], 2.0
    while step > 1.01:
        best = math.inf
        for factors in itertools.product((1 / step, 1.0, step), repeat=4):
            trial = [p * f for p, f in zip(point, factors, strict=True)]
            reached = Reached({False: trial[0], True: trial[1]}, 0.0, trial[2], trial[3])
            total = sum(abs(math.log(e)) for e in errors(measured, reached))
            if total < best - 1e-9:
                best, chosen = total, trial
        if chosen == point:
            step = math.sqrt(step)
        point = chosen
    profile = json.loads(MEASURED.read_text())["cells"]["profile: mnist_mlp, fp32"]
    small = next(row for row in measured if row.name == "profile: mnist_mlp")
    graph = profile["device_busy_us"] / 1e6 / small.work.operators  # so little in each that nothing else counts
    return Reached({False: point[0], True: point[1]}, graph, point[2], point[3])


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", nargs="+", default=[])
    parser.add_argument("--refit", action="store_true")
    options = parser.parse_args()
    if options.count:
        counted(options.count)
        return
    measured = rows()
    reached = fit(measured) if options.refit else H100_SEEN
    console.print(f"{reached}")
    console.print("update | precision | batch | ms measured | predicted | ratio | bound by | GiB measured | counted")
    ratios = errors(measured, reached)
    for row, ratio in zip(measured, ratios, strict=True):
        bound = DEVICES["h100"].seconds(row.work, row.precision, reached=reached)[1]
        peak = f"{row.memory / 2**30:.2f}" if row.memory else ""
        console.print(
            f"{row.name} | {row.precision} | {row.batch} | {1e3 * row.seconds:.1f} | {1e3 * row.seconds * ratio:.1f} | "
            f"{ratio:.2f} | {bound} | {peak} | {row.counted_memory / 2**30:.2f}",
            soft_wrap=True,
        )
    off = [abs(math.log(ratio)) for ratio in ratios]
    within = sum(value < math.log(1.15) for value in off)
    console.print(
        f"half of the rows within {math.exp(statistics.median(off)) - 1:.0%}, all within a factor of "
        f"{math.exp(max(off)):.2f}; {within} of {len(off)} within 15%"
    )


if __name__ == "__main__":
    main()
