"""`python -m tests.support.doors OUT` under a launcher: games with a user's parts, played on this many processes."""

import sys
from typing import Any

import torch

from dist_gan.distributed.launch import leave
from dist_gan.distributed.processes import Processes
from dist_gan.game.game import Game
from dist_gan.objective.ada import ADA
from dist_gan.objective.losses import Relativistic
from dist_gan.objective.objective import Objective
from dist_gan.objective.path_length import PathLength
from dist_gan.objective.penalties import R1, WGANGP, ApproximateR1, ApproximateR2, Centering
from dist_gan.optim.factors import LayerFactor
from dist_gan.optim.optimizers import SGD, Adam, AdamW
from dist_gan.optim.schedules import Cosine
from dist_gan.run.records import Records
from tests.support import own_parts, tiny

UPDATES = 6
SLOWER = Cosine(end=4 * tiny.BATCH, final=0.1)
SCHEDULED = Adam(
    learning_rate=1e-3,
    beta2=0.9,
    schedule=SLOWER,
    beta2_schedule=SLOWER,
    factors=(LayerFactor(pattern="*.bias", factor=0.5),),
)
ALONE = (
    R1(weight=0.5, every=2 * tiny.BATCH, alone=True),
    WGANGP(weight=0.5, every=4 * tiny.BATCH, alone=True),
    own_parts.PathLength(weight=0.5, every=3 * tiny.BATCH, alone=True),
)
STYLES = Objective(
    penalties=(
        R1(weight=0.5, every=2 * tiny.BATCH, alone=True),
        PathLength(every=3 * tiny.BATCH, alone=True),
    )
)
PAIRS = Objective(loss=Relativistic(), penalties=(Centering(weight=1),), fresh_reals=True)  # else D's level is open
DIFFERENCES = (ApproximateR1(share=2), ApproximateR2(weight=0.5), Centering(), R1(method="forward_over_reverse"))

SCHEDULED_ADA = ADA(target=None, strength=0.8, schedule=Cosine(start=0, final=1, end=4 * tiny.BATCH), cutout=1)


def cases() -> dict[str, dict[str, Any]]:
    """Name -> arguments of `tiny.game`."""
    length = own_parts.PathLength(weight=0.5, every=2 * tiny.BATCH)
    paths = Objective.model_construct(penalties=(R1(weight=0.5), length))
    every_time = Objective.model_construct(penalties=(own_parts.PathLength(weight=0.5),))
    return {
        "controller": {"augment": own_parts.Controlled()},
        "controller, dropout": {"augment": own_parts.Controlled(), "recipe": tiny.MLP_DROPOUT},
        "ada by feedback": {"augment": ADA(pipe="bgcfnc", strength=0.4, every=2 * tiny.BATCH, rise_images=2000)},
        "ada by a schedule": {"augment": SCHEDULED_ADA, "objective": Objective(penalties=DIFFERENCES)},
        "path length": {"objective": every_time},
        "lazy path length and R1": {"objective": paths},
        "penalties alone": {"objective": Objective.model_construct(penalties=ALONE)},
        "fresh reals": {"objective": PAIRS},
        "differences": {"objective": Objective(penalties=DIFFERENCES), "recipe": tiny.MLP_DROPOUT},
        "RMSprop": {"optimizer": own_parts.RMSProp(learning_rate=1e-3, clip=1)},
        "AdamW": {"optimizer": AdamW(learning_rate=1e-3, weight_decay=0.1)},
        "Adam, beta2 schedule, factors": {"optimizer": SCHEDULED},
        "SGD": {"optimizer": SGD(learning_rate=0.05, momentum=0.9, nesterov=True)},
        "spectral": {"recipe": own_parts.Spectral(), "objective": Objective(penalties=(R1(),))},
        "stylegan2": {"recipe": tiny.STYLEGAN2_TINY, "objective": STYLES},
        "conditional mlp": {"recipe": tiny.MLP_DROPOUT.model_copy(update={"conditional": True})},
        "conditional dcgan": {
            "recipe": tiny.DCGAN_TINY.model_copy(update={"conditional": True}),
            "data": tiny.DATA_16,
            "objective": tiny.PENALISED,
        },
    }


def made(processes: Processes, options: dict[str, Any], microbatch: int = 0) -> Game:
    if processes.exact and not microbatch:
        microbatch = 16
    return tiny.game(processes, microbatch=microbatch, **options)


def played(game: Game, options: dict[str, Any], updates: int) -> Game:
    data = options.get("data", tiny.DATA)
    game.warm_up_reduction(tiny.batches(game.processes, game.images_seen, data))
    return tiny.play(game, updates, data)


def logged(processes: Processes) -> dict[str, float]:
    """What a scalar and an event of a user's own log after some updates."""
    options = {"augment": own_parts.Controlled(), "scalars": [own_parts.SCALAR]}
    game = played(made(processes, options), options, UPDATES)
    found = {name: value for name, value in game.meter.read().items() if name == own_parts.SCALAR.name}
    event = own_parts.WeightNorm(every=tiny.BATCH)
    event.happen(game, Records())
    return {**found, event.name: event.seen[-1][1]}


def results(processes: Processes, mode: str) -> dict[str, Any]:
    """State after some updates, in one microbatch and in two, and whether a resume on the way changes a bit."""
    found: dict[str, Any] = {"logged": logged(processes)}
    for name, options in cases().items():
        game = played(made(processes, options), options, UPDATES)
        found[name] = tiny.state(game)
        half = played(made(processes, options), options, UPDATES // 2)
        saved = {member: {k: v.clone() for k, v in own.items()} for member, own in half.state().items()}
        again = made(processes, options)
        again.load(saved, half.images_seen)
        played(again, options, UPDATES - UPDATES // 2)
        found[f"{name}/resumed"] = tiny.digest(tiny.state(again)) == tiny.digest(found[name])
        if mode == "fp64":
            microbatch = tiny.BATCH // processes.count // 2
            found[f"{name}/two"] = tiny.state(played(made(processes, options, microbatch), options, UPDATES))
    return found


if __name__ == "__main__":
    out = sys.argv[1]
    tiny.BATCH = 96  # for 1, 2 and 3 processes; here alone, where no other test is
    both = {}
    for mode in ("fp64", "exact"):
        joined = Processes("fp32" if mode == "exact" else mode, exact=mode == "exact")
        both[mode] = results(joined, mode)
    if joined.is_first:
        torch.save(both, out)
    joined.close()
    leave(0)
