"""Runs: what they leave behind, how they stop, go on and fail."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dist_gan.run import checkpoint
from tests.support.children import child
from tests.support.commands import ROOT, command, last_metrics, train
from tests.support.launched import assert_nothing_left
from tests.support.runs import SMALL, SMALL_DCGAN, assert_same, newest, run, wait_for


def test_a_run_leaves_what_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "a", 3200) == 0
    out = capsys.readouterr().out
    for fact in ("1 process, batch 64 = 1 x 64", "mlp: G", "generated: 1,024 images of 1x8x8", "finished", "samples"):
        assert fact in out
    names = sorted(path.relative_to(tmp_path / "a").as_posix() for path in (tmp_path / "a").rglob("*.png"))
    assert names == [f"samples/{n:012d}.png" for n in (0, 1280, 2560, 3200)] + ["samples/real.png"]
    lines = [json.loads(line) for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()]
    assert [line["images"] for line in lines] == [640, 1280, 1920, 2560, 3200]
    expected = {
        "images", "D/loss", "G/loss", "D/real_logit", "D/fake_logit", "D/accuracy", "D/gradient_norm",
        "G/gradient_norm", "D/skipped", "G/skipped", "D/penalty", "images_per_second", "seconds_waiting_for_data",
        "peak_memory_mib", "D/learning_rate", "G/learning_rate", "EMA/half_life_images",
    }  # fmt: skip
    assert set(lines[0]) == expected
    assert all(isinstance(value, int | float) for line in lines for value in line.values())
    assert 0 <= lines[-1]["D/accuracy"] <= 1
    status = json.loads((tmp_path / "a" / "status.json").read_text())
    assert (status["state"], status["images_seen"]) == ("finished", 3200)
    assert [path.name for path in checkpoint.existing(tmp_path / "a" / "checkpoints")] == [
        "images-000000002560",
        "images-000000003200",
    ]


@pytest.mark.parametrize("small", [SMALL, SMALL_DCGAN], ids=["mlp with dropout", "dcgan"])
@pytest.mark.parametrize("penalties", ["[]", "[{name: wgan_gp, every: 192}, {name: r1}]"])
def test_resumed_is_bitwise_never_stopped(tmp_path: Path, small: list[str], penalties: str) -> None:
    """Weights, optimizers and average, after stops at arbitrary points, at other cadences of everything else."""
    game = [f"objective.penalties={penalties}", "discriminator_turns=2", "augment.name=diffaugment"]
    assert run(tmp_path / "whole", 2560, *game, small=small) == 0
    for images in (384, 1408, 2560):
        cadence = [f"track.every={images // 3}", f"sample.every={images // 2}", "save.every=100000"]
        assert run(tmp_path / "parts", images, *game, *cadence, small=small) == 0
    assert_same(newest(tmp_path / "whole"), newest(tmp_path / "parts"))
    assert_same(newest(tmp_path / "parts"), newest(tmp_path / "whole"))
    lines = [json.loads(line)["images"] for line in (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()]
    assert lines == sorted(set(lines))


def test_a_picture_that_the_disk_does_not_take_ends_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = tmp_path / "a" / "samples"
    samples.mkdir(parents=True)
    (samples / ".000000001280.png.tmp").symlink_to("/dev/full")
    assert run(tmp_path / "a", 2560) == 0
    assert sorted(path.name for path in samples.iterdir()) == ["000000000000.png", "000000002560.png", "real.png"]
    assert capsys.readouterr().out.count("000000001280.png was not written (No space left on device)") == 1


@pytest.mark.parametrize("small", [SMALL, SMALL_DCGAN], ids=["mlp", "dcgan"])
def test_watching_a_run_does_not_change_it(tmp_path: Path, small: list[str]) -> None:
    """Metrics, pictures, checkpoints and trackers, all at every update or none at all."""
    busy = ["track={every: 64, tensorboard: true, wandb: offline}", "sample={every: 64, count: 5}", "save.every=64"]
    quiet = ["track.every=1000000", "sample={every: 1000000, count: 64}", "save.every=1000000"]
    assert run(tmp_path / "busy", 1280, *busy, small=small) == 0
    assert run(tmp_path / "quiet", 1280, *quiet, small=small) == 0
    assert_same(newest(tmp_path / "busy"), newest(tmp_path / "quiet"))


def test_seeds_differ(tmp_path: Path) -> None:
    for seed in (0, 1):
        assert run(tmp_path / f"{seed}", 128, f"seed={seed}") == 0
    with pytest.raises(AssertionError):
        assert_same(newest(tmp_path / "0"), newest(tmp_path / "1"))


def test_a_resume_with_another_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "a", 640) == 0
    before = sorted((tmp_path / "a").rglob("*"))
    assert run(tmp_path / "a", 1280, "networks.width=8", "seed=3") == 2
    error = capsys.readouterr().err
    for part in ("seed: 0 in the run, 3 now", "networks.width: 4 in the run, 8 now", "run=..."):
        assert part in error
    assert "Traceback" not in error
    assert run(tmp_path / "a", 1280, "data.count=999") == 2
    assert run(tmp_path / "a", 1280, "resume=never") == 2
    assert "resume=never" in capsys.readouterr().err
    assert sorted((tmp_path / "a").rglob("*")) == before
    assert run(tmp_path / "a", 640) == 0
    assert "has seen all of its 640 images" in capsys.readouterr().out


def test_begin_from_another_runs_checkpoint(tmp_path: Path) -> None:
    assert run(tmp_path / "a", 640) == 0
    assert run(tmp_path / "whole", 1280) == 0
    start = checkpoint.existing(tmp_path / "a" / "checkpoints")[-1]
    assert run(tmp_path / "b", 1280, f"resume={start}") == 0
    assert_same(newest(tmp_path / "b"), newest(tmp_path / "whole"))
    assert run(tmp_path / "c", 1280, f"resume={tmp_path}/nothing") == 2
    assert not (tmp_path / "c").exists()


def test_a_damaged_checkpoint_falls_back_and_none_left_is_exit_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "a", 2560) == 0
    assert run(tmp_path / "whole", 3840) == 0
    (checkpoint.existing(tmp_path / "a" / "checkpoints")[-1] / "ema.safetensors").unlink()
    assert run(tmp_path / "a", 3840) == 0
    out = capsys.readouterr().out
    assert "ema.safetensors" in out
    assert "going on from 1,280" in out
    assert_same(newest(tmp_path / "a"), newest(tmp_path / "whole"))
    for path in checkpoint.existing(tmp_path / "a" / "checkpoints"):
        (path / "manifest.json").unlink()
    assert run(tmp_path / "a", 5120) == 3
    assert "none of the checkpoints" in capsys.readouterr().err
    assert json.loads((tmp_path / "a" / "status.json").read_text())["exit_code"] == 3


BAD: list[tuple[list[str], str]] = [
    (["batchsize=1"], "did you mean batch_size?"),
    (["precision=fp16"], "fp16 needs a GPU"),
    (["networks.name=dcgan", "data={name: mnist, size: 28}"], "makes images of 32x32 or 16x16"),
    (["microbatch=7"], "cannot be split"),
    (["data={name: folder, path: /nowhere/at/all}"], "is not a folder"),
    (["data.count=10"], "10 images are fewer than one batch of 64"),
    (["processes=2"], "the launcher started 1"),
    (["run=/proc/nothing/here"], "cannot write in /proc"),
    (["run=/dev/null"], "is a file"),
]


@pytest.mark.parametrize(("bad", "expected"), BAD, ids=lambda x: str(x)[:30])
def test_bad_input_is_one_message_and_exit_code_2(
    tmp_path: Path, bad: list[str], expected: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train.main([*SMALL, "run=out/run", "images=640", *bad]) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.startswith("dist_gan: ")
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == [], "nothing is created"


@pytest.mark.slow
def test_bad_input_on_two_ranks_is_reported_once(tmp_path: Path) -> None:
    done = command(
        "dist_gan/train.py", "data={name: folder, path: /nowhere}", f"run={tmp_path}/a", ranks=2,
    )  # fmt: skip
    assert done.returncode != 0
    assert done.stderr.count("/nowhere is not a folder") == 1
    assert done.stderr.count("dist_gan: ") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_an_error_of_one_rank_is_reported_once_with_its_cause(tmp_path: Path) -> None:
    done = command(
        "-m", "tests.support.poisoned", *SMALL, f"run={tmp_path}/a", "images=64000", ranks=2, env={"POISON": "raise"}
    )
    assert done.returncode != 0
    assert done.stderr.count("RuntimeError: poison on rank 1") == 1, done.stderr
    assert done.stderr.count("dist_gan (rank 1): poison on rank 1") == 1
    assert done.stderr.count("Traceback (most recent call last)") <= 2  # ours, and the launcher's
    assert "Connection closed" not in done.stderr
    status = json.loads((tmp_path / "a" / "status.json").read_text())
    assert (status["state"], status["rank"]) == ("failed", 1)
    assert "poison" in status["reason"]
    assert_nothing_left(tmp_path / "a")


def test_a_second_job_on_the_same_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with child(
        [sys.executable, "-m", "dist_gan.train", *SMALL, f"run={tmp_path}/a", "images=100000000"],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as first:  # fmt: skip
        wait_for((tmp_path / "a" / "metrics.jsonl").exists)
        assert run(tmp_path / "a", 640) == 2
        assert f"pid {first.pid}" in capsys.readouterr().err
        assert json.loads((tmp_path / "a" / "status.json").read_text())["state"] == "running"
    assert run(tmp_path / "a", 640) == 0, "a dead holder's lock is free"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "count"), [(signal.SIGTERM, 1), (signal.SIGUSR1, 1), (signal.SIGINT, 1), (signal.SIGUSR1, 2)]
)
def test_signals_stop_cleanly_and_the_same_command_goes_on(tmp_path: Path, number: int, count: int) -> None:
    """Finished update, saved, exit code 0; then bitwise as if nothing had happened."""
    launch = [sys.executable] if count == 1 else [sys.executable, "-m", "tests.support.two_ranks"]
    with child(
        [*launch, "-m", "dist_gan.train", *SMALL, f"run={tmp_path}/a", "images=100000000", "save.every=100000000"],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        wait_for((tmp_path / "a" / "metrics.jsonl").exists)
        process.send_signal(number)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out
    assert f"stopped by {'Ctrl-C' if number == signal.SIGINT else signal.Signals(number).name}\n" in out
    assert re.search(r"CPU, (1 thread|\d+ threads) a process", out)
    status = json.loads((tmp_path / "a" / "status.json").read_text())
    assert status["state"] == "stopped"
    stopped = status["images_seen"]
    assert newest(tmp_path / "a").state["images_seen"] == stopped > 0
    if count == 1:
        assert run(tmp_path / "a", stopped + 640) == 0
        assert run(tmp_path / "whole", stopped + 640) == 0
        assert_same(newest(tmp_path / "a"), newest(tmp_path / "whole"))


def test_non_finite_gradients_are_skipped_and_then_end_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "dist_gan.objective.losses.NonSaturating.discriminator", lambda self, real, fake: real * float("nan")
    )
    assert run(tmp_path / "a", 64_000) == 4
    assert "D's gradients were not finite in 20 turns" in capsys.readouterr().err
    status = json.loads((tmp_path / "a" / "status.json").read_text())
    assert (status["state"], status["exit_code"]) == ("failed", 4)
    assert last_metrics(tmp_path / "a")["D/skipped"] == 10


def test_precisions_on_a_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for precision in ("fp64", "tf32", "bf16"):
        assert run(tmp_path / precision, 256, f"precision={precision}", "objective.penalties=[{name: r1}]") == 0
    out = capsys.readouterr().out
    assert "warning: precision: bf16 on a CPU" in out
    assert "warning: precision: there is no TF32 on a CPU" in out
    assert newest(tmp_path / "fp64").tensors["generator"]["tower.layers.0.weight"].dtype == torch.float64
    assert newest(tmp_path / "bf16").tensors["generator"]["tower.layers.0.weight"].dtype == torch.float32


@pytest.mark.slow
def test_every_interpreter_gives_the_same_bits(tmp_path: Path) -> None:
    """The order of a set of strings differs between interpreters: it must not reach the order of a sum."""
    penalties = "objective.penalties=[{name: r1}, {name: r2}, {name: wgan_gp}]"
    for seed in ("1", "4"):
        arguments = ["-m", "dist_gan.train", *SMALL, penalties, f"run={tmp_path}/{seed}", "images=640"]
        done = command(*arguments, env={"PYTHONHASHSEED": seed})
        assert done.returncode == 0, done.stderr
    assert_same(newest(tmp_path / "1"), newest(tmp_path / "4"))
