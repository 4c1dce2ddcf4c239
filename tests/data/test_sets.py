from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from dist_gan.data import CIFAR10, MNIST, FashionMNIST, StackedMNIST
from dist_gan.errors import ConfigError
from dist_gan.run.restore import load_generator
from dist_gan.sampling.generate import generate, sample_latents
from tests.data.streams import CPU, stream, take
from tests.support.commands import sample
from tests.support.runs import run


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
    batch = take(stream(StackedMNIST(labels=True), batch_size=512), 4)
    labels = torch.cat([b.labels for b in batch])
    assert labels.min() >= 0
    assert labels.max() <= 999
    assert len(labels.unique()) > 800
    singles = MNIST().open(CPU).images  # type: ignore[attr-defined]
    hundreds = ((batch[0].images[0, 0] + 1) * 127.5).round().to(torch.uint8)
    assert any(torch.equal(hundreds, image) for image in singles[:, 0])
    plain = take(stream(StackedMNIST(), batch_size=512), 1)[0]
    assert torch.equal(plain.images, batch[0].images)
    assert len(plain.labels) == 0


def test_stacked_mnist_on_demand(mnist: Path, tmp_path: Path) -> None:
    """A conditional run of 1,000 classes, and images of two of them."""
    options = ["data={name: stacked_mnist, labels: true}", "networks={name: mlp, width: 4, conditional: true}"]
    assert run(tmp_path / "run", 256, *options) == 0
    assert sample.main([str(tmp_path / "run"), "classes=123,7", "per_class=2", f"out={tmp_path / 'two.npy'}"]) == 0
    assert numpy.load(tmp_path / "two.npy").shape == (4, 28, 28, 3)
    generator = load_generator(tmp_path / "run", "cpu")
    assert generator.classes == 1000
    latents = sample_latents(0, range(4), generator.latent)
    expected = generate(generator, latents, torch.tensor([123, 7] * 2)).permute(0, 2, 3, 1)
    assert (numpy.load(tmp_path / "two.npy") == expected.numpy()).all()


def test_classes_have_names(mnist: Path) -> None:
    assert MNIST().open(CPU).classes == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
    assert FashionMNIST.classes[9] == "Ankle boot"
    assert len(FashionMNIST.classes) == 10
    stacked = StackedMNIST(labels=True)
    assert stacked.has_labels
    assert stacked.open(CPU).classes[137] == "137"
    assert stacked.open(CPU).classes[7] == "007"
    assert len(stacked.open(CPU).classes) == 1000
    assert not StackedMNIST().has_labels
    assert StackedMNIST().open(CPU).classes == ()


def test_the_names_of_classes_are_torchvisions() -> None:
    from torchvision.datasets import FashionMNIST as TorchvisionFashionMNIST

    assert list(FashionMNIST.classes) == TorchvisionFashionMNIST.classes
    assert " ".join(CIFAR10.classes) == "airplane automobile bird cat deer dog frog horse ship truck"


def test_torchvision_sets_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From made-up archives in torchvision's layout, or one message where there is nothing."""
    import pickle

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
    assert dataset.classes == CIFAR10.classes
    assert CIFAR10().has_labels
    images, labels = next(dataset.batches([range(2)], lambda r: torch.arange(2), lambda r, k: torch.arange(0)))
    assert images.shape == (2, 3, 32, 32)
    assert images[0, 0, 0, :3].tolist() == [0, 1, 2]
    assert labels.tolist() == [0, 1]

    def unreachable(*args: Any, **kwargs: Any) -> None:
        raise OSError("no internet here")

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", unreachable)
    monkeypatch.setenv("DIST_GAN_DATA", str(tmp_path / "none"))
    with pytest.raises(
        ConfigError,
        match=r"cifar10 is not in .* could not be fetched: no internet here. Run `python -m dist_gan.data",
    ):
        CIFAR10().open(CPU)
