"""What goes out: W&B offline by Accelerate's tracker, TensorBoard; a service that fails or hangs is left alone."""

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from dist_gan.config.schema import Track
from dist_gan.run import tracker as tracking
from dist_gan.run.folder import RunFolder
from dist_gan.run.tracker import Tracker
from tests.support.children import child, finished
from tests.support.commands import ROOT
from tests.support.runs import SMALL, newest, run, wait_for

WITH_WANDB = [option for option in SMALL if "wandb" not in option]
needs_wandb = pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed")


def offline_runs(folder: Path) -> list[Path]:
    return sorted((folder / "wandb").glob("offline-run-*/run-*.wandb"))


@needs_wandb
def test_wandb_offline_and_the_same_run_when_resumed(tmp_path: Path) -> None:
    for images in (1280, 2560):
        assert run(tmp_path / "a", images, small=WITH_WANDB) == 0
    found = offline_runs(tmp_path / "a")
    assert len(found) == 2
    number = newest(tmp_path / "a").state["wandb"]
    assert {path.name for path in found} == {f"run-{number}.wandb"}
    content = b"".join(path.read_bytes() for path in found)
    for key in (b"D/loss", b"G/gradient_norm", b"images", b"samples", b"learning_rate", b"batch_size"):
        assert key in content, key


def tracker(tmp_path: Path, warnings: list[str], **options: Any) -> Tracker:
    folder = RunFolder(tmp_path / "run")
    folder.hold()
    return Tracker(Track(**options), folder, {"seed": 1}, None, warnings.append)


class Failing:
    def __init__(self, *_: Any) -> None:
        pass

    def metrics(self, images_seen: int, metrics: dict[str, float]) -> None:
        raise RuntimeError("the server is gone\nand more")

    def finish(self) -> None:
        raise AssertionError("is not reached")


class Hanging(Failing):
    def metrics(self, images_seen: int, metrics: dict[str, float]) -> None:
        time.sleep(3)


def test_a_service_that_fails_is_reported_once_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "_WandB", Failing)
    monkeypatch.setattr(Tracker, "_installed", lambda *_, **__: True)
    warnings: list[str] = []
    out = tracker(tmp_path, warnings, wandb="offline")
    for images in range(5):
        out.metrics(images, {"D/loss": 1.0})
        time.sleep(0.05)
    assert out.close()
    assert warnings == ["W&B is not used any more (the server is gone); metrics.jsonl still gets everything"]
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 5


def test_a_service_that_hangs_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "_WandB", Hanging)
    monkeypatch.setattr(Tracker, "_installed", lambda *_, **__: True)
    monkeypatch.setattr(tracking, "SERVICE_SECONDS", 0.2)
    warnings: list[str] = []
    out = tracker(tmp_path, warnings, wandb="offline")
    begun = time.monotonic()
    for images in range(1500):  # more than the queue holds
        out.metrics(images, {"D/loss": 1.0})
    assert not out.close()
    assert any(thread.name == tracking.WANDB for thread in threading.enumerate()), "it is still busy"
    assert time.monotonic() - begun < 2.5
    assert len(warnings) == 1
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 1500


@pytest.mark.slow
@needs_wandb
def test_wandbs_process_killed(tmp_path: Path) -> None:
    """kill -9 of W&B's own process in the middle of a run: told once, trained to the end, ended in good time."""
    own_service = {key: value for key, value in os.environ.items() if key != "WANDB_SERVICE"}  # not this process's
    with child(
        [sys.executable, "-m", "dist_gan.train", *WITH_WANDB, f"run={tmp_path}/a", "images=10000000"],
        cwd=ROOT,
        env=own_service,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        wait_for(lambda: offline_runs(tmp_path / "a"))
        wait_for(lambda: cores_of(process.pid))
        for pid in cores_of(process.pid):
            os.kill(pid, signal.SIGKILL)
        lines = len((tmp_path / "a" / "metrics.jsonl").read_text().splitlines())
        wait_for(lambda: len((tmp_path / "a" / "metrics.jsonl").read_text().splitlines()) > lines + 20)
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
        took = time.monotonic() - begun
        wait_for(lambda: not cores_of(process.pid))
    assert process.returncode == 0, out
    assert took < 25
    assert out.count("W&B is not used any more") == 1
    assert json.loads((tmp_path / "a" / "status.json").read_text())["state"] == "stopped"


@pytest.mark.slow
@needs_wandb
@pytest.mark.skipif(os.geteuid() != 0, reason="a host without a network needs root")
def test_without_a_network_training_goes_on(tmp_path: Path) -> None:
    """W&B is to be online and there is no network at all: told once, nothing waits for it, nothing of it is left."""
    env = {key: value for key, value in os.environ.items() if key != "WANDB_SERVICE"}
    alone = ["unshare", "--net", sys.executable, "-m", "dist_gan.train"]
    more = [*SMALL, f"run={tmp_path}/a", "images=64000", "track.wandb=online"]
    with child(
        [*alone, *more],
        cwd=ROOT,
        env={**env, "WANDB_MODE": "online", "WANDB_API_KEY": "a" * 40},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        out, _ = process.communicate(timeout=120)
        wait_for(lambda: not cores_of(process.pid))
    assert process.returncode == 0, out
    assert out.count("W&B is not used any more") == 1, out
    assert json.loads((tmp_path / "a" / "status.json").read_text())["state"] == "finished"


def cores_of(pid: int) -> list[int]:
    """W&B's own processes that serve `pid`; they are no children of it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = entry.read_text().split("\0")
            if "wandb-core" in words[0] and str(pid) in words:
                found.append(int(entry.parent.name))
    return found


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="tensorboard is not installed")
def test_tensorboard(tmp_path: Path) -> None:
    assert run(tmp_path / "a", 1280, "track.tensorboard=true") == 0
    (events,) = (tmp_path / "a").rglob("events.out.tfevents*")
    content = events.read_bytes()
    for key in (b"D/loss", b"G/loss", b"samples", b"images_per_second"):
        assert key in content


@pytest.mark.slow
def test_without_wandb_the_project_runs(tmp_path: Path) -> None:
    """As on a machine where it is not installed."""
    hidden = "import sys; sys.modules['wandb'] = None; import importlib.util as u; f = u.find_spec;"
    hidden += "u.find_spec = lambda n, *a: None if n == 'wandb' else f(n, *a);"
    hidden += "from dist_gan.train import main; sys.exit(main(sys.argv[1:]))"
    for choice, warned in (("auto", 0), ("offline", 1)):
        options = [*WITH_WANDB, f"run={tmp_path}/{choice}", "images=640", f"track.wandb={choice}"]
        done = finished([sys.executable, "-c", hidden, *options], cwd=ROOT, timeout=120)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("wandb is not installed") == warned


def test_online_only_with_a_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    assert tracking._wandb_mode() == "offline"
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password 0123\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert tracking._wandb_mode() == "online"
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setenv("WANDB_API_KEY", "x")
    assert tracking._wandb_mode() == "online"
