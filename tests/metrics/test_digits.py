"""The digit network: the same bits each time, kept and verified, and right about MNIST."""

import contextlib
import os
import re
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dist_gan.data import MNIST, StackedMNIST
from dist_gan.data.fetch import data_root, on_disk_only, only_one
from dist_gan.errors import FeaturesMissing
from dist_gan.metrics import digit_cache
from dist_gan.metrics.digit_recipe import RECIPE, fingerprint, network, train, warped
from dist_gan.metrics.digits import DigitNetwork, Digits, StackedDigitNetwork, StackedDigits
from dist_gan.metrics.modes import modes, reverse_kl, uniform
from tests.data.streams import stream, take

CPU = torch.device("cpu")
TINY = RECIPE._replace(epochs=1, batch=24)


def noise(count: int = 96, channels: int = 1, side: int = 28) -> Tensor:
    return torch.randint(
        256, (count, channels, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_the_same_bits_with_any_number_of_threads(threads: None) -> None:
    """And nothing of the process is changed."""
    images, labels = noise(), torch.arange(96) % 10
    found = {}
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        random = torch.get_rng_state()
        with torch.no_grad():
            found[count] = fingerprint(train(images, labels, TINY))
            assert not torch.is_grad_enabled()
        assert torch.get_num_threads() == count
        assert torch.equal(random, torch.get_rng_state())
    assert len(set(found.values())) == 1, found
    assert fingerprint(train(images, labels, TINY._replace(seed=1))) != found[1]
    assert fingerprint(train(images, labels.flip(0), TINY)) != found[1]


def test_progress_says_what_takes_long() -> None:
    heard: list[tuple[str, int, int]] = []
    train(noise(), torch.arange(96) % 10, TINY, lambda *said: heard.append(said))
    assert heard[-1] == ("training the digit network, once: about a minute", 4, 4)


def test_images_are_warped_a_little() -> None:
    """By pixels that stay inside, and each by its own numbers, whatever its batch."""
    image = torch.zeros(1, 1, 28, 28)
    image[:, :, 12:16, 12:16] = 1
    batch = warped(image.expand(64, -1, -1, -1), range(64), RECIPE)
    assert torch.allclose(batch.sum((1, 2, 3)), torch.tensor(16.0), rtol=0.35)
    place = torch.arange(28.0)
    center = torch.stack([(batch.sum(d) * place).sum((1, 2)) / batch.sum((1, 2, 3)) for d in (2, 3)])
    assert (center - 13.5).abs().max() < 3
    assert center.std(1).min() > 0.5
    assert torch.equal(warped(image.expand(5, -1, -1, -1), range(20, 25), RECIPE), batch[20:25])


def test_every_constant_is_in_the_name() -> None:
    assert re.fullmatch("[0-9a-f]{16}", RECIPE.name)
    assert len({RECIPE.name, *(RECIPE._replace(**{field: -1}).name for field in RECIPE._fields)}) == 17


# What is kept


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """A cache of its own, with training that takes no time; the list grows with each one."""
    trainings: list[int] = []

    def made(*_: Tensor, **__: object) -> dict[str, Tensor]:
        trainings.append(1)
        return {name: torch.zeros(tensor.shape) for name, tensor in network().state_dict().items()}  # all are class 0

    monkeypatch.setenv("DIST_GAN_DATA", str(tmp_path))
    monkeypatch.setattr(digit_cache, "train", made)
    monkeypatch.setattr(MNIST, "load", lambda _, train: (noise(20), torch.zeros(20, dtype=torch.int64)))
    return trainings


def test_it_is_trained_once(untrained: list[int], tmp_path: Path) -> None:
    first, second = digit_cache.weights(), digit_cache.weights()
    assert len(untrained) == 1
    assert fingerprint(first) == fingerprint(second)
    assert {path.name for path in (tmp_path / "digits").iterdir()} == {f"{RECIPE.name}.safetensors", ".lock"}


def test_of_two_at_once_one_trains(untrained: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one waits, and reads what was made."""
    both = threading.Barrier(2)
    found = []

    @contextlib.contextmanager
    def met(root: Path) -> Iterator[None]:
        both.wait(60)  # both have seen that there is nothing
        with only_one(root):
            yield

    monkeypatch.setattr(digit_cache, "only_one", met)
    threads = [threading.Thread(target=lambda: found.append(digit_cache.weights())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(untrained) == 1
    assert len(found) == 2


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "metadata"])
def test_a_damaged_cache_is_put_aside_and_made_again(untrained: list[int], tmp_path: Path, damage: str) -> None:
    digit_cache.weights()
    (file,) = (tmp_path / "digits").glob("*.safetensors")
    whole = file.read_bytes()
    changed = whole[:-1] + bytes([whole[-1] ^ 1])
    file.write_bytes(
        {"cut": whole[:-100], "bit": changed, "empty": b"", "metadata": whole.replace(b"sha256", b"sha255")}[damage]
    )
    with pytest.warns(UserWarning, match=r"is damaged .*\.damaged, and is made again") as warned:
        found = digit_cache.weights()
    assert len(warned) == 1
    assert len(untrained) == 2
    assert not any(tensor.any() for tensor in found.values())
    assert file.read_bytes() == whole
    assert file.with_suffix(".damaged").exists()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        digit_cache.weights()
    assert len(untrained) == 2


def test_a_network_that_is_not_good_enough_is_not_kept(
    untrained: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MNIST, "load", lambda _, train: (noise(20), torch.arange(20) % 10))
    with pytest.raises(RuntimeError, match=r"classifies 10.00% of MNIST's test images rightly, less than 99.3%"):
        digit_cache.weights()
    assert list((tmp_path / "digits").glob("*.safetensors")) == []


def test_without_mnist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DIST_GAN_DATA", str(tmp_path))
    with (
        on_disk_only(),
        pytest.raises(FeaturesMissing, match=r"learns from MNIST, once on each machine. data: mnist is"),
    ):
        Digits().open(CPU)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_where_nothing_can_be_written(untrained: list[int], tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(FeaturesMissing, match=r"cannot be kept in .* Make it a folder that can be written"):
        digit_cache.weights()


def test_where_the_folder_is_a_file(untrained: list[int], tmp_path: Path) -> None:
    (tmp_path / "digits").write_text("")
    with pytest.raises(FeaturesMissing, match=r"cannot be kept in .* Make it a folder that can be written"):
        digit_cache.weights()


# What is seen


def test_mnist_is_recognized_at_both_of_its_sizes(digit_network: DigitNetwork) -> None:
    images, labels = MNIST(split="test").tensors()
    seen = digit_network(images)
    assert seen.logits is not None
    assert (seen.logits.argmax(1) == labels).double().mean() >= digit_cache.LOWEST
    assert seen.features.shape == (10_000, digit_network.size)
    assert seen.features.dtype == torch.float32
    padded = digit_network(MNIST(split="test", size=32).tensors()[0][:500])
    assert torch.equal(padded.features, digit_network(images[:500]).features)
    large = torch.nn.functional.interpolate(images[:1000].float(), 56, mode="nearest").round().byte()
    other = digit_network(large).logits
    assert other is not None
    assert (other.argmax(1) == labels[:1000]).double().mean() > 0.98
    assert Digits().resizing == StackedDigits().resizing == "crop28"


def test_gray_in_color_is_gray(digit_network: DigitNetwork) -> None:
    images = MNIST(split="test").tensors()[0][:50]
    assert torch.equal(digit_network(images.expand(-1, 3, -1, -1)).features, digit_network(images).features)


def test_the_name_is_the_weights(digit_network: DigitNetwork) -> None:
    file = data_root() / "digits" / f"{RECIPE.name}.safetensors"
    assert digit_network.sha256.encode() in file.read_bytes()
    assert digit_network.sha256 == fingerprint(digit_network.layers.state_dict())
    assert not digit_network.training
    assert not any(parameter.requires_grad for parameter in digit_network.parameters())


def test_what_surrounds_it_changes_nothing(digit_network: DigitNetwork) -> None:
    images = noise(8)
    with torch.autocast("cpu", torch.bfloat16):
        inside = digit_network(images).features
    assert torch.equal(inside, digit_network(images).features)


def test_stacked_digits_are_three(digit_network: DigitNetwork) -> None:
    network = StackedDigits().open(CPU)
    assert isinstance(network, StackedDigitNetwork)
    assert network.sha256 == digit_network.sha256
    assert (network.size, len(network.classes), network.classes[42]) == (192, 1000, "042")
    images = noise(6, channels=3)
    seen, single = network(images), [digit_network(images[:, c : c + 1]) for c in range(3)]
    assert seen.logits is not None
    assert torch.allclose(seen.features, torch.cat([one.features for one in single], 1), atol=1e-5)
    a, b, c = (one.logits.softmax(1) for one in single if one.logits is not None)
    product = torch.einsum("na,nb,nc->nabc", a, b, c).flatten(1)
    assert torch.allclose(seen.logits.softmax(1), product, atol=1e-6)
    assert torch.equal(seen.logits.argmax(1), a.argmax(1) * 100 + b.argmax(1) * 10 + c.argmax(1))
    with pytest.raises(AssertionError, match="3 channels, got 1"):
        network(noise(2))


def test_stacked_mnist_is_read_as_its_labels_say(digit_network: DigitNetwork) -> None:
    (batch,) = take(stream(StackedMNIST(split="test", size=32, labels=True), batch_size=2_000), 1)
    images = ((batch.images + 1) * 127.5).round().to(torch.uint8)
    logits = StackedDigits().open(CPU)(images).logits
    assert logits is not None
    assert (logits.argmax(1) == batch.labels).double().mean() > 0.97
    seen = logits.argmax(1)
    assert abs(modes(seen) - modes(batch.labels)) < 25
    equal = uniform(1000)
    assert reverse_kl(seen, equal) == pytest.approx(reverse_kl(batch.labels, equal), abs=0.02)
