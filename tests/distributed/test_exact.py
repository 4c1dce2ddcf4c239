"""`exact`: the same bits on any number of processes, whether it changes on the way or not."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from dist_gan.distributed.exact_sum import FixedPointSum
from dist_gan.distributed.processes import Processes
from dist_gan.run import checkpoint
from tests.support.commands import command, train
from tests.support.runs import SMALL, SMALL_DCGAN

PENALTIES = "objective.penalties=[{name: r1, every: 96}, {name: r2}, {name: wgan_gp, weight: 2}]"
EXACT = ["exact=true", "batch_size=48", "microbatch=8", "generator_optimizer.clip=1", PENALTIES]
CASES = {
    "mlp with dropout": SMALL,
    "dcgan with flips and augmentation": [
        *SMALL_DCGAN,
        "networks.group=8",
        "data.flip=true",
        "augment.name=diffaugment",
    ],
}


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(False)


def hashes(run: Path) -> dict[str, str]:
    """SHA-256 of every file of tensors in the newest checkpoint."""
    manifest = json.loads((checkpoint.existing(run / "checkpoints")[-1] / "manifest.json").read_text())
    return {file: facts["sha256"] for file, facts in manifest["files"].items() if file.endswith(".safetensors")}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_one_then_three_then_two_processes_end_as_one_that_never_stopped(tmp_path: Path, case: str) -> None:
    options = [*CASES[case], *EXACT, "track.wandb=disabled"]
    assert train.main([*options, f"run={tmp_path}/whole", "images=576"]) == 0
    assert train.main([*options, f"run={tmp_path}/parts", "images=144"]) == 0
    for ranks, images in ((3, 384), (2, 576)):
        done = command("-m", "dist_gan.train", *options, f"run={tmp_path}/parts", f"images={images}", ranks=ranks)
        assert done.returncode == 0, done.stderr[-3000:]
    whole = hashes(tmp_path / "whole")
    members = ("generator", "discriminator", "ema", "generator_optimizer", "discriminator_optimizer")
    assert whole.keys() >= {f"{member}.safetensors" for member in members}
    assert hashes(tmp_path / "parts") == whole


def test_the_microbatch_belongs_to_an_exact_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    options = [*SMALL, "exact=true", f"run={tmp_path}/a"]
    assert train.main([*options, "images=640"]) == 0
    assert train.main([*options, "images=1280", "microbatch=32"]) == 2
    assert "microbatch: 16 in the run, 32 now" in capfd.readouterr().err
    assert train.main([*options, "images=1280", "microbatch=16"]) == 0


def test_the_order_of_the_terms_does_not_matter_and_little_is_lost() -> None:
    processes = Processes(exact=True)
    generator = torch.Generator().manual_seed(0)
    terms = [torch.randn(1000, generator=generator) * 10.0 ** torch.randint(-6, 3, (1000,)) for _ in range(8)]
    sums = []
    for order in (terms, terms[::-1]):
        total = FixedPointSum(processes, 8, 1000)
        for term in order:
            total.add([term.view(10, 100)])
        sums.append(total.result(1000))
    assert torch.equal(*sums)
    truth = torch.stack(terms).double().sum(0)
    assert torch.equal(sums[0], truth.float()), "the sum is rounded once"


@pytest.mark.parametrize("size", [0.0, 1e-45, 1e-30, 1.0, 3e38])
def test_any_magnitude_fits(size: float) -> None:
    total = FixedPointSum(Processes(exact=True), 3, 10)
    for sign in (1, 1, -1):
        total.add([torch.full((4,), sign * size)])
    assert total.result(4).tolist() == torch.full((4,), size).tolist()


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_found(wrong: float) -> None:
    total = FixedPointSum(Processes(exact=True), 2, 10)
    total.add([torch.tensor([1.0, wrong])])
    total.add([torch.tensor([1.0, 2.0])])
    assert total.result(2).isnan().all()
    for _ in range(2):
        total.add([torch.ones(2)])
    assert total.result(2).tolist() == [2, 2], "and forgotten"
