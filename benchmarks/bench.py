"""dist_gan beside loops written by hand: parity first, then rounds in turn (README.md).

python benchmarks/bench.py [--networks mlp,dcgan32[,dcgan64]] [--recipes r3gan,...] [--batch N] [--rounds 20]
                           [--updates K] [--precision fp32|tf32|bf16] [--device auto|cpu|cuda] [--out FILE.json]
                           [--examples EXAMPLES/dcgan/main.py]
"""

import argparse
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import measure
import recipes
import torch
from examples_loop import ExamplesLoop
from loops import Candidate, join, leave, shuffled
from show import console, show, show_recipes
from subjects import BEST, OURS, UPDATES_OF_GATE, YARDSTICK, Bench, Ours, config_of, gate

from dist_gan import __version__
from dist_gan.data.source import Resident
from dist_gan.distributed.processes import Processes
from dist_gan.networks import MLP

KINDS = ("mlp", "dcgan32", "dcgan64")
BARS = {"cpu": {"mlp": 0.90, "dcgan32": 0.97}, "cuda": dict.fromkeys(KINDS, 0.98)}
EXAMPLES = "pytorch/examples"
TOLERANCES = {"fp64": 1e-9, "fp32": 1e-5}


def main() -> int:
    """Returns the exit code: 1 where a candidate does not do what the others do."""
    options = _options()
    if options.device == "cpu":
        os.environ["ACCELERATE_USE_CPU"] = "true"
    processes = Processes("fp64")
    if options.device not in ("auto", processes.device.type):
        console.print(f"--device {options.device}: this process has {processes.device.type}")
        return 2
    if not options.networks and options.recipes is None:
        options.networks, options.recipes = list(BARS[processes.device.type]), list(recipes.RECIPES)
    missing = join(processes.device)
    report: dict[str, Any] = {
        "hardware": hardware(processes.device),
        "options": {k: v if v is None or isinstance(v, int | list) else str(v) for k, v in vars(options).items()},
        "networks": {},
    }
    console.print("  ".join(f"{key} {value}" for key, value in report["hardware"].items()))
    try:
        for kind in options.networks:
            found = compare(kind, options, missing)
            report["networks"][kind] = found
            if options.out:
                Path(options.out).write_text(json.dumps(report, indent=1))
            if wrong := found["gate"]["wrong"]:
                console.print(f"[red]{kind}: the parity gate is closed: {', '.join(wrong)}. Nothing was timed")
                return 1
            if options.rounds:
                show(kind, found)
        report["recipes"] = {name: compare_recipe(name, options.rounds) for name in options.recipes or ()}
        if options.out:
            Path(options.out).write_text(json.dumps(report, indent=1))
        show_recipes(report["recipes"])
        if any(found["wrong"] for found in report["recipes"].values()):
            return 1
    finally:
        leave()
    return 0


def compare(kind: str, options: argparse.Namespace, ddp_missing: str) -> dict[str, Any]:
    """Everything about one pair of networks."""
    batch = options.batch
    bench = _bench(kind, batch, options.precision)
    way = measure.fastest_way(bench)
    found: dict[str, Any] = {"batch": batch, "precision": options.precision, "best_way": way}
    found["gate"] = parity(kind, batch, way, ddp_missing)
    if found["gate"]["wrong"] or not options.rounds:
        return found

    bench = _bench(kind, batch, options.precision)
    device = bench.processes.device
    makers, found["missing"] = bench.makers(way, ddp_missing)
    if options.examples and kind == "dcgan64":
        images = shuffled(bench.dataset.images, batch, channels_last=False)
        makers[EXAMPLES] = lambda: ExamplesLoop(options.examples, images, device)
    candidates: dict[str, Candidate] = {}
    first_ms = {}
    for name, make in makers.items():

        def first_update(name: str = name, make: Any = make) -> None:
            candidates[name] = make()
            measure.run(name, candidates[name], 1)

        first_ms[name] = measure.timed(first_update, device) * 1e3
    for name, candidate in candidates.items():
        measure.run(name, candidate, 3)
    updates = options.updates or measure.updates_of_a_round(candidates[BEST], device)
    times = measure.rounds(candidates, options.rounds, updates, device)
    found |= {"rounds": options.rounds, "updates_per_round": updates}
    found["candidates"] = {
        name: measure.summary(values, times[BEST], batch) | {"first_update_ms": first_ms[name]}
        for name, values in times.items()
    }
    bar = BARS[device.type].get(kind)
    ratio = found["candidates"][OURS]["ratio_to_best"]["median"]
    found["bar"] = {"at_least": bar, "ratio": ratio, "met": None if bar is None else ratio >= bar}

    ours = candidates[OURS]
    assert isinstance(ours, Ours)
    mine = found["candidates"][OURS]
    found["checkpoint"] = measure.checkpoint(bench, ours)
    found["source"] = measure.source(bench, mine["images_per_second"])
    found["random_numbers"] = measure.random_numbers(bench, ours, mine["median_ms"])
    for candidate in candidates.values():
        candidate.close()
    return found


def compare_recipe(name: str, rounds: int) -> dict[str, Any]:
    """One of the later recipes beside the same update written by hand. The fp64 gate decides whether it is timed."""
    differences = {precision: max(recipes.parity(name, precision).values()) for precision in TOLERANCES}
    wrong = not differences["fp64"] <= TOLERANCES["fp64"]
    return {
        "largest_difference": differences,
        "wrong": wrong,
        "candidates": {} if wrong or not rounds else recipes.ratios(name, rounds),
    }


def parity(kind: str, batch: int, way: Any, ddp_missing: str) -> dict[str, Any]:
    """The gate. In fp64 it decides for all networks; in fp32 for those whose rounding does not grow (README.md)."""
    found: dict[str, Any] = {"updates": UPDATES_OF_GATE, "wrong": []}
    for precision, tolerance in TOLERANCES.items():
        bench = _bench(kind, batch, precision, dropout=0.0)
        decides = precision == "fp64" or isinstance(bench.config.networks, MLP)
        differences = gate(bench, way, ddp_missing)
        found[precision] = {"tolerance": tolerance, "decides": decides, "largest_difference": differences}
        for name, by_network in differences.items():
            largest = max(by_network.values())
            if decides and name != YARDSTICK and not largest <= tolerance:
                found["wrong"].append(f"{name}: {largest:.1e} in {precision}, expected at most {tolerance:.0e}")
    return found


def hardware(device: torch.device) -> dict[str, Any]:
    """Where the numbers come from."""
    cpu = next((line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "?")
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else cpu,
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "dist_gan": __version__,
    }


def _bench(kind: str, batch: int, precision: str, *, dropout: float | None = None) -> Bench:
    config = config_of(kind, batch)
    if dropout is not None and isinstance(config.networks, MLP):
        config = config.model_copy(update={"networks": config.networks.model_copy(update={"dropout": dropout})})
    processes = Processes(precision)
    dataset = config.data.open(processes.device)
    assert isinstance(dataset, Resident)
    return Bench(config, processes, dataset, bf16=precision == "bf16")


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="dist_gan beside loops written by hand (benchmarks/README.md)")
    parser.add_argument(
        "--networks", default="", help=f"comma-separated: {','.join(KINDS)} (on a CPU without the last)"
    )
    parser.add_argument(
        "--recipes", help=f"comma-separated: {','.join(recipes.RECIPES)}; all where neither option is given"
    )
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--updates", type=int, default=0, help="updates of a round; 0: as many as last about 0.6 s")
    parser.add_argument("--precision", choices=("fp32", "tf32", "bf16"), default="fp32")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--examples", type=Path, help="dcgan/main.py of a checkout of pytorch/examples; with dcgan64")
    parser.add_argument("--out", help="write everything there, as JSON")
    options = parser.parse_args()
    options.networks = options.networks.split(",") if options.networks else []
    if unknown := set(options.networks) - set(KINDS):
        parser.error(f"--networks: unknown {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
    options.recipes = options.recipes.split(",") if options.recipes else None
    if unknown := set(options.recipes or ()) - set(recipes.RECIPES):
        parser.error(f"--recipes: unknown {', '.join(sorted(unknown))}; there are {', '.join(recipes.RECIPES)}")
    if options.rounds < 0 or options.rounds == 1 or options.batch < 16 or options.batch % 16:
        parser.error(
            "--rounds: 0 (the gates alone), or at least 2; --batch: a multiple of 16, which is dist_gan's group"
        )
    return options


if __name__ == "__main__":
    sys.exit(main())
