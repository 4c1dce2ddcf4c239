"""What is proved: configs whose networks are a few pixels large."""

from pathlib import Path
from typing import Any, get_args

from dist_gan.config.command_line import load
from dist_gan.config.schema import Config
from dist_gan.data import Generated
from dist_gan.networks import DCGAN, MLP, Recipe
from dist_gan.objective.losses import AnyLoss
from dist_gan.objective.objective import Objective
from dist_gan.objective.penalties import R1, R2, WGANGP, ApproximateR1, Centering
from dist_gan.optim.optimizers import SGD, AdamW, Optimizer
from tests.support.commands import ROOT
from tests.support.own_parts import Controlled, PathLength, Spectral
from tests.support.shrunk import shrunk

BATCH = 192
"""Divisible by 1, 2, 3 and 4 processes, each in 1, 2 and 4 microbatches of full groups."""
GROUP = 4
"""Samples of a full group, at most, also where penalties see a share of a batch."""
LARGE_BATCH = 256
MLP_SMALL = MLP(latent=6, width=4)
DCGAN_SMALL = DCGAN(latent=6, width=4, group=GROUP)
ALL_PENALTIES = Objective(penalties=(R1(), R2(), WGANGP()))

DIFFERENCES = ApproximateR1(sigma=0.1)
"""Not 0.01: float32 loses most digits of so small a difference, and the bound would measure that (docs/promise.md)."""
PENALTIES = (R1(every=2 * BATCH), R1(every=2 * BATCH, alone=True), R2(), WGANGP(), DIFFERENCES, Centering())


def cases() -> dict[str, Config]:
    """By name."""
    found = {f"configs/{path.name}": _shipped(path) for path in sorted((ROOT / "configs").glob("*.yaml"))}
    for kind in get_args(get_args(AnyLoss)[0]):
        found[f"mlp, {kind().name}"] = _case(MLP_SMALL, Objective(loss=kind()))
    for penalty in PENALTIES:
        for networks in (MLP_SMALL, DCGAN_SMALL):
            found[f"{networks.name}, {penalty.name}{' alone' if penalty.alone else ''}"] = _case(
                networks, Objective(penalties=(penalty,))
            )
    found["mlp, a share of approximate_r1"] = _case(MLP_SMALL, Objective(penalties=(ApproximateR1(share=2),)))
    found["mlp, instance noise"] = _case(MLP_SMALL, augment={"name": "instance_noise"})
    for networks in (MLP_SMALL, DCGAN_SMALL):
        found[f"{networks.name}, all penalties, augmentation"] = _everything(networks)
        conditional = networks.model_copy(update={"conditional": True, "embedding": 3})
        found[f"{networks.name}, labels"] = _case(conditional, Objective(penalties=(R1(),)))
    for optimizer in (AdamW(clip=1), SGD(momentum=0.9, nesterov=True, clip=1)):
        found[f"mlp, {optimizer.name}"] = _moved_by(optimizer)
    return found | _own()


def _shipped(path: Path) -> Config:
    config = shrunk(load(path), BATCH)
    times = config.batch_multiple // GROUP
    if times < 2:
        return config
    return config.model_copy(update={"networks": config.networks.model_copy(update={"group": GROUP // times})})


def large_cases(count: int) -> dict[str, Config]:
    """Those for up to 64 processes, by name. In `exact` each of `count` has one microbatch."""
    more = {"batch_size": LARGE_BATCH, "microbatch": LARGE_BATCH // count}
    return {
        f"{networks.name}, all penalties, augmentation": _everything(networks).model_copy(update=more)
        for networks in (MLP_SMALL, DCGAN_SMALL)
    }


def _own() -> dict[str, Config]:
    """With parts that a user would write, which have states."""
    plain = _case(MLP_SMALL)
    path_length = Objective.model_construct(penalties=(PathLength(weight=0.5),))
    spectral = plain.model_copy(update={"networks": Spectral()})
    everything = Objective.model_construct(penalties=(R1(), PathLength(every=2 * BATCH)))
    return {
        "mlp, a controller": plain.model_copy(update={"augment": Controlled()}),
        "mlp, path length": plain.model_copy(update={"objective": path_length}),
        "spectral": spectral,
        "spectral, a controller, r1, path length": spectral.model_copy(
            update={"augment": Controlled(), "objective": everything}
        ),
    }


def _everything(networks: Recipe) -> Config:
    return _case(networks, ALL_PENALTIES, augment={"name": "diffaugment"}, data=_data(networks, flip=True))


def _moved_by(optimizer: Optimizer) -> Config:
    return _case(MLP_SMALL, generator_optimizer=optimizer, discriminator_optimizer=optimizer)


def _data(networks: Recipe, **options: Any) -> Generated:
    return Generated(size=16 if isinstance(networks, DCGAN) else 8, count=500, **options)


def _case(networks: Recipe, objective: Objective | None = None, **options: Any) -> Config:
    data = options.pop("data", _data(networks))
    rules = objective or Objective()
    return Config(networks=networks, objective=rules, data=data, batch_size=BATCH, seed=3, **options)
