"""From a config to its objects: the batches and the game."""

import warnings
from collections.abc import Callable, Sequence
from typing import Literal

from dist_gan.config.schema import Config
from dist_gan.data import Dataset, Stream
from dist_gan.distributed.processes import Processes
from dist_gan.errors import ConfigError
from dist_gan.game.compiled import CompiledNetworks
from dist_gan.game.cuda_graphs import CudaCapture
from dist_gan.game.game import Game, Watch
from dist_gan.game.meter import Scalar
from dist_gan.game.speed import Eager, Repeated
from dist_gan.networks.freezing import freeze_first
from dist_gan.shapes import DataShape


def stream_of(config: Config, processes: Processes, dataset: Dataset) -> Stream:
    """This process's part of the batches that `config` describes."""
    return Stream(
        dataset,
        seed=config.seed,
        batch_size=config.batch_size,
        rank=processes.rank,
        processes=processes.count,
        device=processes.device,
        dtype=processes.dtype,
        flip=config.data.flip,
        fresh_every=config.discriminator_turns if config.objective.fresh_reals else 0,
    )


def shape_of(config: Config, dataset: Dataset) -> DataShape:
    """What the networks are built for. Raises ConfigError where they need classes and the data has none."""
    classes = len(dataset.classes) if config.networks.is_conditional else 0
    if config.networks.is_conditional and not classes:
        raise ConfigError(
            f"networks.conditional: these networks are given each sample's class, and {config.data.name} has no "
            "labels. Set data.labels=true where the data has that key, or networks.conditional=false"
        )
    return DataShape(dataset.shape, classes)


def game_of(
    config: Config,
    processes: Processes,
    dataset: Dataset,
    scalars: Sequence[Scalar] = (),
    watch: Watch | None = None,
    report: Callable[[str], None] = warnings.warn,
) -> Game:
    """The game that `config` describes, before its first update. `report`: called where a turn cannot run as `speed`
    asks for."""
    networks = config.networks.build(shape_of(config, dataset), config.seed)
    freeze_first(networks.discriminator, config.freeze_discriminator_layers)
    speed, _ = used_speed(config, processes)
    cuda = CudaCapture(processes.device) if speed == "graph" else None
    capture = cuda or (CompiledNetworks(networks) if speed == "compile" else None)
    game = Game(
        processes,
        networks,
        config.objective,
        generator_optimizer=config.generator_optimizer,
        discriminator_optimizer=config.discriminator_optimizer,
        ema=config.ema,
        augment=config.augment,
        seed=config.seed,
        batch_size=config.batch_size,
        microbatch=config.used_microbatch,
        batch_multiple=config.networks.batch_multiple,
        discriminator_turns=config.discriminator_turns,
        scalars=scalars,
        watch=watch,
        guard="always" if watch else "first",
        wire=config.wire,
        shard=config.shard,
        runner=Repeated(capture, processes, report) if capture else Eager(),
    )
    if cuda:
        cuda.optimizers = [player.optimizer for player in game.players.values()]
    return game


def used_speed(config: Config, processes: Processes) -> tuple[Literal["eager", "graph", "compile"], str]:
    """How the updates of a run run, and what to say about it."""
    if config.debug:
        return "eager", "debug mode watches every turn"
    if config.speed == "compile":
        return "compile", "the first updates take a minute or more"
    if config.speed != "auto":
        return config.speed, ""
    if why := config.only_eager():
        return "eager", why
    return ("graph", "") if processes.device.type == "cuda" else ("eager", "")
