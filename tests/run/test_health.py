"""Runs that are made ill on purpose, each in one way, and what is said of them; nothing is said of healthy ones."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dist_gan.data import Batch, Generated, Stream
from dist_gan.metrics import health
from dist_gan.metrics.health_images import low_diversity
from dist_gan.networks.mlp import MLPGenerator
from dist_gan.run.folder import RunFolder
from dist_gan.run.restore import load_generator
from dist_gan.sampling.generate import generate, sample_latents
from tests.support.commands import status, train
from tests.support.runs import assert_same, newest

PLAIN = [
    "data={name: generated, size: 8}",
    "networks={name: mlp, width: 4}",
    "track={every: 4000, wandb: disabled}",
    "sample={every: 12000, count: 64}",
    "console=plain",
]
WEAK = ["discriminator_optimizer.learning_rate=1e-9"]


CPU = torch.device("cpu")
PLAYERS = ("generator", "discriminator")
PICTURES = ["data.size=16", "sample.every=8000", "track.every=8000"]


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five times less patience than a run has: seconds, not minutes, until it says that something is wrong."""
    monkeypatch.setattr(health, "PATIENCE_IMAGES", health.PATIENCE_IMAGES // 5)
    monkeypatch.setattr(health, "PATIENCE_UPDATES", health.PATIENCE_UPDATES // 5)


def play(run: Path, images: int, *more: str) -> list[str]:
    """The kinds of the notes."""
    assert train.main([*PLAIN, f"run={run}", f"images={images}", *more]) == 0
    return [note["kind"] for note in RunFolder(run).notes()]


def disturb(monkeypatch: pytest.MonkeyPatch, change: Callable[[int, Batch], Batch]) -> None:
    """Every batch of a stream goes through `change`, which is given its number."""
    whole = Stream.batches

    def batches(self: Stream, images_seen: int) -> Iterator[Batch]:
        for number, batch in enumerate(whole(self, images_seen)):
            yield change(number, batch)

    monkeypatch.setattr(Stream, "batches", batches)


def generator_that(monkeypatch: pytest.MonkeyPatch, before: Any = None, after: Any = None) -> None:
    """G's latents go through `before`, and its images through `after`."""
    forward = MLPGenerator.forward

    def changed(self: MLPGenerator, latents: Tensor, *more: Any) -> Tensor:
        images = forward(self, before(latents) if before else latents, *more)
        return after(images) if after else images

    monkeypatch.setattr(MLPGenerator, "forward", changed)


@pytest.mark.slow
@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("loss", ["non_saturating", "hinge", "least_squares", "relativistic"])
def test_d_that_is_too_strong(tmp_path: Path, loss: str) -> None:
    rates = ["generator_optimizer.learning_rate=1e-6", "discriminator_optimizer.learning_rate=4e-3"]
    more = ["networks={name: mlp, width: 16, dropout: 0}", f"objective.loss.name={loss}", "sample.every=1000000"]
    assert "discriminator_too_strong" in play(tmp_path / "a", 36_000, *rates, *more, "track.every=2000")


@pytest.mark.slow
def test_d_that_does_not_learn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Said once, also after a resume; shown, noted, and in the status."""
    run = tmp_path / "run"
    assert play(run, 12_000, *WEAK) == [], "too early to say"
    assert play(run, 24_000, *WEAK) == ["discriminator_too_weak"], "though less than 20,000 images are of this start"
    out = capsys.readouterr().out
    assert out.count("warning: health: D is too weak: it has never told real images from fakes") == 1
    (note,) = RunFolder(run).notes()
    assert 20_000 <= note["images"] <= 24_064
    assert play(run, 36_000, *WEAK) == ["discriminator_too_weak"]
    assert "D is too weak" not in capsys.readouterr().out
    assert status.main([str(run)]) == 0
    assert f"{run}: at {note['images']:,} images: D is too weak" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("hasty")
def test_a_g_whose_loss_saturates(tmp_path: Path) -> None:
    more = ["objective.loss.name=minimax", "networks={name: mlp, width: 16, dropout: 0}", "sample.every=1000000"]
    rates = ["generator_optimizer.learning_rate=1e-6", "discriminator_optimizer.learning_rate=4e-3"]
    assert "generator_gradient_vanishes" in play(tmp_path / "a", 44_000, *more, *rates, "track.every=2000")


@pytest.mark.slow
def test_a_loss_that_explodes(tmp_path: Path) -> None:
    more = ["objective.loss.name=wasserstein", "discriminator_optimizer.learning_rate=1e-2"]
    assert "loss_explodes" in play(tmp_path / "a", 36_000, *more)


@pytest.mark.slow
def test_moves_that_are_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def poison(number: int, batch: Batch) -> Batch:
        return batch._replace(images=batch.images * torch.nan) if number % 10 == 9 else batch

    disturb(monkeypatch, poison)
    assert "moves_skipped" in play(tmp_path / "a", 28_000)


@pytest.mark.slow
@pytest.mark.usefixtures("hasty")
def test_data_that_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(_: int, batch: Batch) -> Batch:
        time.sleep(0.05)
        return batch

    disturb(monkeypatch, slow)
    assert play(tmp_path / "a", 7000, "track.every=1000") == ["waiting_for_data"]


@pytest.mark.slow
@pytest.mark.usefixtures("hasty")
def test_images_that_stay_gray(tmp_path: Path) -> None:
    dcgan = ["networks={name: dcgan, width: 4}", "generator_optimizer.learning_rate=1e-9"]
    assert "gray_images" in play(tmp_path / "a", 24_000, *PICTURES, *dcgan)


@pytest.mark.slow
@pytest.mark.usefixtures("hasty")
def test_a_generator_that_ignores_its_latents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator_that(monkeypatch, before=lambda latents: latents * 1e-3)
    run, rates = tmp_path / "run", [f"{player}_optimizer.learning_rate=1e-3" for player in PLAYERS]
    assert "constant_images" in play(run, 24_000, *PICTURES, *rates)
    generator = load_generator(run)
    fakes = generate(generator, sample_latents(1, range(100), generator.latent)).flatten(1).float()
    reals = Generated(size=16).open(CPU).images[:100].flatten(1).float()  # type: ignore[attr-defined]
    assert low_diversity(fakes, reals)


@pytest.mark.slow
@pytest.mark.usefixtures("hasty")
def test_a_generator_whose_images_have_a_checkerboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pattern = torch.tensor([[0.3, -0.3], [-0.3, 0.3]]).repeat(8, 8)
    generator_that(monkeypatch, after=lambda images: 0.7 * images + pattern)
    assert "checkerboard" in play(tmp_path / "a", 24_000, *PICTURES)


OBJECTIVES = [
    "objective.loss.name=non_saturating",
    "objective.loss.name=hinge",
    "objective.loss.name=least_squares",
    "objective={loss: {name: wasserstein}, penalties: [{name: wgan_gp}]}",
    "objective={loss: {name: relativistic}, penalties: [{name: r1}, {name: r2}]}",
]


@pytest.mark.slow
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_nothing_is_said_of_a_healthy_run(tmp_path: Path, objective: str) -> None:
    assert play(tmp_path / "a", 40_000, objective, "track.every=1600") == []
    assert not (tmp_path / "a/notes.jsonl").exists()


@pytest.mark.slow
def test_nothing_is_said_of_digits_that_are_learnt(tmp_path: Path, mnist: Path) -> None:
    """With the default learning rates, an MLP, and pictures that are looked at."""
    more = ["data={name: mnist}", "networks={name: mlp}", "track.every=6400", "sample.every=32000"]
    assert play(tmp_path / "a", 112_000, *more) == []


@pytest.mark.slow
def test_health_changes_nothing_and_can_be_turned_off(tmp_path: Path) -> None:
    assert play(tmp_path / "on", 24_000, *WEAK) == ["discriminator_too_weak"]
    assert play(tmp_path / "off", 24_000, *WEAK, "track.health=false") == []
    assert_same(newest(tmp_path / "on"), newest(tmp_path / "off"))


def test_a_note_that_a_run_goes_back_before_is_forgotten(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for images in (100, 200, 300):
        folder.note(images, f"kind_{images}", "text", "advice")
    with open(tmp_path / "notes.jsonl", "a") as file:
        file.write('{"images": 100, "kind"')
    folder.forget_after(200)
    assert [note["kind"] for note in folder.notes()] == ["kind_100", "kind_200"]
    folder.forget_after(-1)
    assert folder.notes() == []


def test_a_note_on_a_full_disk_is_written_with_the_next(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.note(1, "one", "text", "advice")
    (tmp_path / "run").mkdir()
    folder.append({"images": 1})
    assert folder.notes() == []
    folder.note(2, "two", "text", "advice")
    assert [note["kind"] for note in folder.notes()] == ["one", "two"]
