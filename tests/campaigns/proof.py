"""`make proof`: same config, same seed, same model, measured. Prints one table; exit code 1 where a bound is broken.

Every shipped config (its networks few pixels large), every loss and every penalty is played on 1, 2, 3 and 4 processes,
in 1, 2 and 4 pieces; stopped and resumed on the same processes; and handed from one number of processes to the next at
random points. Everything is compared with one process that never stopped.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from dist_gan.config.command_line import load
from dist_gan.config.schema import Config
from dist_gan.data import Generated
from dist_gan.distributed.launch import leave
from dist_gan.distributed.processes import Processes
from dist_gan.game.game import Game
from dist_gan.networks import DCGAN, MLP
from dist_gan.objective.losses import AnyLoss
from dist_gan.objective.objective import Objective
from dist_gan.objective.penalties import R1, R2, WGANGP
from dist_gan.run.build import game_of, stream_of
from tests.support.commands import ROOT, command
from tests.support.tiny import digest, state

BATCH, UPDATES = 192, 6
WORLDS, PIECES = (1, 2, 3, 4), (1, 2, 4)
MODES = ("fp64", "fp32", "exact")
BOUNDS = {"fp64": 1e-12, "fp32": 1e-3}
"""Of the largest difference of a tensor, relative to the largest number in it. In fp32 Adam makes whole steps of
differences of rounding, where a gradient is near zero: the bound holds for UPDATES updates, and grows with them."""
INVARIANT = {"hinge", "wasserstein", "relativistic"}
LAST_BIAS = "tower.layers.3.bias"
"""These losses do not change when D's last bias does (hinge: while no image is beyond its margin). Its gradient is zero
up to rounding, of which Adam makes steps: outside `exact` it is not compared."""
KINDS = {
    "G": ("generator",),
    "D": ("discriminator",),
    "EMA": ("ema",),
    "optimizers": ("generator_optimizer", "discriminator_optimizer"),
}
State = dict[str, Tensor]


def cases() -> dict[str, Config]:
    """What is proved, by name."""
    found = {f"configs/{path.name}": _shrunk(load(path)) for path in sorted((ROOT / "configs").glob("*.yaml"))}
    mlp, dcgan = MLP(latent=6, width=4), DCGAN(latent=6, width=4, group=4)
    for kind in get_args(get_args(AnyLoss)[0]):
        found[f"mlp, {kind().name}"] = _case(mlp, Objective(loss=kind()))
    for penalty in (R1(every=2 * BATCH), R2(), WGANGP()):
        for networks in (mlp, dcgan):
            found[f"{networks.name}, {penalty.name}"] = _case(networks, Objective(penalties=(penalty,)))
    found["mlp, instance noise"] = _case(mlp, Objective(), augment={"name": "instance_noise"})
    everything = Objective(penalties=(R1(), R2(), WGANGP()))
    for networks in (mlp, dcgan):
        extra = {"augment": {"name": "diffaugment"}, "data": _data(networks, flip=True)}
        found[f"{networks.name}, all penalties, augmentation"] = _case(networks, everything, **extra)
    return found


def _data(networks: Any, **options: Any) -> Generated:
    return Generated(size=16 if isinstance(networks, DCGAN) else 8, count=500, **options)


def _case(networks: Any, objective: Objective, **options: Any) -> Config:
    data = options.pop("data", _data(networks))
    return Config(networks=networks, objective=objective, data=data, batch_size=BATCH, seed=3, **options)


def _shrunk(config: Config) -> Config:
    small = {"latent": 6, "width": 4} | ({"group": 4} if isinstance(config.networks, DCGAN) else {})
    networks = config.networks.model_copy(update=small)
    data = _data(networks, flip=config.data.flip, channels=config.data.shape.channels)
    return config.model_copy(update={"networks": networks, "data": data, "batch_size": BATCH, "seed": 3})


def begun(config: Config, mode: str, pieces: int = 1) -> Game:
    """The game at its start, in this world."""
    exact = mode == "exact"
    processes = Processes("fp32" if exact else mode, exact=exact)
    share = BATCH // processes.count
    config = config.model_copy(update={"exact": exact, "piece": 0 if exact else share // pieces})
    assert not config.mistakes(processes.count)
    return game_of(config, processes, config.data.open(processes.device))


def play(game: Game, config: Config, updates: int) -> Game:
    """Some updates more."""
    stream = stream_of(config, game.processes, config.data.open(game.processes.device))
    game.warm_up_reduction(stream.batches(game.images_seen))
    batches = stream.batches(game.images_seen)
    for _ in range(updates):
        game.update(batches)
    return game


def resumed(game: Game, config: Config, mode: str) -> Game:
    """Another game, with the first one's state."""
    saved = {file: {k: v.clone() for k, v in own.items()} for file, own in game.state().items()}
    other = begun(config, mode)
    other.load(saved, game.counters())
    return other


def whole(out: Path, cut: int) -> Iterator[tuple[str, Any]]:
    """In one world: every case from its beginning to its end, and stopped after `cut` updates and resumed."""
    for mode in MODES:
        for name, config in cases().items():
            for pieces in PIECES if mode != "exact" else (1,):
                game = play(begun(config, mode, pieces), config, UPDATES)
                yield f"{mode}/{name}/{pieces}", state(game)
                if pieces == 1:
                    again = play(resumed(play(begun(config, mode), config, cut), config, mode), config, UPDATES - cut)
                    yield f"{mode}/{name}/bitwise", digest(state(again)) == digest(state(game))


def leg(out: Path, updates: int) -> Iterator[tuple[str, Any]]:
    """In one world: every case some updates further than the leg before, which may have had another world."""
    before = torch.load(out, weights_only=True) if out.exists() else {}
    for mode in MODES:
        for name, config in cases().items():
            game = begun(config, mode)
            key = f"{mode}/{name}"
            if key in before:
                game.load(before[key], {"images_seen": before[f"{key}/images"], "scaler": None})
            play(game, config, updates)
            yield key, {file: {k: v.clone() for k, v in own.items()} for file, own in game.state().items()}
            yield f"{key}/images", game.images_seen


def differences(a: State, b: State, left_out: str | None) -> dict[str, float]:
    """The largest relative difference for each kind of state, over all tensors but D's called `left_out`."""
    assert a.keys() == b.keys()
    found = dict.fromkeys(KINDS, 0.0)
    for kind, files in KINDS.items():
        for name, value in b.items():
            file, _, tensor = name.partition("/")
            if file in files and not (left_out and file.startswith("discriminator") and tensor.startswith(left_out)):
                difference = (a[name] - value).abs().max() / value.abs().max().clamp(min=1e-300)
                found[kind] = max(found[kind], difference.item())
    return found


def main() -> int:
    """Run all worlds, compare, print."""
    parser = argparse.ArgumentParser(description="same config, same seed, same model: measured")
    parser.add_argument("--seed", type=int, default=0, help="of the random points where runs stop")
    options = parser.parse_args()
    choose = random.Random(options.seed)
    cuts = {world: choose.randrange(1, UPDATES) for world in WORLDS}
    legs = _legs(choose)
    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
    console.print(f"seed {options.seed}; stopped after (processes: updates) {cuts}; handed on as {legs}")
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        worlds = {world: _launch(world, "whole", cuts[world], Path(folder) / f"{world}.pt") for world in WORLDS}
        for world, updates in legs:
            handed = _launch(world, "leg", updates, Path(folder) / "legs.pt")
    table = Table(title=f"after {UPDATES} updates, against one process that never stopped: largest relative difference")
    table.add_column("case")
    for mode in BOUNDS:
        for kind in KINDS:
            table.add_column(f"{mode}\n{kind}", justify="right")
    table.add_column("resumed:\nbitwise", justify="right")
    table.add_column("exact:\nbitwise", justify="right")
    failed = 0
    for name, config in cases().items():
        left_out = LAST_BIAS if isinstance(config.networks, MLP) and config.objective.loss.name in INVARIANT else None
        cells, passed = _row(name, worlds, handed, left_out)
        table.add_row(name, *cells, style=None if passed else "red")
        failed += not passed
    console.print(table)
    console.print(
        f"{', '.join(map(str, WORLDS))} processes, {', '.join(map(str, PIECES))} pieces; bounds: "
        + ", ".join(f"{bound:g} in {mode}" for mode, bound in BOUNDS.items())
        + "; resumed on the same number of processes, and exact on every number: equal to the bit\n"
        + f"without D's last bias where the loss does not depend on it ({', '.join(sorted(INVARIANT))})"
    )
    console.print(f"{'FAILED: ' + str(failed) if failed else 'passed'}, in {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


def _row(
    name: str, worlds: dict[int, dict[str, Any]], handed: dict[str, Any], left_out: str | None
) -> tuple[list[str], bool]:
    cells, passed = [], True
    for mode, bound in BOUNDS.items():
        right = worlds[1][f"{mode}/{name}/1"]
        others = [worlds[world][f"{mode}/{name}/{pieces}"] for world in WORLDS for pieces in PIECES]
        others.append(_flat(handed[f"{mode}/{name}"]))
        found = [differences(other, right, left_out) for other in others]
        largest = {kind: max(one[kind] for one in found) for kind in KINDS}
        cells += [f"{value:.1e}" for value in largest.values()]
        passed &= all(value <= bound for value in largest.values())
    resumes = [worlds[world][f"{mode}/{name}/bitwise"] for world in WORLDS for mode in MODES]
    hashes = [digest(worlds[world][f"exact/{name}/1"]) for world in WORLDS]
    hashes.append(digest(_flat(handed[f"exact/{name}"])))
    same = hashes.count(hashes[0])
    cells += [f"{sum(resumes)} of {len(resumes)}", f"{same} of {len(hashes)}"]
    return cells, passed and all(resumes) and same == len(hashes)


def _flat(tensors: dict[str, dict[str, Tensor]]) -> State:
    return {f"{file}/{name}": tensor for file, own in tensors.items() for name, tensor in own.items()}


def _legs(choose: random.Random) -> list[tuple[int, int]]:
    """(processes, updates) one after the other, each number of processes another than before; UPDATES in all."""
    points = sorted(choose.sample(range(1, UPDATES), 3))
    order = choose.sample(WORLDS, 4)
    return list(zip(order, (b - a for a, b in zip([0, *points], [*points, UPDATES], strict=True)), strict=True))


def _launch(world: int, action: str, number: int, out: Path) -> dict[str, Any]:
    environment = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    arguments = ["-m", "tests.campaigns.proof", "--worker", action, str(number), str(out)]
    done = command(*arguments, ranks=world, env=environment, timeout=1800)
    if done.returncode:
        sys.exit(f"{action} on {world} processes failed:\n{done.stderr[-4000:]}")
    return dict(torch.load(out, weights_only=True))


def _work(action: str, number: int, out: Path) -> None:
    found = dict({"whole": whole, "leg": leg}[action](out, number))
    if Processes().is_first:
        torch.save(found, out)
    leave(0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        _work(sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
    sys.exit(main())
