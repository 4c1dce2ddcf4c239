"""The doctor: what it tells of a run before it begins, and that it leaves everything as it was."""

import dataclasses
import os
import re
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from dist_gan.checkup import disk, machine, services
from dist_gan.config.schema import Track
from dist_gan.data.fetch import fetch
from dist_gan.data.published import MNIST
from dist_gan.distributed.processes import Processes
from dist_gan.run import checkpoint
from dist_gan.run.folder import RunFolder
from dist_gan.run.tracker import wandb_note
from tests.support.children import finished
from tests.support.commands import ROOT, doctor
from tests.support.runs import SMALL, run


class Told:
    """What it printed: name -> (mark, what was found), and the text of "What to do"."""

    def __init__(self, code: int, out: str) -> None:
        self.code = code
        self.text = out
        found, _, self.advice = out.partition("What to do")
        rows = re.findall(r"^(\S.{9})  (ok|advice|problem|-) +(.*)$", found, re.MULTILINE)
        self.rows = {name.strip(): (mark, text.strip()) for name, mark, text in rows}

    def unwell(self) -> dict[str, str]:
        return {name: mark for name, (mark, _) in self.rows.items() if mark not in ("ok", "-")}


@pytest.fixture
def examine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """The doctor on a small config, in this process; whatever it says, it leaves the folder as it was."""

    def call(*arguments: str) -> Told:
        before = everything(tmp_path)
        code = doctor.main([*SMALL, f"run={tmp_path}/a", "images=1000000", *arguments])
        assert everything(tmp_path) == before, "nothing is created or changed"
        return Told(code, capsys.readouterr().out)

    return call


def everything(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): (path.stat().st_ino, 0 if path.is_dir() else path.stat().st_mtime_ns) for path in folder.rglob("*")
    }


def test_a_healthy_run(examine: Any) -> None:
    told = examine()
    assert (told.code, told.unwell()) == (0, {}), told.text
    assert list(told.rows) == [
        *("world", "packages", "device", "config", "plan", "data", "memory", "run folder", "start", "room", "speed"),
        *("reading", "W&B"),
    ]
    assert told.rows["world"][1].startswith("1 process: 1 on ")
    assert f"torch {torch.__version__}" in told.rows["packages"][1]
    assert told.rows["data"][1] == "generated: 1,024 images of 1x8x8"
    assert told.rows["start"][1] == "a new run"
    assert "all 1,000,000 images in " in told.rows["speed"][1]
    assert told.text.endswith("This run would work.\n")


def test_wrong_values_are_told_and_the_machine_still_is(examine: Any) -> None:
    told = examine("seed=-1", "batchsize=3")
    assert (told.code, told.unwell()) == (2, {"config": "problem"})
    assert "did you mean batch_size?" in told.advice
    assert "seed: expected" in told.advice
    assert {"packages", "device"} < set(told.rows)


def test_a_batch_that_cannot_be_split(examine: Any) -> None:
    told = examine("batch_size=10", "microbatch=4")
    assert (told.code, told.unwell()) == (2, {"plan": "problem"})
    assert "batch_size: 10 cannot be split" in told.advice
    assert told.rows["memory"] == ("-", "not examined: see plan")
    assert told.rows["run folder"][0] == "ok", "what does not depend on it is told"


def test_what_a_launcher_may_not_ask_for(examine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    told = examine()
    assert (told.code, told.unwell()) == (2, {"plan": "problem"})
    assert "ACCELERATE_USE_DEEPSPEED is set" in told.advice


def test_data_that_is_not_there_is_not_fetched(examine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "none").mkdir()
    monkeypatch.setenv("DIST_GAN_DATA", str(tmp_path / "none"))
    for name in ("mnist", "fashion_mnist", "cifar10"):
        told = examine(f"data={{name: {name}}}")
        assert (told.code, told.unwell()) == (2, {"data": "problem"}), told.text
        assert f"python -m dist_gan.data {name}`" in told.advice
        assert told.rows["speed"][0] == "ok", "images of its shape are made up"
    told = examine(f"data={{name: folder, path: {tmp_path}/none}}")
    assert told.unwell() == {"data": "problem"}
    assert "no image below" in told.rows["data"][1]


def test_training_still_fetches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the doctor forbids itself is allowed again after it."""
    monkeypatch.setenv("DIST_GAN_DATA", str(tmp_path / "none"))
    doctor.main([*SMALL, f"run={tmp_path}/a", "data={name: mnist}"])
    ways = {"nothing": lambda wanted, folder: folder}
    with pytest.raises(Exception, match="could not be fetched"):
        fetch(dataclasses.replace(MNIST, ways=ways))


def test_no_memory(examine: Any) -> None:
    told = examine("networks.width=100000000", "batch_size=64")
    assert (told.code, told.unwell()) == (2, {"memory": "problem"})
    assert re.search(r"not enough: \d+ .B more were needed at once", told.rows["memory"][1])
    assert "microbatch=32 (now 64)" in told.advice
    assert "speed" not in told.rows


def test_little_memory(examine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dist_gan.checkup.rehearsal._available", lambda *_: 10**8)
    told = examine()
    assert (told.code, told.unwell()) == (0, {"memory": "advice"})


def test_a_folder_that_cannot_be_used(examine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = examine("run=/proc/a")
    assert (told.code, told.unwell()) == (2, {"run folder": "problem"})
    assert told.rows["start"] == ("-", "not examined: see run folder")
    (tmp_path / "file").touch()
    assert "is a file" in examine(f"run={tmp_path}/file").rows["run folder"][1]

    def no_locks(*_: Any) -> None:
        raise OSError(37, "No locks available")

    with monkeypatch.context() as here:
        here.setattr(disk.fcntl, "flock", no_locks)
        assert "file locks do not work" in examine().rows["run folder"][1]


def test_a_full_disk(examine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    told = examine("save={keep: 3, keep_every: 1000}")
    size = re.search(r"checkpoints of (\S+) kB: at most 1,004 \(keep 3, 1,000 of keep_every", told.rows["room"][1])
    assert size, told.text
    with monkeypatch.context() as here:
        here.setattr(disk.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, 3000 * float(size[1])))  # type: ignore[attr-defined]
        told = examine()
        assert (told.code, told.unwell()) == (2, {"room": "problem"}), told.text

    def full(*_: Any) -> None:
        raise OSError(122, "Disk quota exceeded")

    monkeypatch.setattr(disk.os, "fsync", full)
    told = examine()
    assert (told.code, told.unwell()) == (2, {"run folder": "problem"})
    assert "(Disk quota exceeded)" in told.rows["run folder"][1]


def test_what_is_in_the_folder(examine: Any, tmp_path: Path) -> None:
    assert run(tmp_path / "a", 2560) == 0
    told = examine()
    assert (told.code, told.unwell()) == (0, {})
    assert told.rows["start"][1].startswith("goes on from 2,560 images")
    assert "the 997,440 images that are left" in told.rows["speed"][1]
    told = examine("images=2560")
    assert told.unwell() == {"start": "advice"}
    assert told.rows["speed"][1].endswith(": the run is finished")

    told = examine("seed=5")
    assert (told.code, told.unwell()) == (2, {"start": "problem"})
    assert "seed: 0 in the run, 5 now" in told.advice
    assert examine("data.count=2000", "data.name=generated").unwell() == {"start": "problem"}
    assert "resume=never" in examine("resume=never").text

    newest, older = reversed(checkpoint.existing(tmp_path / "a" / "checkpoints"))
    (newest / "ema.safetensors").write_bytes(b"")
    told = examine()
    assert (told.code, told.unwell()) == (0, {"start": "advice"})
    assert told.rows["start"][1].startswith("goes on from 1,280 images")
    (older / "manifest.json").unlink()
    told = examine()
    assert (told.code, told.unwell()) == (2, {"start": "problem"})
    assert "none of the checkpoints" in told.rows["start"][1]


def test_a_folder_that_another_job_holds(examine: Any, tmp_path: Path) -> None:
    holder = RunFolder(tmp_path / "a")
    holder.hold()
    told = examine()
    assert (told.code, told.unwell()) == (2, {"start": "problem"})
    assert f"another job trains in {tmp_path}/a: host {socket.gethostname()}" in told.rows["start"][1]
    holder.release()
    again = RunFolder(tmp_path / "a")
    assert again.holder() == ""
    again.hold()


def test_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "online")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert services.wandb(Track(), folder).found.endswith("which answers")
    assert "cannot be reached" in services.wandb(Track(), folder).found
    assert services.wandb(Track(), folder).mark.name == "ADVICE"
    assert services.wandb(Track(wandb="disabled"), folder).found == "disabled"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert services.wandb(Track(), folder).found.startswith("offline")
    assert f"`wandb sync {tmp_path}/wandb/offline-run-*-*` sends it later" in services.wandb(Track(), folder).found
    folder.status("stopped", wandb=wandb_note(folder, "abc"))
    assert f"`wandb sync {tmp_path}/wandb/offline-run-*-abc*` sends it later" in services.wandb(Track(), folder).found
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", "/nowhere")
    assert services.wandb(Track(wandb="online"), folder).found == "online, without an API key"


def test_slurm(examine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    scontrol = tmp_path / "scontrol"
    scontrol.write_text('#!/bin/sh\n[ "$*" = "show job 7" ] && echo "JobId=7 TimeLimit=1-00:00:00 Requeue=$ANSWER"\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("ANSWER", "1")
    assert examine().rows["SLURM"] == ("ok", "job 7, time limit 1-00:00:00, may be requeued")
    monkeypatch.setenv("ANSWER", "0")
    told = examine()
    assert (told.code, told.unwell()) == (0, {"SLURM": "advice"})
    assert "sbatch --requeue" in told.advice


def test_gpus(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one: what torch would answer on a node with two."""
    linked = True
    answers: dict[str, Any] = {
        "device_count": lambda: 2,
        "get_device_name": lambda _: "NVIDIA X",
        "get_device_properties": lambda _: type("P", (), {"total_memory": 80 * 10**9}),
        "can_device_access_peer": lambda a, b: linked,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    two = processes.alone()
    two.device, two.count = torch.device("cuda", 0), 2
    assert machine.device(two, 2).found.startswith("2 x NVIDIA X (80 GB); CUDA ")
    assert machine.device(two, 2).found.endswith("; all linked directly")
    linked = False
    assert machine.device(two, 2).mark.name == "ADVICE"
    assert "without a direct link: 0-1" in machine.device(two, 2).found


def test_more_threads_than_cores(processes: Processes) -> None:
    told = machine.device(processes, 1000)
    assert told.mark.name == "ADVICE"
    assert "OMP_NUM_THREADS=1" in told.advice


@pytest.mark.slow
def test_the_command_from_a_plain_clone(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "dist_gan", tmp_path / "dist_gan", ignore=shutil.ignore_patterns("__pycache__"))
    env = {**os.environ, "PYTHONPATH": "", "PYTHONDONTWRITEBYTECODE": "1"}
    probe = [sys.executable, "dist_gan/doctor.py", *SMALL, "images=1280"]
    told = finished(probe, cwd=tmp_path, timeout=120, env=env)
    assert told.returncode == 0, told.stdout + told.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["dist_gan"]


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main(["--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: python -m dist_gan.doctor [CONFIG.yaml]")
