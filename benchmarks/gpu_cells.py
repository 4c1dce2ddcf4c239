"""What gpu.py measures, cell by cell. Each cell is a function without arguments that returns its numbers."""

import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from measure import no_collection, synchronize, timed
from subjects import config_of
from torch import Tensor
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from dist_gan.config.command_line import load
from dist_gan.config.schema import Config
from dist_gan.data import Generated
from dist_gan.data.source import Batch
from dist_gan.distributed.numerics import preserved
from dist_gan.distributed.processes import Processes
from dist_gan.game.game import Game
from dist_gan.run import checkpoint
from dist_gan.run.build import game_of, stream_of

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
SEED_RECIPES = ("mnist_mlp", "mnist_dcgan")
PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
PROFILED = ("dcgan64", "mnist_mlp", "cifar10_r3gan", "cifar10_stylegan2_ada")
WARM = 5
"""Updates before anything is timed."""
UPDATES = 12
"""Updates after which two runs are compared."""

Numbers = dict[str, Any]
Cell = Callable[[], Numbers]
State = dict[str, dict[str, Tensor]]


class Plan:
    """All cells, by part and name. `seconds`: how long one speed is measured. `small`: with few images and updates, to
    try the plan itself."""

    def __init__(self, device: str, seconds: float, *, small: bool = False) -> None:
        self.device, self.seconds, self.small = device, seconds, small
        self.parts: dict[str, Callable[[], Iterator[tuple[str, Cell]]]] = {
            "tests": self._tests,
            "recipes": self._recipes,
            "presets": self._presets,
            "exact": self._exact,
            "profile": self._profile,
            "bench": self._bench,
            "command": self._command,
        }

    def cells(self, part: str) -> dict[str, Cell]:
        return dict(self.parts[part]())

    def _tests(self) -> Iterator[tuple[str, Cell]]:
        yield "gpu", partial(_pytest, "gpu")

    def _recipes(self) -> Iterator[tuple[str, Cell]]:
        for name in SEED_RECIPES:
            for precision in PRECISIONS:
                config = self._config(name).model_copy(update={"precision": precision})
                yield f"{name}, {precision}", partial(self._speed_and_bits, config)

    def _presets(self) -> Iterator[tuple[str, Cell]]:
        for precision in ("bf16", "tf32"):
            for path in CONFIGS:
                if path.stem not in SEED_RECIPES:
                    config = self._config(path.stem).model_copy(update={"precision": precision})
                    yield f"{path.stem}, {precision}", partial(_that_fits, self._speed, config)

    def _exact(self) -> Iterator[tuple[str, Cell]]:
        for name in (*SEED_RECIPES, "cifar10_sngan"):
            yield name, partial(self._exact_cost, self._config(name))

    def _profile(self) -> Iterator[tuple[str, Cell]]:
        for precision in ("bf16", "fp32"):
            for name in PROFILED:
                yield f"{name}, {precision}", partial(_that_fits, self._profiled, self._named(name, precision))

    def _bench(self) -> Iterator[tuple[str, Cell]]:
        for networks, batch in (("dcgan64", 128), ("mlp", 64)):
            for precision in ("fp32", "tf32", "bf16"):
                yield f"{networks}, {precision}", partial(self._beside_others, networks, batch, precision)

    def _command(self) -> Iterator[tuple[str, Cell]]:
        for name in SEED_RECIPES:
            yield name, partial(self._trained, name)

    def _config(self, name: str) -> Config:
        return made_up(load(ROOT / "configs" / f"{name}.yaml"))

    def _named(self, name: str, precision: str) -> Config:
        config = made_up(config_of(name, 128)) if name == "dcgan64" else self._config(name)
        return config.model_copy(update={"precision": precision})

    def _game(self, config: Config, seen: int = 0) -> tuple[Game, Iterator[Batch]]:
        processes = Processes(config.precision, exact=config.exact)
        assert processes.device.type == self.device
        dataset = config.data.open(processes.device)
        return game_of(config, processes, dataset), stream_of(config, processes, dataset).batches(seen)

    def _speed(self, config: Config) -> Numbers:
        """Images/s and memory."""
        if self.device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        begun = time.perf_counter()
        game, batches = self._game(config)
        device = game.processes.device
        synchronize(device)
        made_s = time.perf_counter() - begun
        first_s = timed(lambda: game.update(batches), device)
        _updates(game, batches, 1 if self.small else WARM)
        one = timed(lambda: game.update(batches), device)
        count = max(1, min(2000, round(self.seconds / 4 / one)))
        several = partial(_updates, game, batches, count)
        with no_collection():
            times = [timed(several, device) / count for _ in range(4)]
        found: Numbers = {
            "images_per_second": game.images_per_update / statistics.median(times),
            "update_ms": 1e3 * statistics.median(times),
            "updates_timed": 4 * count,
            "made_s": made_s,
            "first_update_s": first_s,
            "batch": config.batch_size,
            "finite": all(t.isfinite().all().item() for own in game.state().values() for t in own.values()),
            "skipped": {k: float(v) for k, v in game.meter.read().items() if k.endswith("skipped")},
        }
        if self.device == "cuda":
            found["peak_memory_mib"] = torch.cuda.max_memory_allocated() / 2**20
        return found

    def _speed_and_bits(self, config: Config) -> Numbers:
        """Also: is a second run the first one, to the bit, and one that is resumed in its middle?"""
        updates = 2 if self.small else UPDATES
        whole, _ = self._played(config, updates)
        again, _ = self._played(config, updates)
        half, seen = self._played(config, updates // 2)
        resumed, _ = self._played(config, updates - updates // 2, half, seen)
        return {
            "twice": differences(whole, again),
            "resumed": differences(whole, resumed),
            **self._speed(config),
        }

    def _played(self, config: Config, updates: int, state: State | None = None, seen: int = 0) -> tuple[State, int]:
        game, batches = self._game(config, seen)
        if state is not None:
            game.load(state, seen)
        _updates(game, batches, updates)
        return {
            member: {k: t.clone() for k, t in own.items()} for member, own in game.state().items()
        }, game.images_seen

    def _exact_cost(self, config: Config) -> Numbers:
        """Speed with `exact`, as a part of the speed without; and are two runs equal to the bit?"""
        exact = config.model_copy(update={"exact": True})
        updates = 2 if self.small else UPDATES
        with preserved():
            found = self._speed(exact)
            states = [self._played(exact, updates)[0] for _ in range(2)]
        usual = self._speed(config)
        ratio = found["images_per_second"] / usual["images_per_second"]
        return {"of_the_usual_speed": ratio, "twice": differences(*states), **found}

    def _profiled(self, config: Config) -> Numbers:
        """One update: its kernels, how long the device has nothing to do, and how often the host waits for it."""
        game, batches = self._game(config)
        device = game.processes.device
        _updates(game, batches, 2 if self.small else 2 * WARM)
        count = 1 if self.small else 8
        several = partial(_updates, game, batches, count)
        wall_us = min(timed(several, device) for _ in range(1 if self.small else 5)) / count * 1e6
        host = time.perf_counter()
        several()
        host_us = (time.perf_counter() - host) / count * 1e6
        synchronize(device)
        activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (self.device == "cuda")
        with profile(activities=activities) as profiler:
            game.update(batches)
            synchronize(device)
        events = profiler.events() or []
        on_device = [e for e in events if e.device_type == DeviceType.CUDA]
        kernels = [e for e in on_device if not e.name.startswith(("Memcpy", "Memset"))]
        busy: dict[str, float] = {}
        for event in kernels:
            busy[event.name] = busy.get(event.name, 0.0) + event.time_range.elapsed_us()
        calls: dict[str, int] = {}
        for event in events:
            if event.name.startswith("cuda"):
                calls[event.name] = calls.get(event.name, 0) + 1
        busy_us = sum(e.time_range.elapsed_us() for e in on_device)
        return {
            "update_us": wall_us,
            "host_us": host_us,
            "device_busy_us": busy_us,
            "idle_share": max(0.0, 1 - busy_us / wall_us),
            "kernels": len(kernels),
            "copies": len(on_device) - len(kernels),
            "operators": sum(1 for e in events if e.name.startswith("aten::")),
            "waits": {name: n for name, n in calls.items() if "Synchronize" in name},
            "calls": dict(sorted(calls.items(), key=lambda item: -item[1])[:8]),
            "longest_kernels_us": {k[:100]: v for k, v in sorted(busy.items(), key=lambda item: -item[1])[:12]},
        }

    def _beside_others(self, networks: str, batch: int, precision: str) -> Numbers:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "bench.json"
            words = [networks, "--batch", str(batch), "--precision", precision, "--rounds", "2" if self.small else "12"]
            words += ["--device", self.device, "--out", str(out)] + ["--updates", "2"] * self.small
            done = _call("benchmarks/bench.py", "--networks", *words)
            if not out.exists():
                raise RuntimeError(f"bench.py ended with {done.returncode}: {(done.stdout + done.stderr)[-1500:]}")
            found: Numbers = json.loads(out.read_text())["networks"][networks]
        for row in found.get("candidates", {}).values():
            row.pop("rounds_ms")
        return found

    def _trained(self, name: str) -> Numbers:
        """The real command: a run, its resume, and a run that was never stopped; the same bits?"""
        first, images = (128, 256) if self.small else (6_400, 12_800)
        data = self._config(name).data
        words = [str(ROOT / "configs" / f"{name}.yaml"), "track.wandb=disabled", "track.every=640"]
        words += [f"data={{name: generated, size: {data.shape.height}, channels: {data.shape.channels}}}"]
        seconds = []
        with tempfile.TemporaryDirectory() as folder:
            for run, until in (("a", first), ("a", images), ("b", images)):
                begun = time.perf_counter()
                done = _call("dist_gan/train.py", *words, f"run={folder}/{run}", f"images={until}")
                seconds.append(time.perf_counter() - begun)
                if done.returncode:
                    raise RuntimeError(f"train.py ended with {done.returncode}: {(done.stdout + done.stderr)[-1500:]}")
            a, b = (checkpoint.read(checkpoint.existing(Path(folder, r, "checkpoints"))[-1]).tensors for r in "ab")
        return {"resumed": differences(a, b), "seconds": seconds, "printed": done.stdout[-1200:]}


def _that_fits(measured: Callable[[Config], Numbers], config: Config) -> Numbers:
    """Measured in smaller microbatches where a whole batch does not fit into the device's memory."""
    while True:
        try:
            return measured(config) | {"microbatch": config.used_microbatch}
        except torch.OutOfMemoryError:
            part = config.used_microbatch or config.batch_size
            if part == 1 or part // 2 % config.batch_multiple:
                raise
            config = config.model_copy(update={"microbatch": part // 2})
        gc.collect()
        torch.cuda.empty_cache()


def _updates(game: Game, batches: Iterator[Batch], count: int) -> None:
    for _ in range(count):
        game.update(batches)


def made_up(config: Config) -> Config:
    """The same on made-up images of the same shape, so that nothing has to be fetched."""
    shape = config.data.shape
    size = shape.height if shape.height == shape.width else f"{shape.height}x{shape.width}"
    data = Generated(size=size, channels=shape.channels, count=2 * config.batch_size, flip=config.data.flip)
    return config.model_copy(update={"data": data, "evaluate": ()})


def differences(one: State, other: State) -> Numbers:
    """How many tensors are not equal to the bit, and the largest difference of a number."""
    pairs = [(one[m][k], other[m][k]) for m in one for k in one[m]]
    unlike = [(a, b) for a, b in pairs if not torch.equal(a.cpu(), b.cpu())]
    largest = max((float((a.double().cpu() - b.double().cpu()).abs().max()) for a, b in unlike), default=0.0)
    return {"tensors": len(pairs), "unlike": len(unlike), "largest": largest}


def _call(*words: str) -> "subprocess.CompletedProcess[str]":
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])  # where it is not installed
    env = os.environ | {"PYTHONPATH": path, "DIST_GAN_TEST_GPU": "1"}
    return subprocess.run([sys.executable, *words], cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def _pytest(marker: str) -> Numbers:
    workers = ["-n", str(min(8, os.cpu_count() or 1))]
    done = _call("-m", "pytest", "-q", *workers, "-m", marker, "-p", "no:cacheprovider")
    lines = (done.stdout + done.stderr).strip().splitlines()
    if done.returncode:
        raise RuntimeError(
            "\n".join(line for line in lines if line.startswith(("FAILED", "ERROR", "E  "))) or lines[-1]
        )
    return {"found": lines[-1]}
