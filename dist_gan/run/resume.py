"""Where a run goes on: from which checkpoint, whether it may, and how the game is loaded from it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dist_gan.config.command_line import parse
from dist_gan.config.explain import differences
from dist_gan.config.schema import Config
from dist_gan.distributed.processes import Processes
from dist_gan.errors import CheckpointError, ConfigError, InputOutputError
from dist_gan.game.game import Game
from dist_gan.own_parts import code_of
from dist_gan.run import checkpoint
from dist_gan.run.checkpoint import Checkpoint
from dist_gan.run.failures import Attempt
from dist_gan.run.folder import RunFolder
from dist_gan.run.restore import find_checkpoint
from dist_gan.run.scores import read_scores


@dataclass(frozen=True)
class ResumePoint:
    """Where a run begins, as rank 0 decided."""

    checkpoint: Path | None
    images_seen: int
    processes: int
    parent: Mapping[str, Any] | None = None
    """The checkpoint of another run from which the run began; None where there is none."""
    scored: frozenset[str] = frozenset()
    """The numbers of evaluations that are known here, by their full names."""


def open_run(
    config: Config, folder: RunFolder, data: str, warn: Callable[[str], None], attempt: Attempt
) -> ResumePoint:
    """Lock the run's folder and find where to go on. Rank 0's; `data` is the data's fingerprint.

    That no checkpoint is valid, or that one cannot be read, is written into the folder's status (through `attempt`); a
    config that does not fit is not, since the run itself is as it was.

    Raises:
        ConfigError: the folder cannot be used, or what is in it was made by another config or other data.
        CheckpointError: there are checkpoints, and none is valid.
        InputOutputError: what is in the folder cannot be read; nothing was changed.
    """
    given = _allowed(config, folder)
    folder.hold()
    try:
        path = checkpoint.find(folder.checkpoints, warn) or given
    except (CheckpointError, InputOutputError):
        attempt.folder = folder
        raise
    start = _from(config, path, data)
    folder.forget_after(start.images_seen if path else -1)
    start = replace(start, scored=frozenset(read_scores(folder.path).get(start.images_seen, ())))
    if start.images_seen < config.images:
        folder.begin(start.images_seen)
    return start


def preview(config: Config, folder: RunFolder, data: str | None, broken: Callable[[Path, str], None]) -> ResumePoint:
    """What `open_run` would find, or why it would refuse. Nothing is locked or changed.

    Args:
        config: of the run.
        folder: the run's.
        data: the data's fingerprint, where it is known.
        broken: called with each checkpoint that would be renamed, and what is wrong with it.

    Raises:
        ConfigError, CheckpointError, InputOutputError: as `open_run`.
    """
    given = _allowed(config, folder)
    if config.begin_from and not checkpoint.existing(folder.checkpoints):
        find_checkpoint(Path(config.begin_from))
    if holder := folder.holder():
        raise ConfigError(folder.held_by(holder))
    path = checkpoint.newest(folder.checkpoints, broken) or given
    return _from(config, path, data)


def restore(game: Game, path: Path, processes: Processes) -> Checkpoint:
    """Load a checkpoint into a game, on all ranks. Raises CheckpointError where something is missing."""
    found = processes.on_all_ranks(lambda: checkpoint.read(path))
    try:
        game.load(found.tensors, found.state["images_seen"])
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f"{path} does not hold this game: {error}") from None
    return found


def _allowed(config: Config, folder: RunFolder) -> Path | None:
    """The checkpoint that `resume` names, or None. Raises ConfigError where the run must not start there."""
    folder.check()
    if config.resume == "never" and checkpoint.existing(folder.checkpoints):
        raise ConfigError(
            f"resume: {folder.path} has a run already, and resume=never. Choose another folder with run=..., "
            "or resume=auto to go on"
        )
    given = None if config.resume in ("auto", "never") else Path(config.resume)
    if given and (problem := checkpoint.verify(given)):
        raise ConfigError(f"resume: {given} is no valid checkpoint: {problem}")
    return given


def _from(config: Config, path: Path | None, data: str | None) -> ResumePoint:
    """Raises ConfigError where the checkpoint at `path` was made by another config or other data."""
    if path is None:
        return ResumePoint(None, 0, 0)
    found = checkpoint.read(path)
    _same_run(config, found, data or found.state["data"])
    return ResumePoint(path, found.state["images_seen"], found.state["processes"], found.state.get("parent"))


def _same_run(config: Config, found: Checkpoint, data: str) -> None:
    if changed := differences(parse(found.config, "inert"), config):
        raise ConfigError(
            f"resume: {found.path} was made with a config that makes another model:\n"
            + "".join(f"  - {line}\n" for line in changed)
            + "Set these back, or begin another run with run=..."
        )
    if (changed := _changed_code(config, found)) and not config.resume_with_changed_code:
        raise ConfigError(
            f"resume: code of your own has changed since {found.path} was made, and may make another model:\n"
            + "".join(f"  - {line}\n" for line in changed)
            + "Bring the old file back, accept it by resume_with_changed_code=true, or begin another run with run=..."
        )
    if found.state["data"] != data:
        raise ConfigError(
            f"resume: the data is not what {found.path} was trained on (files were added, removed or changed). Bring "
            "the old files back, or begin another run with run=..."
        )


def _changed_code(config: Config, found: Checkpoint) -> list[str]:
    before = found.state.get("code", {})
    return [
        f"{key}: {file} (SHA-256 {before[key][:8] or 'unknown'} in the run, {digest[:8] or 'unknown'} now)"
        for key, (file, digest) in code_of(config).items()
        if before.get(key, digest) != digest
    ]
