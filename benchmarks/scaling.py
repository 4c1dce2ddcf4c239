"""The model of `doctor --plan` held against what this machine can measure, and how time and memory grow.

python benchmarks/scaling.py [--parts processes,links,growth] [--rounds 9] [--out FILE.json]

`processes`: 1, 2 and 4 processes of one machine. `links`: two processes in network namespaces, with a link of a given
bandwidth and delay between them (shaped.py; needs root). Their rounds take each kind of update in turn, so that both
sides of a ratio saw the same machine; a ratio is the median over rounds. `growth`: an update of one process against
width, resolution, batch and microbatch, the shortest of several. All numbers are written as soon as they are known; a
part that is there is measured again only with `--again`, which keeps the shorter times of growth.
"""

import argparse
import json
import os
import platform
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from scaling_show import show
from shaped import DEVICE, Shaped
from show import console

from dist_gan import __version__

HERE = Path(__file__).parent
NETWORKS = {
    "mlp": ["networks={name: mlp}", "data={name: generated, size: 28}", "batch_size=64"],
    "dcgan": ["networks={name: dcgan}", "data={name: generated, size: 32}", "batch_size=64"],
}
PROCESSES = (1, 2, 4)
LINKS = [(0.0, 0.0), *((bits, delay) for bits in (1e8, 1e9, 1e10) for delay in (1e-4, 1e-3, 1e-2))]
"""(bits per second, seconds of delay); the first is not shaped: by it, the cost for the processors is known."""
SMALL_DCGAN = ["networks={name: dcgan, width: 16}", "data={name: generated, size: 32}", "batch_size=32"]
GROWTH = {
    "mlp, batch": [[*NETWORKS["mlp"], f"batch_size={n}"] for n in (32, 64, 128, 256, 512)],
    "mlp, microbatch": [[*NETWORKS["mlp"], "batch_size=512", f"microbatch={n}"] for n in (64, 128, 256, 512)],
    "mlp, width": [[*NETWORKS["mlp"], f"networks.width={n}"] for n in (32, 64, 128, 256)],
    "dcgan, batch": [[*SMALL_DCGAN, f"batch_size={n}"] for n in (16, 32, 64, 128)],
    "dcgan, microbatch": [[*SMALL_DCGAN, "batch_size=128", f"microbatch={n}"] for n in (16, 32, 64, 128)],
    "dcgan, width": [[*SMALL_DCGAN, f"networks.width={n}"] for n in (8, 16, 32, 64)],
    "dcgan, resolution": [[*SMALL_DCGAN, f"data.size={n}"] for n in (16, 32, 64, 128)],
}


def main() -> int:
    """Measures and prints; returns the exit code."""
    options = _options()
    out = options.out or HERE / "results" / f"scaling-{_hardware_name()}.json"
    report: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    report["hardware"] = {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "dist_gan": __version__,
    }
    cells: dict[str, Callable[[], dict[str, Any]]] = {}
    for name in NETWORKS:
        for count in PROCESSES:
            cells[f"processes: {name}, {count}"] = partial(_group, name, count, options.rounds)
    for name in NETWORKS:
        for bits, delay in LINKS:
            link = f"{bits / 1e6:g} Mbit/s, {1e3 * delay:g} ms"
            cells[f"links: {name}, {link}"] = partial(_group, name, 2, options.rounds, Shaped(bits, delay))
    cells |= {f"growth: {name}": partial(_grown, configs) for name, configs in GROWTH.items()}
    if "links" in options.parts and os.geteuid() != 0:
        console.print("the part links needs root, which network namespaces need; leave it out with --parts")
        return 2
    for name, measure in cells.items():
        if name.partition(":")[0] in options.parts and (options.again or name not in report.get("cells", {})):
            console.print(name)
            load = os.getloadavg()[0]
            found = measure() | {"load": load}
            if name.startswith("growth: ") and "cells" in report and name in report["cells"]:
                _keep_shorter(found["rows"], report["cells"][name]["rows"])
            report.setdefault("cells", {})[name] = found
            out.write_text(json.dumps(report, indent=1, default=float) + "\n")
    show(report)
    return 0


def _group(networks: str, count: int, rounds: int, link: Shaped | None = None) -> dict[str, Any]:
    """The rounds of `count` processes."""
    with link or Shaped(0, 0) as place, tempfile.TemporaryDirectory() as folder:
        out, job = Path(folder) / "out.json", Path(folder) / "job.json"
        words = {
            "kind": "rounds",
            "config": NETWORKS[networks],
            "rounds": rounds,
            "host": link is None,
            "out": str(out),
        }
        job.write_text(json.dumps(words))
        port = str(_free_port())
        ranks = []
        for rank in range(count):
            env = {"RANK": rank, "LOCAL_RANK": 0 if link else rank, "WORLD_SIZE": count, "MASTER_PORT": port}
            env |= {"LOCAL_WORLD_SIZE": 1 if link else count, "MASTER_ADDR": link.address(0) if link else "127.0.0.1"}
            if link:
                env["GLOO_SOCKET_IFNAME"] = DEVICE
            ranks.append(_started(job, env if count > 1 else {}, place.inside(rank if link else 0)))
        _finished(ranks)
        return dict(json.loads(out.read_text()))


def _grown(configs: list[list[str]]) -> dict[str, Any]:
    """Each config in a process of its own, whose memory is that of this config alone."""
    rows = []
    for config in configs:
        with tempfile.TemporaryDirectory() as folder:
            out, job = Path(folder) / "out.json", Path(folder) / "job.json"
            job.write_text(json.dumps({"kind": "growth", "config": config, "seconds": 2.0, "out": str(out)}))
            _finished([_started(job, {}, [])])
            rows.append({"config": config[-1], **json.loads(out.read_text())})
    return {"rows": rows}


def _keep_shorter(rows: list[dict[str, Any]], before: list[dict[str, Any]]) -> None:
    """Of two passes at different moments of a machine that has other work too, the shorter time of each point."""
    for row, old in zip(rows, before, strict=True):
        row["seconds"] = min(row["seconds"], old["seconds"])


def _started(job: Path, env: dict[str, Any], before: list[str]) -> "subprocess.Popen[str]":
    own = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    path = os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")]))
    own |= {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": path, "TORCH_CPP_LOG_LEVEL": "ERROR"}
    own |= {key: str(value) for key, value in env.items()}
    command = [*before, sys.executable, str(HERE / "scaling_rank.py"), str(job)]
    return subprocess.Popen(command, env=own, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _finished(ranks: "list[subprocess.Popen[str]]") -> None:
    try:
        for rank in ranks:
            _, error = rank.communicate(timeout=600)
            if rank.returncode:
                raise RuntimeError(f"a process ended with {rank.returncode}: {error[-1500:]}")
    finally:
        for rank in ranks:
            rank.kill()


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("", 0))
        return int(s.getsockname()[1])


def _cpu() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _hardware_name() -> str:
    words = re.sub(r"\(R\)|\(TM\)|processor|cpu.*$", "", _cpu(), flags=re.IGNORECASE).lower()
    name = re.sub(r"[^a-z0-9]+", "-", words).strip("-")
    return f"cpu-{name}-{len(os.sched_getaffinity(0))}-cores"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="processes,links,growth", type=lambda text: text.split(","))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
