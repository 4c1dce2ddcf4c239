"""Downloading data: once, by one process, and with one message where it is not available."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dist_gan.data.published import MNIST, Published, quietly
from dist_gan.errors import ConfigError

_fetches = True


@contextlib.contextmanager
def on_disk_only() -> Iterator[None]:
    """Inside, nothing is downloaded: data that is not there is an error that says how to get it."""
    global _fetches  # noqa: PLW0603  # one state for the process
    before, _fetches = _fetches, False
    try:
        yield
    finally:
        _fetches = before


def may_fetch() -> bool:
    """Whether something may be downloaded now: not inside `on_disk_only`."""
    return _fetches


def data_root() -> Path:
    """`DIST_GAN_DATA`, else dist_gan's folder in the user's cache."""
    if chosen := os.environ.get("DIST_GAN_DATA"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dist_gan"


def fetch_mnist() -> Path:
    """As `fetch`, of MNIST."""
    return fetch(MNIST)


def fetch(wanted: Published) -> Path:
    """The data root in which torchvision finds `wanted`, downloaded if it is not there.

    Raises:
        ConfigError: no way worked; the message says why each one failed, and what to copy where.
    """
    root = data_root()
    folder = wanted.folder(root)
    wrong = wanted.wrong(folder)
    if not wrong:
        return root
    if not _fetches:
        raise _not_here(wanted.name, root, wrong)
    reasons = [f"the data root {folder}: {wrong}"]
    try:
        with only_one(root):
            if not wanted.wrong(folder):  # another process was faster
                return root
            for name, way in wanted.ways.items():
                with tempfile.TemporaryDirectory(dir=root, prefix=".fetch-") as temporary:
                    try:
                        found = way(wanted, Path(temporary))
                        if wrong := wanted.wrong(found):
                            raise ValueError(wrong)
                    except Exception as error:  # it is reported, and the next way is tried
                        reasons.append(f"{name}: {_one_line(error)}")
                        continue
                    folder.mkdir(parents=True, exist_ok=True)
                    for file in wanted.hashes:
                        os.replace(found / file, folder / file)
                    return root
    except OSError as error:
        reasons.append(f"{root}: {_one_line(error)}")
    raise ConfigError(
        f"data: {wanted.title} is not on this machine and could not be fetched.\n"
        + "".join(f"  - {reason}\n" for reason in reasons)
        + f"Copy the four files {', '.join(wanted.hashes)} (uncompressed) to {folder}, set DIST_GAN_DATA to a folder "
        f"that has them in {wanted.folder(Path())}, or run `python -m dist_gan.data {wanted.name}` where there is "
        "internet"
    )


def fetch_torchvision(name: str, open_: Callable[[Path, bool], Any]) -> Any:
    """A torchvision data set from the data root, downloaded if it is not there.

    Args:
        name: of the data set, for messages.
        open_: (root, download) -> the data set; raises RuntimeError where it is not there.

    Raises:
        ConfigError: it is not there and cannot be fetched.
    """
    root = data_root()
    try:
        return open_(root, False)
    except RuntimeError as error:
        if not _fetches:
            raise _not_here(name, root, _one_line(error)) from None
    try:
        with only_one(root):
            with contextlib.suppress(RuntimeError):
                return open_(root, False)
            with quietly():
                return open_(root, True)
    except Exception as error:  # torchvision's downloads raise many kinds
        raise ConfigError(
            f"data: {name} is not in {root} and could not be fetched: {_one_line(error)}. Run `python -m dist_gan.data "
            f"{name}` where there is internet, and copy that machine's {root} here or set DIST_GAN_DATA to it"
        ) from None


@contextlib.contextmanager
def only_one(root: Path) -> Iterator[None]:
    """Inside is one process of the machine at a time; the lock ends with its process."""
    root.mkdir(parents=True, exist_ok=True)
    with open(root / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _not_here(name: str, root: Path, reason: str) -> ConfigError:
    return ConfigError(
        f"data: {name} is not in {root} ({reason}). Fetch it with `python -m dist_gan.data {name}`, on a machine with "
        "internet: training would try that itself first. Or set DIST_GAN_DATA to a folder that has it"
    )


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) < 300 else text[:297] + "..."
