"""The whole truth of a GPU in one command (README.md): `make gpu`.

python benchmarks/gpu.py [--parts recipes,presets,...] [--seconds 3] [--out FILE.json] [--device cuda|cpu] [--again]

Every part runs in a process of its own, and every number is written as soon as it is known: a command that was cut
off goes on where it ended.
"""

import argparse
import json
import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import torch
from bench import hardware
from gpu_cells import Plan
from show import console

RESULTS = Path(__file__).parent / "results"
CHILD = "DIST_GAN_GPU_PART"
"""Set in the process of one part, to that part."""


class Report:
    """The file of results: the hardware, and the numbers of each cell by "part: cell"."""

    def __init__(self, path: Path, device: torch.device) -> None:
        self.path = path
        self.found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        self.found.setdefault("hardware", hardware(device))
        self.found.setdefault("cells", {})

    @property
    def cells(self) -> dict[str, Any]:
        cells: dict[str, Any] = self.found["cells"]
        return cells

    def put(self, name: str, numbers: dict[str, Any]) -> None:
        self.cells[name] = numbers
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(self.found, indent=1) + "\n")
        new.replace(self.path)


def main() -> int:
    """Returns the exit code: 2 without a GPU, 1 where a cell failed."""
    options = _options()
    if options.device == "cpu":
        os.environ["ACCELERATE_USE_CPU"] = "true"
    elif not torch.cuda.is_available():
        console.print(
            f"there is no GPU: torch {torch.__version__} finds none. This measures one; see `make bench` for CPUs"
        )
        return 2
    device = torch.device(options.device)
    out = options.out or RESULTS / f"{_slug(device)}.json"
    plan = Plan(options.device, options.seconds, small=options.small)
    if unknown := set(options.parts) - set(plan.parts):
        console.print(f"--parts: unknown {', '.join(sorted(unknown))}; there are {', '.join(plan.parts)}")
        return 2
    if part := os.environ.get(CHILD):
        _measure(plan, part, Report(out, device))
        return 0
    parts = options.parts or list(plan.parts)
    if options.again and out.exists():
        report = Report(out, device)
        report.found["cells"] = {k: v for k, v in report.cells.items() if k.split(": ")[0] not in parts}
        out.write_text(json.dumps(report.found, indent=1) + "\n")
    for part in parts:
        _in_a_process(plan, part, out, device)
    report = Report(out, device)
    _show(report)
    return int(any("failed" in numbers for numbers in report.cells.values()))


def _in_a_process(plan: Plan, part: str, out: Path, device: torch.device) -> None:
    """All cells of a part; where the process dies, the cell it was at has failed, and another one does the rest."""
    while left := [name for name in plan.cells(part) if f"{part}: {name}" not in Report(out, device).cells]:
        done = subprocess.run([sys.executable, *sys.argv], env=os.environ | {CHILD: part}, check=False)
        now = [name for name in plan.cells(part) if f"{part}: {name}" not in Report(out, device).cells]
        if now:
            Report(out, device).put(f"{part}: {now[0]}", {"failed": f"its process ended with {done.returncode}"})
        assert len(now) < len(left) or done.returncode


def _measure(plan: Plan, part: str, report: Report) -> None:
    for name, cell in plan.cells(part).items():
        title = f"{part}: {name}"
        if title in report.cells:
            continue
        try:
            numbers = cell()
        except Exception as error:
            text = traceback.format_exc()
            numbers = {"failed": f"{type(error).__name__}: {str(error)[:1500]}", "where": text[-2500:]}
        report.put(title, numbers)
        console.print(f"{title}: {_line(numbers)}", markup=False)


def _line(numbers: dict[str, Any]) -> str:
    if "failed" in numbers:
        return f"FAILED: {numbers['failed']}"
    words = []
    for key, value in numbers.items():
        if isinstance(value, float):
            words.append(f"{key} {value:,.3g}" if value < 1000 else f"{key} {value:,.0f}")
        elif isinstance(value, dict) and "unlike" in value:
            same = "to the bit" if not value["unlike"] else f"{value['unlike']} unlike, up to {value['largest']:.1e}"
            words.append(f"{key} {same}")
        elif isinstance(value, bool | int | str) and key != "printed":
            words.append(f"{key} {value}")
    if bar := numbers.get("bar"):
        words.append(f"of the best loop's speed {bar['ratio']:.3f}")
    return ", ".join(words)


def _show(report: Report) -> None:
    console.print("  ".join(f"{key} {value}" for key, value in report.found["hardware"].items()))
    for title, numbers in report.cells.items():
        console.print(f"{title}: {_line(numbers)}", markup=False)


def _slug(device: torch.device) -> str:
    name = str(hardware(device)["device"]).lower()
    return f"{'gpu' if device.type == 'cuda' else 'cpu'}-" + "-".join(
        "".join(c if c.isalnum() else " " for c in name).split()
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="", help="comma-separated; without it, all")
    parser.add_argument("--seconds", type=float, default=3, help="how long each speed is measured")
    parser.add_argument("--out", type=Path, help="the file of results; by default named after the device, in results/")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: to try this command itself")
    parser.add_argument("--again", action="store_true", help="measure what was measured before once more")
    parser.add_argument("--small", action="store_true", help="few updates, to try this command itself")
    options = parser.parse_args()
    options.parts = options.parts.split(",") if options.parts else []
    return options


if __name__ == "__main__":
    sys.exit(main())
