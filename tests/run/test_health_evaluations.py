"""Runs that are made ill on purpose, and what their evaluations say of them; nothing is said of a healthy one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from dist_gan import Config, train
from dist_gan.data import MNIST, Dataset, Generated
from dist_gan.data.source import READING, Reading, Resident
from dist_gan.metrics import health
from dist_gan.metrics.classified import Modes
from dist_gan.metrics.distances import FID, Copies
from dist_gan.metrics.features import FeatureNetwork, Features, Seen, sha256_of
from dist_gan.metrics.pixels import Pixels
from dist_gan.networks.mlp import MLPGenerator
from dist_gan.run.folder import RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("own_statistics")]
DISCS = Generated(size=8, count=400)
SIGHT: Any = Pixels(side=4)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten times less patience than a run has."""
    monkeypatch.setattr(health, "PATIENCE_IMAGES", health.PATIENCE_IMAGES // 10)
    monkeypatch.setattr(health, "PATIENCE_UPDATES", health.PATIENCE_UPDATES // 10)


class _Quadrant(FeatureNetwork):
    """Which quarter of the image is brightest."""

    size = 4
    classes = ("top left", "top right", "bottom left", "bottom right")

    def __init__(self) -> None:
        super().__init__()
        self.sha256 = sha256_of(self, "quadrant")

    def forward(self, images: Tensor) -> Seen:
        means = torch.nn.functional.adaptive_avg_pool2d(images[:, :1].float(), 2).flatten(1)
        return Seen(means, means)


class Quadrant(Features):
    @property
    def resizing(self) -> str:
        return "none"

    def open(self, device: torch.device) -> FeatureNetwork:
        return _Quadrant().to(device)


class Halves(Generated):
    """Discs in two splits."""

    split: Literal["train", "test"] = "train"

    def open(self, device: torch.device, reading: Reading = READING) -> Dataset:
        whole = super().open(device, reading)
        assert isinstance(whole, Resident)
        part = slice(0, None, 2) if self.split == "train" else slice(1, None, 2)
        return Resident(whole.images[part], None, device, f"{self.split}00000000", ())


def kinds(run: Path, images: int, *metrics: Any, **more: Any) -> list[str]:
    """The kinds of the notes."""
    values: dict[str, Any] = {"data": DISCS, "networks": {"name": "mlp", "width": 8}, **more}
    train(
        Config(
            run=str(run),
            images=images,
            track={"every": 4000, "wandb": "disabled"},
            sample={"every": 10**9, "count": 16},
            save={"every": 10**9},
            console="plain",
            evaluate=metrics,
            **values,
        )
    )
    return [note["kind"] for note in RunFolder(run).notes()]


@pytest.mark.usefixtures("hasty")
def test_a_collapse_is_seen_by_features_and_by_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = MLPGenerator.forward
    monkeypatch.setattr(MLPGenerator, "forward", lambda self, latents, *more: forward(self, latents * 0.01, *more))
    fid, modes = FID(features=SIGHT, images=200, every=5000), Modes(features=Quadrant(), images=200, every=5000)  # type: ignore[arg-type]
    assert {"few_classes", "low_diversity"} <= set(kinds(tmp_path / "run", 20_000, fid, modes))
    again = kinds(tmp_path / "run", 30_000, fid, modes)
    assert len(again) == len(set(again)), "each once"


@pytest.mark.usefixtures("hasty")
def test_training_images_that_are_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Halves(size=8, count=400)
    known = data.open(torch.device("cpu"))
    assert isinstance(known, Resident)
    forward = MLPGenerator.forward

    def repeated(self: MLPGenerator, latents: Tensor, *more: Any) -> Tensor:
        index = (latents[:, 0] * 1000).long() % len(known)
        images = known.images[index].to(latents.dtype) / 127.5 - 1
        return images if not self.training else forward(self, latents, *more) * 0 + images

    copies = Copies(features=SIGHT, images=100, every=5000)
    assert "copies" not in kinds(tmp_path / "new", 20_000, copies, data=data)
    monkeypatch.setattr(MLPGenerator, "forward", repeated)
    found = kinds(tmp_path / "run", 20_000, copies, data=data)
    assert "copies" in found


@pytest.mark.usefixtures("hasty")
def test_a_metric_that_stands_still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values: Iterator[float] = iter([3.0, 1.0, *[2.0] * 20])
    monkeypatch.setattr("dist_gan.metrics.distances.frechet_distance", lambda a, b: next(values))
    assert "stalled" in kinds(tmp_path, 20_000, FID(features=SIGHT, images=100, every=2000))
    (note,) = [note for note in RunFolder(tmp_path).notes() if note["kind"] == "stalled"]
    assert "fid has not become better since 4,032 images: it was 1 then, and is 2" in note["text"]


def test_nothing_is_said_of_a_healthy_run(tmp_path: Path, mnist: Path, own_statistics: Path) -> None:
    """With the patience that users have."""
    own_statistics.parent.mkdir(parents=True)
    (own_statistics.parent / "MNIST").symlink_to(mnist / "MNIST")
    metrics = (FID(features=SIGHT, images=500, every=20_000), Copies(features=SIGHT, images=200, every=50_000))
    data, networks = MNIST(), {"name": "mlp", "width": 32, "dropout": 0}
    penalties = [{"name": "r1", "weight": 0.1}, {"name": "r2", "weight": 0.1}]
    loss = {"loss": {"name": "relativistic"}, "penalties": penalties}
    assert kinds(tmp_path, 110_000, *metrics, data=data, networks=networks, objective=loss) == []
