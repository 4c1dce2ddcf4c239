"""The MLP GAN learns MNIST: a small classifier, trained here on real digits, finds all ten among the samples."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dist_gan.data import MNIST
from dist_gan.run import checkpoint
from dist_gan.run.restore import load_generator
from dist_gan.sampling.generate import generate, sample_latents
from tests.support.commands import train

IMAGES = 800_000
CONDITIONAL_IMAGES = 800_000
CPU = torch.device("cpu")


def classifier(images: Tensor, labels: Tensor) -> nn.Module:
    """One hidden layer, one pass over the data."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for index in torch.randperm(len(images), generator=generator).split(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[index].float() / 255), labels[index]).backward()
        optimizer.step()
    return model


@torch.no_grad()
def predictions(model: nn.Module, images: Tensor) -> Tensor:
    return torch.softmax(model(images.float() / 255), 1)


@pytest.mark.slow
def test_the_digits_are_digits(tmp_path: Path, mnist: Path) -> None:
    run = tmp_path / "run"
    arguments = [f"run={run}", f"images={IMAGES}", "track.wandb=disabled", "sample.every=10000000"]
    assert train.main(arguments) == 0
    generator = load_generator(checkpoint.existing(run / "checkpoints")[-1], "cpu")
    samples = generate(generator, sample_latents(1, range(2000), generator.latent))

    real = MNIST().open(CPU)
    model = classifier(real.images, real.labels)  # type: ignore[attr-defined]
    test = MNIST(split="test").open(CPU)
    accuracy = (predictions(model, test.images).argmax(1) == test.labels).float().mean()  # type: ignore[attr-defined]
    assert accuracy > 0.93, "the classifier is fit to judge"

    mean = samples.float().mean().item()
    assert 18 < mean < 45, f"pixel mean {mean}; real digits have 33.3"
    found = predictions(model, samples)
    shares = torch.bincount(found.argmax(1), minlength=10) / len(samples)
    assert shares.min() > 0.005, f"a digit is missing: {shares.tolist()}"
    assert shares.max() < 0.35, f"one digit is most of them: {shares.tolist()}"
    sure = (found.max(1).values > 0.5).float().mean().item()
    assert sure > 0.7, f"only {sure:.0%} look like any digit"

    noise = torch.randint(0, 256, (500, 1, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    shares = torch.bincount(predictions(model, noise).argmax(1), minlength=10) / 500
    assert shares.min() < 0.005, "noise must not pass this test"


@pytest.mark.slow
def test_the_digits_are_those_asked_for(tmp_path: Path, mnist: Path) -> None:
    """Of at least 9 of the 10 classes, 90% of the samples are what was asked for."""
    run = tmp_path / "run"
    arguments = [f"run={run}", f"images={CONDITIONAL_IMAGES}", "networks.conditional=true", "sample.every=10000000"]
    assert train.main([*arguments, "track.wandb=disabled"]) == 0
    generator = load_generator(run, "cpu")
    asked = torch.arange(10).repeat_interleave(200)
    samples = generate(generator, sample_latents(1, range(2000), generator.latent), asked)
    assert (fit(asked, samples) >= 0.9).sum() >= 9
    # Images that are not those that were asked for must not pass.
    assert (fit(asked.roll(200), samples) >= 0.9).sum() == 0


def fit(asked: Tensor, samples: Tensor) -> Tensor:
    """[10]: how many of each class's samples are what was asked for, as a part of all."""
    real = MNIST().open(CPU)
    model = classifier(real.images, real.labels)  # type: ignore[attr-defined]
    right = (predictions(model, samples).argmax(1) == asked).double()
    found = torch.stack([right[asked == label].mean() for label in range(10)])
    print("asked for and found:", " ".join(f"{value:.0%}" for value in found))
    return found


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU (make gpu)")
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_every_precision_trains_on_a_gpu(tmp_path: Path, precision: str) -> None:
    for recipe in (
        ["data={name: generated, size: 32}", "networks.name=dcgan"],
        ["data={name: generated, size: 28}", "objective.penalties=[{name: r1, every: 256}]"],
    ):
        run = tmp_path / f"{precision}-{recipe[0][-5:-1].strip()}-{recipe[1][:9]}"
        base = [*recipe, "track.wandb=disabled", f"precision={precision}", "track.every=640"]
        for name in ("a", "b"):
            assert train.main([*base, f"run={run}/{name}", "images=6400"]) == 0
        first, second = (checkpoint.read(checkpoint.existing(run / name / "checkpoints")[-1]) for name in ("a", "b"))
        assert all(t.isfinite().all() for own in first.tensors.values() for t in own.values())
        assert first.tensors.keys() == second.tensors.keys()
