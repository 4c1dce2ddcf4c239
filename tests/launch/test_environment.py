"""A run is the same whatever Accelerate's environment and config file say, or it is refused."""

import os
from pathlib import Path

import pytest

from dist_gan.distributed.launch import check_launch, has_gpu, launch_plainly
from tests.support.commands import ROOT, command, doctor, train
from tests.support.runs import SMALL, assert_same, newest

REFUSED = {
    "ACCELERATE_USE_DEEPSPEED": "true",
    "ACCELERATE_USE_FSDP": "1",
    "ACCELERATE_USE_MEGATRON_LM": "True",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "yes",
    "ACCELERATE_DYNAMO_BACKEND": "INDUCTOR",
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4",
    "ACCELERATE_TORCH_DEVICE": "cuda:1",
    "ACCELERATE_FP8_BACKEND": "TE",
}
HARMLESS = {
    "ACCELERATE_MIXED_PRECISION": "bf16",
    "ACCELERATE_DOWNCAST_BF16": "true",
    "ACCELERATE_FP8_OPT_LEVEL": "O3",
    "ACCELERATE_GRADIENT_CLIPPING": "0.001",
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "1",
    "ACCELERATE_DYNAMO_BACKEND": "no",
    "ACCELERATE_USE_FSDP": "false",
    "ACCELERATE_SPLIT_BATCHES": "true",
    "FSDP_VERSION": "2",
    "PARALLELISM_CONFIG_TP_SIZE": "2",
}


@pytest.mark.parametrize("name", [name for name in REFUSED if "_USE_" not in name])
def test_what_accelerate_cannot_read_is_refused_too(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "")
    assert [name in mistake for mistake in check_launch("fp32")] == [True]


@pytest.mark.skipif(has_gpu(), reason="this process has a GPU")
def test_a_graph_needs_a_gpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main([*SMALL, f"run={tmp_path}/a", "speed=graph"]) == 2
    assert "speed: graph needs a GPU, and this process has none. Use speed=auto" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_change_the_gradient_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, REFUSED[name])
    assert train.main([*SMALL, f"run={tmp_path}/a", "images=64"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert name in error
    assert list(tmp_path.iterdir()) == []
    launch_plainly()
    assert check_launch("fp32") == []
    assert name not in os.environ


def test_the_doctor_says_so_and_looks_at_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    assert doctor.main([*SMALL, f"run={tmp_path}/a", "images=64"]) == 2
    out = " ".join(capsys.readouterr().out.split())
    assert "would divide every gradient by that number" in out
    assert "1 problem" in out


@pytest.mark.parametrize("value", ["true", "1", "YES", "on", "t", "y"])
def test_the_cpu_is_asked_for_in_all_the_ways_that_accelerate_takes(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setenv("ACCELERATE_USE_CPU", value)
    assert not has_gpu()
    monkeypatch.setenv("ACCELERATE_USE_CPU", "false")
    assert has_gpu()


@pytest.mark.slow
def test_the_rest_of_accelerates_environment_changes_nothing(tmp_path: Path) -> None:
    for name, env in (("plain", {}), ("other", HARMLESS)):
        done = command("dist_gan/train.py", *SMALL, f"run={tmp_path}/{name}", "images=640", env=env)
        assert done.returncode == 0, done.stderr
    assert_same(newest(tmp_path / "plain"), newest(tmp_path / "other"))


@pytest.mark.slow
def test_no_config_file_of_accelerates_changes_the_model(tmp_path: Path) -> None:
    """A file that `accelerate config` made for other work, one process."""
    file = tmp_path / "default_config.yaml"
    file.write_text(
        "compute_environment: LOCAL_MACHINE\ndistributed_type: 'NO'\nmixed_precision: bf16\nnum_machines: 1\n"
        "num_processes: 1\nuse_cpu: true\ndowncast_bf16: 'yes'\n"
    )
    launch = ["-m", "accelerate.commands.launch"]
    for name, config in (("plain", ROOT / "launch" / "one_process.yaml"), ("other", file)):
        arguments = [*launch, "--config_file", str(config), "dist_gan/train.py"]
        done = command(*arguments, *SMALL, f"run={tmp_path}/{name}", "images=640", env={"ACCELERATE_USE_CPU": "true"})
        assert done.returncode == 0, done.stderr
    assert_same(newest(tmp_path / "plain"), newest(tmp_path / "other"))
