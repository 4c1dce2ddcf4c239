"""What each world of processes plays. Every function here runs on all ranks; each yields names and results."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dist_gan.config.schema import Config
from dist_gan.distributed.processes import Processes
from dist_gan.game.game import Game
from dist_gan.run.build import game_of, stream_of
from tests.support.published import numbers
from tests.support.tiny import digest, state

UPDATES = 6
PARTS = (1, 2, 4)
"""Microbatches of a process's part of the batch."""
PICTURES = 8
MODES = ("fp64", "fp32", "exact")
LARGE_MODES = ("fp64", "exact")

Cases = dict[str, Config]
Found = Iterator[tuple[str, Any]]


def begun(config: Config, mode: str, parts: int = 1) -> Game:
    """The game at its start, in this world."""
    exact = mode == "exact"
    processes = Processes("fp32" if exact else mode, exact=exact)
    microbatch = config.microbatch if exact else config.batch_size // processes.count // parts
    config = config.model_copy(update={"exact": exact, "microbatch": microbatch})
    assert not config.mistakes(processes.count), config.mistakes(processes.count)
    return game_of(config, processes, config.data.open(processes.device))


def play(game: Game, config: Config, updates: int) -> Game:
    """Some updates more, as after a start. All ranks must have the same state then."""
    stream = stream_of(config, game.processes, config.data.open(game.processes.device))
    game.warm_up_reduction(stream.batches(game.images_seen))
    batches = stream.batches(game.images_seen)
    for _ in range(updates):
        game.update(batches)
    assert len(set(game.processes.gather(digest(state(game))))) == 1, "ranks differ"
    return game


@torch.no_grad()
def snapshot(game: Game) -> dict[str, dict[str, Tensor]]:
    """The state as it is now, and a few images of the average of G."""
    found = {member: {name: tensor.clone() for name, tensor in own.items()} for member, own in game.state().items()}
    network, dtype = game.average.ready(), game.processes.dtype
    latents = numbers(PICTURES, network.latent, seed=game.seed).to(dtype)
    condition = torch.arange(PICTURES) % network.classes if network.classes else None
    return found | {"pictures": {"images": network(latents, condition)}}


def one_world(cases: Cases, cut: int) -> Found:
    """Every case from its beginning to its end, and stopped after `cut` updates and resumed."""
    for mode in MODES:
        for name, config in cases.items():
            for parts in PARTS if mode != "exact" else (1,):
                game = play(begun(config, mode, parts), config, UPDATES)
                yield f"{mode}/{name}/{parts}", snapshot(game)
                if parts == 1:
                    stopped = play(begun(config, mode), config, cut)
                    again = begun(config, mode)
                    again.load(stopped.state(), stopped.images_seen)
                    play(again, config, UPDATES - cut)
                    yield f"{mode}/{name}/bitwise", digest(state(again)) == digest(state(game))


def leg(cases: Cases, modes: tuple[str, ...], updates: int, before: dict[str, Any]) -> Found:
    """Every case some updates further than `before`, which may be of another world; empty: from the beginning."""
    for mode in modes:
        for name, config in cases.items():
            game = begun(config, mode)
            key = f"{mode}/{name}"
            if key in before:
                game.load(before[key], before[f"{key}/images"])
            play(game, config, updates)
            yield key, snapshot(game)
            yield f"{key}/images", game.images_seen


def written(found: Found, out: Path) -> None:
    """Play, and have rank 0 write it down."""
    results = dict(found)
    processes = Processes()
    if processes.is_first:
        torch.save(results, out)
    processes.wait()
