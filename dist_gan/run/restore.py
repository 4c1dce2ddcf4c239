"""Back from a checkpoint: a whole game, or its averaged generator alone."""

import os
from pathlib import Path

import torch

from dist_gan.config.command_line import parse
from dist_gan.distributed.processes import Processes
from dist_gan.errors import CheckpointError, ConfigError
from dist_gan.game.game import Game
from dist_gan.networks.base import Generator
from dist_gan.run import checkpoint
from dist_gan.run.folder import CHECKPOINT
from dist_gan.run.manifest import MANIFEST
from dist_gan.shapes import DataShape, ImageShape


def restore(game: Game, path: Path, processes: Processes) -> checkpoint.Checkpoint:
    """Load a checkpoint into a game, on all ranks. Raises CheckpointError where something is missing."""
    found = processes.on_all_ranks(lambda: checkpoint.read(path))
    try:
        game.load(found.tensors, found.state["images_seen"])
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f"{path} does not hold this game: {error}") from None
    return found


def find_checkpoint(path: Path, passed_over: list[str] | None = None) -> Path:
    """A checkpoint itself, or the newest valid one of a run's folder; what is not valid is noted in `passed_over`.

    Raises:
        ConfigError: there is none at `path`, or another version made it.
        CheckpointError: none of the run's is valid.
        InputOutputError: one cannot be read.
    """
    if os.path.lexists(path / MANIFEST) or CHECKPOINT.fullmatch(path.name):
        return path

    def note(broken: Path, problem: str) -> None:
        if passed_over is not None:
            passed_over.append(f"{broken} is passed over: {problem}")

    found = checkpoint.newest(path / "checkpoints", note)
    if found is None:
        raise ConfigError(f"{path} is neither a checkpoint nor a run with one")
    return found


def load_generator(path: str | Path, device: str | torch.device | None = None) -> Generator:
    """The averaged generator of a run or a checkpoint, in eval mode.

    Raises:
        ConfigError: there is none at `path`.
        CheckpointError: it is not valid.
        InputOutputError: it cannot be read.
    """
    read = checkpoint.read(find_checkpoint(Path(path)))
    config = parse(read.config)
    shape = DataShape(ImageShape(*read.state["image_shape"]), len(read.state["classes"]))
    generator = config.networks.build(shape, config.seed).generator
    if config.precision == "fp64":
        generator.double()
    generator.load_state_dict(read.tensors["ema"])
    return generator.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).requires_grad_(False).eval()
