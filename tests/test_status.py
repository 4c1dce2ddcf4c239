"""`python -m dist_gan.status`: from the files alone, while a run goes on, and of every way in which one ends."""

import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from dist_gan.run.folder import RunFolder
from tests.support.children import child, finished
from tests.support.commands import ROOT, status
from tests.support.launched import ENDLESS, saved
from tests.support.runs import run, wait_for


def told(capsys: pytest.CaptureFixture[str], *folders: object) -> tuple[int, str, str]:
    code = status.main([str(folder) for folder in folders])
    out, error = capsys.readouterr()
    return code, out, error


def row(folder: Path, now: float | None = None) -> dict[str, str]:
    return status.describe(RunFolder(folder), now or time.time())


@pytest.mark.slow
def test_while_it_runs_and_when_it_vanished(tmp_path: Path) -> None:
    more = ["save.every=6400", f"run={tmp_path}"]
    with child(
        [sys.executable, ROOT / "dist_gan/train.py", *ENDLESS, *more], stdout=subprocess.DEVNULL, cwd=tmp_path
    ) as process:
        saved(tmp_path)
        found = row(tmp_path)
        assert found["state"] == "running"
        assert found["images"].endswith(" of 100,000,000 (0%)")
        assert float(found["images/s"].replace(",", "")) > 0
        assert found["ends in"]
        assert found["last checkpoint"].endswith(" ago")
        assert found["why"] == ""
        process.kill()
        process.wait()
    assert row(tmp_path)["state"] == "running", "it may still be alive"
    later = row(tmp_path, time.time() + 3600)
    assert later["state"] == "vanished"
    assert later["why"] == "it said that it was running, but has not been heard of for 60 min"
    assert later["ends in"] == ""


def test_a_living_run_gives_a_sign_though_it_logs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dist_gan.distributed.watchdog.LIFE_SECONDS", 0.1)
    lock = tmp_path / "lock"
    signs: list[Path] = []
    monkeypatch.setattr("os.utime", signs.append)
    assert run(tmp_path, 64_000) == 0
    assert len(signs) > 1
    assert set(signs) == {lock}


def test_finished_failed_and_restarted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "runs/a", 1280) == 0
    assert run(tmp_path / "runs/b", 6400, "generator_optimizer.learning_rate=1e30", "track.every=64") == 4
    capsys.readouterr()
    code, out, error = told(capsys, tmp_path / "runs")
    assert (code, error) == (0, "")
    a, b = (next(line for line in out.splitlines() if f"runs/{name} " in line) for name in "ab")
    assert " finished  1,280 of 1,280 (100%) " in a
    assert " failed " in b
    assert "runs/b: exit code 4: Diverged: " in out
    assert run(tmp_path / "runs/a", 1920) == 0
    assert row(tmp_path / "runs/a")["restarts"] == "1"


def test_restarts_without_a_new_checkpoint_are_counted(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    counts = []
    for began_at in (0, 0, 0, 640, 640, 1280):
        folder.begin(began_at)
        folder.status("failed", reason="something", exit_code=1)
        found = folder.read_status()
        counts.append((found["restarts"], found["restarts_without_progress"]))
    assert counts == [(0, 0), (1, 1), (2, 2), (3, 0), (4, 1), (5, 0)]
    assert row(tmp_path)["restarts"] == "5"


def test_what_an_attempt_ended_with_is_forgotten_when_the_next_begins(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.begin(0)
    folder.status("failed", reason="something", rank=3, exit_code=6, images_seen=64)
    assert folder.read_status()["restarts"] == 0
    folder.begin(0)
    assert not {"reason", "rank", "exit_code"} & set(folder.read_status())


def test_a_failure_stays_whatever_another_rank_still_writes(tmp_path: Path) -> None:
    """Rank 0 may write that it is running when another rank has failed, and read what was there before that."""
    folder = RunFolder(tmp_path)
    folder.begin(0)
    write = (
        "import sys, time; from pathlib import Path; from dist_gan.run.folder import RunFolder\n"
        "folder = RunFolder(Path(sys.argv[1])); print(flush=True)\n"
        "while True: folder.status('running', images_seen=64); time.sleep(0.002)"  # others get the lock in between
    )
    with child([sys.executable, "-c", write, tmp_path], cwd=ROOT, stdout=subprocess.PIPE) as rank_0:
        assert rank_0.stdout
        rank_0.stdout.readline()
        for _ in range(40):
            folder.begin(0)
            wait_for(lambda: folder.read_status()["state"] == "running")
            folder.status("failed", reason="the cause", rank=1)
            assert folder.read_status()["state"] == "failed"
            time.sleep(0.002)
            assert folder.read_status()["reason"] == "the cause"
    for state in ("starting", "running"):
        folder.status(state)
        assert folder.read_status()["state"] == "failed"
    folder.status("failed", reason="a better one")
    assert folder.read_status()["reason"] == "a better one"


def test_no_run_is_a_message_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, error = told(capsys, tmp_path)
    assert (code, out, error) == (2, "", f"dist_gan: {tmp_path} holds no run (no status.json)\n")


def test_it_needs_no_torch(tmp_path: Path) -> None:
    RunFolder(tmp_path).status("running")
    (tmp_path / "torch.py").write_text("raise ImportError('torch was imported')")
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = finished([sys.executable, "-m", "dist_gan.status", tmp_path], env=env)
    assert (done.returncode, done.stderr) == (0, "")


def test_ranks_that_write_at_once_leave_a_valid_status(tmp_path: Path) -> None:
    """Both write and rename again and again; with one temporary file for both, one of them meets the other's half."""
    write = (
        "import sys; from pathlib import Path; from dist_gan.run.folder import RunFolder\n"
        "folder = RunFolder(Path(sys.argv[1]))\n"
        "for k in range(2000): folder.status('failed', reason='x' * (k % 200)); assert folder.read_status(), k"
    )
    with ExitStack() as stack:
        ranks = [
            stack.enter_context(
                child([sys.executable, "-c", write, tmp_path], cwd=ROOT, env={**os.environ, "RANK": str(rank)})
            )
            for rank in range(2)
        ]
        assert [rank.wait() for rank in ranks] == [0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]
