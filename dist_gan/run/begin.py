"""A new run from the weights of another: `begin_from`. Only at the first start; later its own checkpoints are used."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from dist_gan.config.reading import read_yaml
from dist_gan.config.schema import Config
from dist_gan.errors import ConfigError
from dist_gan.game.game import Game, Mover
from dist_gan.networks import Networks
from dist_gan.networks.freezing import layers_in_order
from dist_gan.optim.names import NAMES
from dist_gan.run import checkpoint
from dist_gan.run.folder import RunFolder
from dist_gan.run.manifest import MANIFEST
from dist_gan.run.restore import find_checkpoint
from dist_gan.shapes import DataShape

PLAYERS: dict[Mover, str] = {"G": "generator", "D": "discriminator"}
"""A player's name -> its file in a checkpoint."""
OPTIMIZERS = tuple(f"{file}_optimizer" for file in PLAYERS.values())


@dataclass(frozen=True)
class Parent:
    """Another run's checkpoint, and which of its layers can be used."""

    read: checkpoint.Checkpoint
    misfits: Mapping[str, str]
    """`G.layer` or `D.layer` -> why it starts from initial weights."""

    @property
    def record(self) -> dict[str, Any]:
        """What the checkpoints of the new run record about it."""
        manifest = json.loads((self.read.path / MANIFEST).read_text("utf-8"))
        return {
            "checkpoint": str(self.read.path.resolve()),
            "images_seen": self.read.state["images_seen"],
            "sha256": manifest["sha256"],
            "afresh": sorted(self.misfits),
        }

    def fits(self, player: str, name: str) -> bool:
        """Whether the tensor `name` of that player's network is used."""
        return _layer(player, name) not in self.misfits


def check_beginning(config: Config, folder: RunFolder, shape: DataShape) -> Parent | None:
    """What the run in `folder` begins from; None where it begins from initial weights or goes on. Nothing is changed.

    Raises:
        ConfigError: there is no checkpoint at `begin_from`, it does not fit, or there are too few layers to freeze.
        CheckpointError, InputOutputError: it is not valid, or cannot be read.
    """
    if not config.begin_from and not config.freeze_discriminator_layers:
        return None
    networks = config.networks.build(shape, config.seed)
    if config.freeze_discriminator_layers >= (count := len(layers_in_order(networks.discriminator))):
        raise ConfigError(
            f"freeze_discriminator_layers: {config.freeze_discriminator_layers}, and D has {count} layers, of which at "
            "least one must move"
        )
    if not config.begin_from or checkpoint.existing(folder.checkpoints):
        return None
    return _parent(config, networks)


def begin(game: Game, parent: Parent, *, optimizers: bool) -> None:
    """Load weights, buffers and the average from the parent; with `optimizers` their state too. An average that the
    parent does not have begins as its first one."""
    taken = {"generator": "G", "discriminator": "D", **dict.fromkeys(game.averages, "G")}
    for file, player in taken.items():
        own, given = game.members[file].state(), parent.read.tensors.get(file, parent.read.tensors[NAMES[0]])
        game.members[file].load({n: given[n] if parent.fits(player, n) else old for n, old in own.items()})
    for player, file in zip(PLAYERS, OPTIMIZERS, strict=True) if optimizers else ():
        moving = [n for n, p in game.players[player].network.named_parameters() if parent.fits(player, n)]
        given = parent.read.tensors[file]
        taken_over = {k: v for k, v in given.items() if k.rpartition(".")[0] in moving}
        game.members[file].load({**game.members[file].state(), **taken_over})


def _parent(config: Config, networks: Networks) -> Parent:
    try:
        path = find_checkpoint(Path(config.begin_from))
    except ConfigError as error:
        raise ConfigError(f"begin_from: {error}") from None
    read = checkpoint.read(path)
    misfits: dict[str, str] = {}
    layers: set[str] = set()
    for (player, file), network in zip(PLAYERS.items(), networks, strict=True):
        misfits |= _misfits(player, read.tensors[file], network)
        layers |= {_layer(player, name) for name in network.state_dict()}
    lines = "".join(f"  - {name}: {why}\n" for name, why in misfits.items())
    if layers <= misfits.keys():
        raise ConfigError(f"begin_from: no layer of {path} fits these networks:\n{lines}Set networks as they are there")
    if misfits and not config.begin_from_partial:
        raise ConfigError(
            f"begin_from: {path} does not fit these networks and this data:\n{lines}Set them as they are there, or "
            "begin_from_partial=true: these layers then start from initial weights"
        )
    if config.begin_from_optimizers:
        _same_optimizers(config, read)
    return Parent(read, misfits)


def _misfits(player: str, given: Mapping[str, Tensor], network: nn.Module) -> dict[str, str]:
    own = network.state_dict()
    found = {}
    for name in [*own, *(name for name in given if name not in own)]:
        there, here = (_shape(tensors.get(name)) for tensors in (given, own))
        if there != here:
            found[_layer(player, name)] = f"{name.rpartition('.')[2]} is {there} there, {here} here"
    return found


def _same_optimizers(config: Config, read: checkpoint.Checkpoint) -> None:
    before, now = read_yaml(read.config), config.model_dump(mode="json")
    for key in OPTIMIZERS:
        if before[key]["name"] != now[key]["name"]:
            raise ConfigError(
                f"begin_from_optimizers: {key} is {before[key]['name']} there and {now[key]['name']} here, and its "
                "state cannot be used. Choose the same one, or begin_from_optimizers=false"
            )


def _layer(player: str, name: str) -> str:
    """The layer that a tensor of a network belongs to."""
    return f"{player}.{name.rpartition('.')[0]}".rstrip(".")


def _shape(tensor: Tensor | None) -> str:
    return "missing" if tensor is None else "x".join(map(str, tensor.shape)) or "one number"
