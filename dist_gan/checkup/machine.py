"""Lines about the machine: packages, devices, the processes and the network between them."""

import hashlib
import importlib.metadata
import os
import platform
import socket
import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from dist_gan.checkup.lines import Line, Mark
from dist_gan.config.schema import Config
from dist_gan.distributed.processes import Processes
from dist_gan.formatting import plural, size

PACKAGE = Path(__file__).resolve().parents[1]
LARGE = 2**26
"""Bytes of the all-reduce that measures the network's bandwidth."""
WARM_UP = 3
"""The first all-reduces of a size, which also set something up and are not timed."""

Facts = Mapping[str, str]


def facts(processes: Processes, config_text: str) -> Facts:
    """What must be equal on all ranks, and where this rank runs."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(f"{path.relative_to(PACKAGE)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    on_gpu = processes.device.type == "cuda"
    return {
        "host": socket.gethostname(),
        "device": torch.cuda.get_device_name(processes.device) if on_gpu else "CPU",
        "code": digest.hexdigest()[:12],
        "python": platform.python_version(),
        "torch": torch.__version__,
        "accelerate": importlib.metadata.version("accelerate"),
        "config": hashlib.sha256(config_text.encode()).hexdigest()[:12],
    }


def packages(config: Config | None) -> Line:
    """Versions, compared with what dist_gan requires, where it is installed."""
    shown = ["torch", "accelerate"]
    if config is not None and config.track.wandb != "disabled":
        shown.append("wandb")
    if config is not None and config.track.tensorboard:
        shown.append("tensorboard")
    versions = {name: _version(name) for name in shown}
    text = ", ".join([f"Python {platform.python_version()}", *(f"{n} {v or 'missing'}" for n, v in versions.items())])
    outside = _outside()
    if outside is None:
        return Line(f"{text} (dist_gan is not installed as a package, so its version ranges are not known)")
    if outside:
        return Line(
            f"{text}; outside of what dist_gan was tested with: {', '.join(outside)}",
            Mark.ADVICE,
            "`make setup` installs the versions that it was tested with",
        )
    return Line(text)


def world(all_facts: Sequence[Facts], processes: Processes) -> Line:
    """Which processes there are, and whether code, config and versions are equal. The same line on all ranks."""
    count = len(all_facts)
    groups = Counter((fact["host"], fact["device"]) for fact in all_facts)
    where = ", ".join(f"{n} on {host} ({device})" for (host, device), n in groups.items())
    backend = f", {torch.distributed.get_backend()}" if count > 1 else ""
    found = f"{plural(count, 'process')}{backend}: {where}"
    odd = []
    for name in all_facts[0]:
        if name not in ("host", "device"):
            others = {f["host"]: f[name] for f in all_facts if f[name] != all_facts[0][name]}
            odd += [
                f"{name} is {value} on {host}, and {all_facts[0][name]} on rank 0's" for host, value in others.items()
            ]
    if not odd:
        return Line(found + ("; the same code, config and versions on all" if count > 1 else ""))
    advice = "all ranks need the same files and packages: in a folder that all see, or by `git pull` and `make setup`"
    return Line(f"{found}; {'; '.join(odd)}", Mark.PROBLEM, advice)


def device(processes: Processes, ranks_here: int) -> Line:
    """The GPUs of this node and how they are linked, or the cores and threads."""
    if processes.device.type == "cuda":
        return _gpus(processes)
    cores, threads = len(os.sched_getaffinity(0)), torch.get_num_threads()
    each = plural(threads, "thread")
    found = f"CPU with {plural(cores, 'core')}; {plural(ranks_here, 'process')} of {each}"
    if torch.cuda.is_available():
        found += "; GPUs are not used, since ACCELERATE_USE_CPU is set"
    elif os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        found += "; GPUs are hidden, since CUDA_VISIBLE_DEVICES is empty"
    elif Path("/dev/nvidiactl").exists():
        return Line(
            f"{found}; there is an NVIDIA driver, but torch {torch.__version__} finds no GPU",
            Mark.ADVICE,
            "check `nvidia-smi` and CUDA_VISIBLE_DEVICES; a torch for CPUs, or newer than the driver, finds no GPU",
        )
    if ranks_here * threads > cores:
        return Line(
            f"{found}: more threads than cores",
            Mark.ADVICE,
            f"OMP_NUM_THREADS={max(1, cores // ranks_here)} in front of the command"
            + (f", or {plural(cores, 'process')} at most" if ranks_here > cores else "")
            + ": with too many threads, updates are many times slower",
        )
    return Line(found)


def all_reduce(processes: Processes, gradients: int) -> tuple[Line, float]:
    """Latency and bandwidth, and whether the sums are right. All ranks together.

    Args:
        processes: all of them.
        gradients: how many numbers (float32) a player's gradients have; 0 where that is not known.

    Returns:
        The line, and the seconds that the gradients take.
    """
    latency, wrong = _timed_sum(processes, 1)
    large, also_wrong = _timed_sum(processes, LARGE // 4)
    found = f"{1e3 * latency:,.2g} ms for one number, {LARGE / large / 1e9:.2g} GB/s for {size(LARGE)}"
    needed, wrong_too = _timed_sum(processes, gradients) if gradients else (0.0, False)
    if gradients:
        bandwidth = 4 * gradients / needed / 1e9
        found += f"; a player's gradients ({size(4 * gradients)}) {1e3 * needed:,.2g} ms, {bandwidth:.2g} GB/s"
    if wrong or also_wrong or wrong_too:
        advice = "no result of such training can be trusted: try NCCL_P2P_DISABLE=1, NCCL_IB_DISABLE=1, another node"
        return Line(f"{found}; the sums are wrong", Mark.PROBLEM, advice), needed
    return Line(found), needed


def _timed_sum(processes: Processes, count: int) -> tuple[float, bool]:
    """(median seconds of an all-reduce of `count` numbers, whether any rank got a wrong sum)"""
    expected = processes.count * (processes.count + 1) / 2
    seconds = []
    wrong = torch.zeros((), device=processes.device)
    for _ in range(WARM_UP + (5 if count > LARGE // 64 else 25)):
        numbers = torch.full((count,), processes.rank + 1.0, device=processes.device)
        synchronize(processes)
        begun = time.perf_counter()
        torch.distributed.all_reduce(numbers)
        synchronize(processes)
        seconds.append(time.perf_counter() - begun)
        wrong += (numbers != expected).any()
    return statistics.median(seconds[WARM_UP:]), bool(processes.max(wrong).item())


def synchronize(processes: Processes) -> None:
    """Wait until the device has finished its work."""
    if processes.device.type == "cuda":
        torch.cuda.synchronize(processes.device)


def _gpus(processes: Processes) -> Line:
    count = torch.cuda.device_count()
    kinds = Counter(
        f"{torch.cuda.get_device_name(i)} ({size(torch.cuda.get_device_properties(i).total_memory)})"
        for i in range(count)
    )
    nccl = ".".join(map(str, torch.cuda.nccl.version())) if torch.distributed.is_nccl_available() else "missing"
    gpus = ", ".join(f"{n} x {kind}" for kind, n in kinds.items())
    found = f"{gpus}; CUDA {torch.version.cuda}, NCCL {nccl}"
    pairs = [(i, j) for i in range(count) for j in range(count) if i != j]
    cut = [f"{i}-{j}" for i, j in pairs if i < j and not torch.cuda.can_device_access_peer(i, j)]
    if processes.count > 1 and cut:
        return Line(
            f"{found}; without a direct link: {', '.join(cut[:6])}{', ...' if len(cut) > 6 else ''}",
            Mark.ADVICE,
            "gradients between these GPUs go through the host's memory. `nvidia-smi topo -m` shows how they are linked",
        )
    return Line(found + ("; all linked directly" if pairs and not cut else ""))


def _version(package: str) -> str:
    if package == "torch":
        return torch.__version__  # also says for which CUDA it was built
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _outside() -> list[str] | None:
    """Packages that are missing or outside their range; None where the ranges are not known."""
    from packaging.requirements import Requirement  # accelerate needs it too

    try:
        declared = importlib.metadata.requires("dist_gan") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    needed = [r for r in map(Requirement, declared) if r.marker is None or r.marker.evaluate({"extra": ""})]
    return [
        f"{need.name} {_version(need.name) or 'missing'} (not {need.specifier})"
        for need in needed
        if not need.specifier.contains(_version(need.name) or "0", prereleases=True)
    ]
