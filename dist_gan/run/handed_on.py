"""A model that was handed on: the folder that `python -m dist_gan.export` wrote, here or on the Hugging Face Hub.

    generator.safetensors   the averaged generator, with its batch statistics
    config.json             what it is built from, and the SHA-256 of the files that are read
    code/                   networks of somebody's own, where these were handed on too

Nothing here needs the run, a lock, or what only training needs. Nothing unpickles.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from torch import Tensor

from dist_gan.errors import CheckpointError, ConfigError, InputOutputError
from dist_gan.own_parts import anchored
from dist_gan.run.listing import unreadable
from dist_gan.run.manifest import MANIFEST

WEIGHTS, CONFIG, CODE = "generator.safetensors", "config.json", "code"
FORMAT = 1
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
"""`user/name` on the Hub."""
FETCHED = [CONFIG, WEIGHTS, f"{CODE}/*"]
"""What is downloaded from there."""


class HandedOn(BaseModel):
    """The content of config.json. Keys that are not known are let alone: the Hub and its users have some too."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    format: int = FORMAT
    """Of the folder."""
    dist_gan: str = ""
    """The version that wrote it."""
    networks: dict[str, Any]
    """This block of the run's config. A class of somebody's own is looked for in this folder first."""
    seed: int
    """Of the run."""
    image_shape: tuple[int, int, int]
    """Channels, height, width."""
    classes: tuple[str, ...] = ()
    """The names of the data's classes, by number; empty where it had no labels."""
    conditional: bool = False
    """Whether the generator is given a class."""
    latent: int = Field(ge=1)
    """Z, the length of a latent."""
    images_seen: int = 0
    """How many real images D had seen."""
    sha256: dict[str, str]
    """File -> SHA-256 of its content."""
    scores: dict[str, float] = {}
    """Full name of a metric (see `dist_gan.metrics.protocol`) -> value."""


def is_handed_on(folder: Path) -> bool:
    """Whether `folder` is such a model, valid or not."""
    return (folder / CONFIG).exists() and not os.path.lexists(folder / MANIFEST)


def config_of(folder: Path) -> HandedOn:
    """The content of config.json.

    Raises:
        CheckpointError: it is damaged, or something else's.
        ConfigError: a newer version wrote it.
        InputOutputError: it cannot be read.
    """
    content = _content(folder / CONFIG)
    try:
        found = json.loads(content)
        version = found["format"]
        if not isinstance(version, int) or version <= FORMAT:
            return HandedOn.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        raise _damaged(folder, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(folder, f"no entry {error}" if isinstance(error, KeyError) else str(error)) from None
    raise ConfigError(
        f"{folder / CONFIG} has format {version}, and this version of dist_gan reads format {FORMAT}: use the one that "
        f"wrote it ({found.get('dist_gan', 'unknown')})"
    )


def read(folder: Path) -> tuple[dict[str, Tensor], Mapping[str, Any], Mapping[str, Any]]:
    """(weights, the config's blocks that build the networks, the facts about the data). All files are verified.

    Raises:
        CheckpointError: one of the files is damaged or missing; the message names it.
        ConfigError, InputOutputError: as `config_of`.
    """
    found = config_of(folder)
    content = b""
    for name in {WEIGHTS: "", **found.sha256}:
        if name != WEIGHTS and not name.startswith(f"{CODE}/"):
            continue  # it is for other programs, and never read here
        if ".." in Path(name).parts:
            raise CheckpointError(f"{folder / CONFIG}: {name!r} leaves the folder")
        own = _content(folder / name)
        if hashlib.sha256(own).hexdigest() != found.sha256.get(name):
            raise CheckpointError(f"{folder / name} is damaged: its SHA-256 is not the one in {CONFIG}. Copy it again")
        content = own if name == WEIGHTS else content
    try:
        weights = parse_tensors(content)
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{folder / WEIGHTS} cannot be read: {error}") from None
    config = {"networks": anchored(found.networks, folder), "seed": found.seed}
    return weights, config, {"image_shape": found.image_shape, "classes": found.classes}


def is_on_hub(path: Path) -> bool:
    """Whether `path` can only mean a model on the Hub: `user/name`, where there is no folder `user` here."""
    return HUB_NAME.fullmatch(path.as_posix()) is not None and not os.path.lexists(path.parent)


def downloaded(name: str) -> Path:
    """The folder of the model `user/name` of the Hub, in the cache of its client, which asks the Hub for a newer one.

    Raises:
        ConfigError: the client is not installed, or there is no such model.
        InputOutputError: it cannot be downloaded, and no earlier download is there.
    """
    neither = f"{name} is no folder here, and"
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import RepositoryNotFoundError
    except ImportError:
        raise ConfigError(
            f"{neither} a model of the Hugging Face Hub needs its client: pip install huggingface_hub"
        ) from None
    try:
        folder = Path(snapshot_download(name, allow_patterns=FETCHED))
    except RepositoryNotFoundError:
        raise ConfigError(
            f"{neither} no model on the Hugging Face Hub, or it is private. Correct the name, or log in: hf auth login"
        ) from None
    except Exception as error:  # which class it is depends on the client's version and on what lies below it
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise InputOutputError(
            f"{neither} it cannot be downloaded from the Hugging Face Hub ({reason}). Check the network, or give the "
            "path of a folder"
        ) from None
    if not is_handed_on(folder):
        raise ConfigError(f"{name} on the Hugging Face Hub is no model of dist_gan: it has no {CONFIG}")
    return folder


def _damaged(folder: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{folder / CONFIG} does not describe a generator of dist_gan ({reason})")


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise CheckpointError(f"{path} is missing") from None
    except OSError as error:
        raise unreadable(path, error) from None
