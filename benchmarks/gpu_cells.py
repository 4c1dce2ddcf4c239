"""What gpu.py measures, cell by cell. Each cell is a function without arguments that returns its numbers."""

import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from gpu_evaluation import evaluated
from gpu_tools import ROOT, Numbers, State, call, differences, made_up, newest, play, pytest, that_fits
from measure import no_collection, synchronize, timed
from subjects import config_of
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from dist_gan.config.command_line import load
from dist_gan.config.schema import Config
from dist_gan.data.source import Batch
from dist_gan.distributed.numerics import preserved
from dist_gan.distributed.processes import Processes
from dist_gan.game.game import Game
from dist_gan.run.build import game_of, stream_of

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
SEED_RECIPES = ("mnist_mlp", "mnist_dcgan")
PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
PROFILED = ("dcgan64", "mnist_mlp", "cifar10_r3gan", "cifar10_stylegan2_ada")
EVALUATED = ("dcgan64", "cifar10_r3gan")
WARM = 5
"""Updates before anything is timed."""
UPDATES = 12
"""Updates after which two runs are compared."""

Cell = Callable[[], Numbers]


class Plan:
    """All cells, by part and name. `seconds`: how long one speed is measured. `small`: with few images and updates, to
    try the plan itself."""

    def __init__(self, device: str, seconds: float, *, small: bool = False) -> None:
        self.device, self.seconds, self.small = device, seconds, small
        # A CPU has no graphs, and compiles for a minute what these would measure.
        self.speeds = ("eager", "graph", "compile") if device == "cuda" else ("eager",)
        self.parts: dict[str, Callable[[], Iterator[tuple[str, Cell]]]] = {
            "tests": self._tests,
            "recipes": self._recipes,
            "presets": self._presets,
            "exact": self._exact,
            "speed": self._speeds,
            "profile": self._profile,
            "bench": self._bench,
            "evaluation": self._evaluation,
            "command": self._command,
        }

    def cells(self, part: str) -> dict[str, Cell]:
        return dict(self.parts[part]())

    def _tests(self) -> Iterator[tuple[str, Cell]]:
        yield "gpu", partial(pytest, "gpu")

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
                    yield f"{path.stem}, {precision}", partial(that_fits, self._speed, config)

    def _exact(self) -> Iterator[tuple[str, Cell]]:
        for name in (*SEED_RECIPES, "cifar10_sngan"):
            yield name, partial(self._exact_cost, self._config(name))

    def _speeds(self) -> Iterator[tuple[str, Cell]]:
        for name in PROFILED:
            for speed in self.speeds:
                config = self._named(name, "bf16" if self.device == "cuda" else "fp32")
                yield (
                    f"{name}, {speed}",
                    partial(that_fits, self._beside_eager, config.model_copy(update={"speed": speed})),
                )

    def _profile(self) -> Iterator[tuple[str, Cell]]:
        for precision in ("bf16", "fp32"):
            for name in PROFILED:
                yield f"{name}, {precision}", partial(that_fits, self._profiled, self._named(name, precision))

    def _bench(self) -> Iterator[tuple[str, Cell]]:
        for networks, batch in (("dcgan64", 128), ("mlp", 64)):
            for precision in ("fp32", "tf32", "bf16"):
                yield f"{networks}, {precision}", partial(self._beside_others, networks, batch, precision)

    def _evaluation(self) -> Iterator[tuple[str, Cell]]:
        for name in EVALUATED:
            yield name, partial(self._evaluated, self._named(name, "fp32"))

    def _command(self) -> Iterator[tuple[str, Cell]]:
        for name in SEED_RECIPES:
            yield name, partial(self._trained, name)
        count = torch.cuda.device_count() if self.device == "cuda" else 2
        if count > 1:
            yield f"mnist_mlp, {count} processes", partial(self._on_several, "mnist_mlp", count)

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
        play(game, batches, 1 if self.small else WARM)
        one = timed(lambda: game.update(batches), device)
        count = max(1, min(2000, round(self.seconds / 4 / one)))
        several = partial(play, game, batches, count)
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
        play(game, batches, updates)
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

    def _beside_eager(self, config: Config) -> Numbers:
        """Speed; what could not be captured; and after a few updates, how far from eager ones."""
        updates = 2 if self.small else UPDATES
        eager, _ = self._played(config.model_copy(update={"speed": "eager"}), updates)
        with warnings.catch_warnings(record=True) as reports:
            warnings.simplefilter("always")
            game, batches = self._game(config)
            play(game, batches, updates)
        own = {member: {k: t.clone() for k, t in tensors.items()} for member, tensors in game.state().items()}
        found: dict[str, float] = getattr(game.runner, "differences", {})
        del game, batches
        return {
            "of_eager": differences(eager, own),
            "compared": len(found),
            "largest_difference_when_captured": max(found.values(), default=0.0),
            "reports": [str(each.message) for each in reports],
            **self._speed(config),
        }

    def _profiled(self, config: Config) -> Numbers:
        """One update: its kernels, how long the device has nothing to do, and how often the host waits for it."""
        game, batches = self._game(config)
        device = game.processes.device
        play(game, batches, 2 if self.small else 2 * WARM)
        count = 1 if self.small else 8
        several = partial(play, game, batches, count)
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

    def _evaluated(self, config: Config) -> Numbers:
        game, _ = self._game(config)
        return evaluated(game, config.data.open(game.processes.device), 32 if self.small else 10_000)

    def _beside_others(self, networks: str, batch: int, precision: str) -> Numbers:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "bench.json"
            words = [networks, "--batch", str(batch), "--precision", precision, "--rounds", "2" if self.small else "12"]
            words += ["--device", self.device, "--out", str(out)] + ["--updates", "2"] * self.small
            done = call("benchmarks/bench.py", "--networks", *words)
            if not out.exists():
                raise RuntimeError(f"bench.py ended with {done.returncode}: {(done.stdout + done.stderr)[-1500:]}")
            found: Numbers = json.loads(out.read_text())["networks"][networks]
        for row in found.get("candidates", {}).values():
            row.pop("rounds_ms")
        return found

    def _trained(self, name: str) -> Numbers:
        """The real command: a run, its resume, and a run that was never stopped; the same bits?"""
        first, images = (128, 256) if self.small else (6_400, 12_800)
        seconds = []
        with tempfile.TemporaryDirectory() as folder:
            for run, until in (("a", first), ("a", images), ("b", images)):
                begun = time.perf_counter()
                printed = self._train(name, f"run={folder}/{run}", f"images={until}")
                seconds.append(time.perf_counter() - begun)
            a, b = (newest(Path(folder, run)) for run in "ab")
        return {"resumed": differences(a, b), "seconds": seconds, "printed": printed[-1200:]}

    def _on_several(self, name: str, count: int) -> Numbers:
        """The real command on as many processes as there are GPUs, beside one process."""
        images = 256 if self.small else 12_800
        images -= images % (64 * count)
        words = [f"batch_size={64 * count}", f"images={images}"]
        with tempfile.TemporaryDirectory() as folder:
            self._train(name, f"run={folder}/a", *words)
            begun = time.perf_counter()
            printed = self._train(name, f"run={folder}/b", *words, f"processes={count}", ranks=count)
            seconds = time.perf_counter() - begun
            a, b = (newest(Path(folder, run)) for run in "ab")
        return {"of_one_process": differences(a, b), "seconds": seconds, "printed": printed[-1200:]}

    def _train(self, name: str, *words: str, ranks: int = 0) -> str:
        data = self._config(name).data
        start = ("-m", "torch.distributed.run", f"--nproc-per-node={ranks}") if ranks else ()
        words = (str(ROOT / "configs" / f"{name}.yaml"), "track.wandb=disabled", "track.every=640", *words)
        made = f"data={{name: generated, size: {data.shape.height}, channels: {data.shape.channels}}}"
        done = call(*start, "dist_gan/train.py", *words, made)
        if done.returncode:
            raise RuntimeError(f"train.py ended with {done.returncode}: {(done.stdout + done.stderr)[-1500:]}")
        return str(done.stdout)
