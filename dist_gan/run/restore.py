"""A trained generator, loaded from a run, a checkpoint, two files of one, or a folder that was handed on.

Neither the loss nor the data nor the tracker need to be known, and nothing here needs what only training needs: a model
can be looked at where there is no `fcntl` (Windows).
"""

import json
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from dist_gan.config.reading import read_yaml
from dist_gan.errors import CheckpointError, ConfigError
from dist_gan.networks import AnyRecipe, Generator, Recipe
from dist_gan.optim.names import NAMES
from dist_gan.own_parts import reading
from dist_gan.run import checkpoint, handed_on
from dist_gan.run.listing import CHECKPOINT, runs_below
from dist_gan.run.manifest import MANIFEST
from dist_gan.run.scores import chosen
from dist_gan.shapes import DataShape, ImageShape

WEIGHTS, CONFIG = "ema.safetensors", "config.yaml"
"""What a folder must hold at least."""
SHOWN = 10
"""Runs that a message names."""


def find_checkpoint(path: Path, passed_over: list[str] | None = None, which: str = "last") -> Path:
    """A checkpoint itself, or one of a run's folder.

    Args:
        path: of either.
        passed_over: invalid checkpoints are noted here.
        which: of a run's: `last`, the newest valid one; `best`, by the metric that `save.best` named; or the number of
            images it had seen.

    Raises:
        ConfigError: there is none at `path`, or another version made it.
        CheckpointError: none of the run's is valid.
        InputOutputError: one cannot be read.
    """
    if os.path.lexists(path / MANIFEST) or CHECKPOINT.fullmatch(path.name):
        if which != "last":
            raise ConfigError(f"which: {path} is one checkpoint. Give the run's folder to choose among all")
        return path

    def note(broken: Path, problem: str) -> None:
        if passed_over is not None:
            passed_over.append(f"{broken} is passed over: {problem}")

    if which != "last":
        found = next((each for each in chosen(path, which) if not _is_broken(each, note)), None)
    else:
        found = checkpoint.newest(path / "checkpoints", note)
    if found is None:
        raise ConfigError(_no_run(path))
    return found


def _is_broken(path: Path, note: Callable[[Path, str], None]) -> bool:
    problem = checkpoint.verify(path)
    if problem:
        note(path, problem)
    return bool(problem)


def _no_run(path: Path) -> str:
    if not os.path.lexists(path):
        return f"{path} is neither a checkpoint nor a run with one: it does not exist"
    found = [str(run) for run in runs_below(path)]
    if not found:
        return f"{path} is neither a checkpoint nor a run with one"
    more = f", and {len(found) - SHOWN:,} more" if len(found) > SHOWN else ""
    return f"{path} is no run. Give one of those in it: {', '.join(found[:SHOWN])}{more}"


def load_generator(
    path: str | Path,
    device: str | torch.device | None = None,
    *,
    trust_code: bool = False,
    which: str = "last",
    average: str = NAMES[0],
) -> Generator:
    """The averaged generator of a run, a checkpoint, or a model that was handed on; in eval mode.

    Args:
        path: of a run; of a checkpoint, or a folder with its ema.safetensors and config.yaml; of a folder that
            `python -m dist_gan.export` wrote; or `user/name` of such a model on the Hugging Face Hub, where there is no
            folder `user` here.
        device: of the generator; None: a GPU where there is one.
        trust_code: whether the code of networks of a user's own, which the config names, may be executed. Not needed
            where this process has used them already.
        which: checkpoint of a run: `last`, `best`, or the number of images it had seen.
        average: of a run with several averages of G: `ema`, the first, or `ema_2`, ...

    Raises:
        ConfigError: there is none at `path`, or it needs code that is not trusted.
        CheckpointError: it is not valid.
        InputOutputError: it cannot be read or downloaded.
    """
    found = find_model(Path(path), which=which)
    if not handed_on.is_handed_on(found):
        weights, config, facts = (_two_files if _is_bare(found) else _checkpoint)(found, average)
    elif average == NAMES[0]:
        weights, config, facts = handed_on.read(found)
    else:
        raise ConfigError(f"average: {path} is one model. Give the run's folder to choose among its averages")
    try:
        recipe = _recipe(config["networks"], trust_code=trust_code)
        shape = DataShape(ImageShape(*facts["image_shape"]), len(facts["classes"]))
        generator = recipe.build(shape, int(config["seed"])).generator
        generator.to(next(tensor.dtype for tensor in weights.values() if tensor.is_floating_point()))
        generator.load_state_dict(weights)
    except (LookupError, TypeError, StopIteration, RuntimeError) as error:
        raise CheckpointError(f"{path} holds no generator that can be built: {error}") from None
    return generator.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).requires_grad_(False).eval()


def find_model(path: Path, passed_over: list[str] | None = None, which: str = "last") -> Path:
    """A folder that was handed on (downloaded, where it is on the Hub) or one with two files of a checkpoint, as it is;
    else as `find_checkpoint`."""
    if not os.path.lexists(path) and handed_on.is_on_hub(path):
        path = handed_on.downloaded(path.as_posix())
    if not handed_on.is_handed_on(path) and not _is_bare(path):
        return find_checkpoint(path, passed_over, which)
    if which != "last":
        raise ConfigError(f"which: {path} is one model. Give the run's folder to choose among all")
    return path


def class_names(path: Path) -> list[str]:
    """The names of the classes in the data of a model; empty where there are none."""
    if handed_on.is_handed_on(path):
        return list(handed_on.config_of(path).classes)
    facts = _two_files(path)[2] if _is_bare(path) else json.loads((path / "state.json").read_text("utf-8"))
    return [str(name) for name in facts["classes"]]


def _is_bare(folder: Path) -> bool:
    return not os.path.lexists(folder / MANIFEST) and (folder / WEIGHTS).exists() and (folder / CONFIG).exists()


def check_average(path: Path, there: Collection[str], average: str) -> None:
    """Raises ConfigError where `average` is none of those at `path`. there: names of files, without their endings."""
    known = [name for name in NAMES if name in there]
    if average not in known:
        raise ConfigError(f"average: {path} has {', '.join(known)}; got {average!r}")


def _checkpoint(path: Path, average: str) -> tuple[dict[str, Tensor], Mapping[str, Any], Mapping[str, Any]]:
    read = checkpoint.read(path)
    check_average(path, read.tensors, average)
    return read.tensors[average], read_yaml(read.config), read.state


def _two_files(folder: Path, average: str = NAMES[0]) -> tuple[dict[str, Tensor], Mapping[str, Any], Mapping[str, Any]]:
    """From the two files: the file with the weights also has the shape of the images."""
    check_average(folder, {path.stem for path in folder.glob("*.safetensors")}, average)
    path = folder / f"{average}.safetensors"
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads((file.metadata() or {}).get(checkpoint.FACTS, "{}"))
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
        if missing := {"image_shape", "classes"} - facts.keys():
            raise CheckpointError(f"{path} has no entry {sorted(missing)[0]}. Give the complete checkpoint")
        return weights, read_yaml((folder / CONFIG).read_text(encoding="utf-8")), facts
    except ConfigError:  # no YAML; it is a ValueError too
        raise
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{folder} cannot be read: {error}") from None


def _recipe(block: Any, *, trust_code: bool) -> Recipe:
    try:
        with reading("run" if trust_code else "known"):
            recipe: Recipe = TypeAdapter(AnyRecipe).validate_python(block)
            return recipe
    except ValidationError as error:
        lines = [f"networks{''.join(f'.{step}' for step in e['loc'])}: {e['msg']}" for e in error.errors()]
        raise ConfigError("\n".join(lines)) from None
