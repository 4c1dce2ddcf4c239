"""Files of weights: where they are, how they get there, and how they are read without executing anything in them."""

import hashlib
import http.client
import os
import shutil
import tempfile
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dist_gan.data.fetch import data_root, may_fetch, only_one
from dist_gan.data.published import TIMEOUT
from dist_gan.errors import ConfigError, FeaturesMissing


class Published(NamedTuple):
    """A file of weights, as its authors published it."""

    file: str
    """Its name."""
    sha256: str
    address: str
    """Where it is downloaded from."""


class Weights(NamedTuple):
    """What was read from a file."""

    tensors: dict[str, Tensor]
    """By name, on the CPU."""
    sha256: str
    """Of the file."""
    path: Path


def own_or_published(own: str, published: Published, features: str) -> Weights:
    """The weights in the file `own`, whatever they are; where it is empty, the published ones.

    Raises:
        FeaturesMissing: the published file is not on this machine, and could not be downloaded.
        ConfigError: the file is not what it should be.
    """
    if own:
        return read(Path(own))
    try:
        return read(_published(published, features), published.sha256)
    except FeaturesMissing:
        raise
    except ConfigError as error:  # nobody named this file: a run goes on without it
        raise FeaturesMissing(str(error)) from None


def read(path: Path, sha256: str = "") -> Weights:
    """Read a file that torch saved.

    Args:
        path: of the file.
        sha256: what the file must have; empty: anything.

    Raises:
        ConfigError: it cannot be read, is another file, or has anything but tensors.
    """
    try:
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
            if sha256 and found != sha256:
                raise ConfigError(
                    f"features: {path} has SHA-256 {found}, expected {sha256}: it is another file, or it is damaged. "
                    "Replace it by the published one"
                )
            file.seek(0)
            tensors = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ConfigError(f"features: the weights {path} cannot be read: {error.strerror or error}") from None
    except ConfigError:
        raise
    except Exception as error:  # torch raises many kinds for a file of another format
        raise ConfigError(
            f"features: {path} is no file of weights, as torch.save writes a state_dict: {_one_line(error)}"
        ) from None
    if not isinstance(tensors, Mapping) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise ConfigError(
            f"features: {path} must hold tensors by name, as torch.save(network.state_dict()) writes them"
        )
    return Weights(dict(tensors), found, path)


def fill(network: nn.Module, weights: Weights, features: str) -> None:
    """Put `weights` into `network`, whose parameters may be on the meta device, in float32.

    Raises:
        ConfigError: names or shapes differ.
    """
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.tensors.items()}
    if expected != found:
        differing = sorted(name for name in expected | found if expected.get(name) != found.get(name))
        one = differing[0]
        raise ConfigError(
            f"features: {weights.path} has not the weights of {features}: {len(differing)} tensors differ; the first "
            f"is {one}, expected {expected.get(one, 'nothing')}, found {found.get(one, 'nothing')}"
        )
    network.load_state_dict(weights.tensors, assign=True)
    network.float()


def _published(published: Published, features: str) -> Path:
    folder = data_root() / "weights"
    path = folder / published.file
    for place in (path, Path(torch.hub.get_dir()) / "checkpoints" / published.file):
        if place.exists():
            return place
    reason = "nothing may be downloaded now"
    if may_fetch():
        try:
            with only_one(folder):
                if not path.exists():  # else another process was faster
                    _download(published, path)
            return path
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = _one_line(error)
    raise FeaturesMissing(
        f"features: the weights of {features} are not in {folder} and could not be downloaded ({reason}). Copy "
        f"{published.address} to {path}, or set `weights` of {features} to where that file is"
    )


def _download(published: Published, path: Path) -> None:
    """Another file under the name `path` is never there, not even for a moment."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".fetch-")
    try:
        with (
            open(descriptor, "wb") as file,
            urllib.request.urlopen(published.address, timeout=TIMEOUT) as answer,
        ):
            shutil.copyfileobj(answer, file, 1 << 20)
        with open(temporary, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != published.sha256:
            raise ValueError(f"what came has SHA-256 {found}, expected {published.sha256}")
        Path(temporary).chmod(0o644)  # mkstemp makes files that only their owner may read
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) < 200 else text[:197] + "..."
