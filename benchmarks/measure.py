"""Measuring: short rounds in turn, and what stands beside the update (checkpoint, source, random numbers)."""

import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from loops import WAYS, Candidate, Way
from subjects import FREE, OURS, Bench, Ours, needs_of

from dist_gan.config.command_line import dump
from dist_gan.randomness import draw
from dist_gan.run.build import stream_of
from dist_gan.run.checkpoint import Writer

ROUND_SECONDS = 0.6  # about how long a round lasts where the number of updates is not given


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(action: Callable[[], object], device: torch.device) -> float:
    """Seconds, until the device is done."""
    synchronize(device)
    begun = time.perf_counter()
    action()
    synchronize(device)
    return time.perf_counter() - begun


@contextmanager
def no_collection() -> Any:
    """Garbage is collected now and then not until the end."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def kernels(*, free: bool) -> Any:
    """Inside, on a GPU, the fastest kernels of cuDNN (`free`), or those that give the same bits each time."""
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    if torch.cuda.is_available():
        torch.use_deterministic_algorithms(not free, warn_only=True)
        torch.backends.cudnn.benchmark = free
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=True)
        torch.backends.cudnn.benchmark = before[1]


def run(name: str, candidate: Candidate, updates: int) -> None:
    """As a user of it would: a loop written by hand takes the fastest kernels, dist_gan those of its promise."""
    with kernels(free=not name.startswith(OURS) or name == FREE):
        candidate.run(updates)


def rounds(
    candidates: Mapping[str, Candidate], count: int, updates: int, device: torch.device
) -> dict[str, list[float]]:
    """Milliseconds per update: `count` rounds of each candidate, A B C, B C A, C A B and so on."""
    names = list(candidates)
    found: dict[str, list[float]] = {name: [] for name in names}
    for k in range(count):
        first = k % len(names)
        for name in names[first:] + names[:first]:
            with no_collection():
                seconds = timed(partial(run, name, candidates[name], updates), device)
                found[name].append(seconds * 1e3 / updates)
    return found


def updates_of_a_round(candidate: Candidate, device: torch.device) -> int:
    seconds = min(timed(lambda: run("", candidate, 1), device) for _ in range(5))
    return max(1, min(1000, round(ROUND_SECONDS / seconds)))


def fastest_way(bench: Bench) -> Way:
    """How the best loop shall do D's turn: what a few rounds of each say."""
    device = bench.processes.device
    trial: dict[str, Candidate] = {way: bench.best(way) for way in WAYS}
    for name, candidate in trial.items():
        run(name, candidate, 2)
    found = rounds(trial, 6, updates_of_a_round(trial["together"], device), device)
    return min(WAYS, key=lambda way: statistics.median(found[way]))


def spread(values: list[float]) -> dict[str, float]:
    """Median, 10th and 90th percentile."""
    tenths = statistics.quantiles(values, n=10, method="inclusive")
    return {"median": statistics.median(values), "p10": tenths[0], "p90": tenths[-1]}


def summary(times: list[float], best: list[float], batch: int) -> dict[str, Any]:
    """One candidate's row: `times` and the best loop's, in milliseconds per update, round by round."""
    return {
        "median_ms": statistics.median(times),
        "minimum_ms": min(times),
        "images_per_second": batch / statistics.median(times) * 1e3,
        "ratio_to_best": spread([b / t for b, t in zip(best, times, strict=True)]),
        "overhead_us": statistics.median([(t - b) * 1e3 for b, t in zip(best, times, strict=True)]),
        "rounds_ms": times,
    }


def checkpoint(bench: Bench, ours: Ours, count: int = 7) -> dict[str, float]:
    """What a checkpoint costs the training thread, in milliseconds, and how long it is written in the background."""
    device, config = bench.processes.device, dump(bench.config)
    state_ms, stall_ms, write_ms = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        writer = Writer(Path(folder), keep=2, keep_every=0, warn=print)
        for k in range(count):
            state: dict[str, Any] = {}
            state_ms.append(timed(lambda state=state: state.update(ours.game.state()), device) * 1e3)  # type: ignore[misc]
            facts = {"images_seen": ours.game.images_seen}
            stall_ms.append(timed(lambda k=k, s=state, f=facts: writer.save(k, s, f, config), device) * 1e3)  # type: ignore[misc]
            write_ms.append(timed(writer.wait, device) * 1e3)
    return {
        "state_ms": statistics.median(state_ms),
        "save_stall_ms": statistics.median(stall_ms),
        "written_after_ms": statistics.median(write_ms),
    }


def source(bench: Bench, images_per_second: float, count: int = 200) -> dict[str, float]:
    """How many times faster the source alone is than what the updates need."""
    batches = stream_of(bench.config, bench.processes, bench.dataset).batches(0)
    next(batches)

    def read() -> None:
        for _ in range(count):
            next(batches)

    with no_collection():
        alone = count * bench.config.batch_size / timed(read, bench.processes.device)
    return {"images_per_second": alone, "times_what_is_needed": alone / images_per_second}


def random_numbers(bench: Bench, ours: Ours, update_ms: float, count: int = 100) -> dict[str, float]:
    """What drawing one update's random numbers costs, and as a share of the update."""
    needs = needs_of(ours.game)
    device = bench.processes.device
    ordinals = range(bench.config.batch_size)
    draw(bench.config.seed, needs, ordinals, device)
    with no_collection():
        times = [timed(lambda: draw(bench.config.seed, needs, ordinals, device), device) * 1e3 for _ in range(count)]
    median = statistics.median(times)
    return {"numbers": sum(needs.values()) * len(ordinals), "draw_ms": median, "share": median / update_ms}
