"""Where metrics go: one W&B run for all parts of a run's folder, online and offline; TensorBoard's steps."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dist_gan.run import checkpoint
from dist_gan.run import tracker as tracking
from tests.support.commands import ROOT
from tests.support.runs import SMALL, newest, run
from tests.support.wandb_server import wandb_server

WITH_WANDB = [*(option for option in SMALL if "wandb" not in option), "track.project=faces"]
PATIENCE = 120.0
"""Seconds for W&B to start and finish, where a loaded machine shall not lose what is looked for."""
needs_wandb = pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed")


def shell(command: str, env: dict[str, str], cwd: Path) -> None:
    """As a user types it, with this Python's `wandb`, and nothing of this process's own W&B."""
    plain = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, shell=True, cwd=cwd, env={**plain, **env, "PATH": path}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


def online_train(env: dict[str, str], *options: str) -> str:
    plain = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    patient = f"import sys; from dist_gan.run import tracker; tracker.SERVICE_SECONDS = {PATIENCE}; "
    patient += "from dist_gan.train import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", patient, *WITH_WANDB, *options],
        cwd=ROOT,
        env={**plain, **env, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_wandb
@pytest.mark.parametrize("counts", [True, False])
def test_the_printed_command_uploads_all_parts_in_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, counts: bool
) -> None:
    monkeypatch.setattr(tracking, "SERVICE_SECONDS", PATIENCE)
    folder = tmp_path / "it's a run"
    for images in (1280, 2560, 3840):
        assert run(folder, images, small=WITH_WANDB) == 0
    out = capsys.readouterr().out
    assert "W&B offline, project faces, run " in out
    commands = re.findall("to upload all of it to W&B: (.*)", out)
    assert len(commands) == 3
    assert len(set(commands)) == 1
    with wandb_server(counts=counts) as server:
        shell(commands[0], server.environment, tmp_path)
        number = newest(folder).state["wandb"]
        assert list(server.history) == [number]
        assert server.images(number) == [640, 1280, 1920, 2560, 3200, 3840]
        assert server.images(number, "samples") == [0, 1280, 2560, 3840]
        assert run(folder, 5120, small=WITH_WANDB) == 0
        shell(commands[0], server.environment, tmp_path)  # what is there already is not sent again
        assert server.images(number) == list(range(640, 5121, 640))


@needs_wandb
def test_online_one_run_goes_on_with_its_facts(tmp_path: Path) -> None:
    more = ["track={group: g1, tags: [a, b], notes: two words, every: 640, project: faces}", f"run={tmp_path}/r"]
    with wandb_server() as server:
        out = online_train(server.environment, "images=1280", *more)
        number = newest(tmp_path / "r").state["wandb"]
        assert f"W&B online, project faces, run {number}" in out
        assert f"W&B: {server.url}/someone/faces/runs/{number}" in out
        assert "to send" not in out
        online_train(server.environment, "images=2560", "batch_size=64", *more)
        assert server.images(number) == [640, 1280, 1920, 2560]
        made = server.runs[number]
    assert (made["groupName"], made["tags"], made["notes"]) == ("g1", ["a", "b"], "two words")
    config: dict[str, Any] = json.loads(made["config"])
    facts = config["facts"]["value"]
    assert config["images"]["value"] == 2560
    assert facts["data_images"] == 1024
    assert facts["processes"] == 1
    assert facts["device"].startswith("CPU")
    assert set(facts["parameters"]) == {"G", "D"}
    assert set(facts["versions"]) == {"dist_gan", "torch", "python"}


def wandb_id(folder: Path) -> str:
    return str(newest(folder).state["wandb"])


def test_a_copied_folder_is_another_wandb_run_and_a_moved_one_is_not(tmp_path: Path) -> None:
    assert run(tmp_path / "a", 640) == 0
    first = wandb_id(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    assert run(tmp_path / "copy", 1280) == 0
    assert wandb_id(tmp_path / "copy") != first
    assert run(tmp_path / "a", 1280) == 0
    assert wandb_id(tmp_path / "a") == first
    (tmp_path / "a").rename(tmp_path / "moved")
    assert run(tmp_path / "moved", 1920) == 0
    assert wandb_id(tmp_path / "moved") == first
    (parent,) = checkpoint.existing(tmp_path / "copy" / "checkpoints")[-1:]
    assert run(tmp_path / "begun", 1920, f"resume={parent}") == 0
    assert wandb_id(tmp_path / "begun") not in (first, wandb_id(tmp_path / "copy"))


def test_status_and_checkpoints_know_what_was_trained_on(tmp_path: Path) -> None:
    assert run(tmp_path, 640) == 0
    state = newest(tmp_path).state
    assert state["data_images"] == json.loads((tmp_path / "status.json").read_text())["data_images"] == 1024
    assert state["device"].startswith("CPU")
    assert state["parameters"]["G"] > 0


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="tensorboard is not installed")
def test_tensorboards_steps_never_go_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is killed has logged more than its last checkpoint knows."""
    monkeypatch.setattr(tracking, "SERVICE_SECONDS", PATIENCE)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

    more = ("track.tensorboard=true", "track.every=64")
    assert run(tmp_path, 1920, *more) == 0
    shutil.rmtree(checkpoint.existing(tmp_path / "checkpoints")[-1])  # 1,280 is left
    assert run(tmp_path, 2560, *more) == 0
    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    assert [event.step for event in found.Scalars("D/loss")] == list(range(64, 2561, 64))
