"""Peers and launchers that die or hang, as a user meets them: named, ended, nothing left, and the run goes on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from PIL import Image

from tests.support.children import child, finished
from tests.support.commands import ROOT, command
from tests.support.launched import ENDLESS, assert_nothing_left, done, free_port, ranks_of, saved, started, status
from tests.support.runs import SMALL, newest, wait_for

pytestmark = pytest.mark.slow
HASTY = [*ENDLESS, "timeout=5", "save.every=6400"]


def goes_on(folder: Path, run: Path, count: int) -> None:
    """The same command goes on from the newest checkpoint, to its end."""
    seen = newest(run).state["images_seen"]
    code, out, error = done(folder, "local.sh", "-n", str(count), *HASTY, f"run={run}", f"images={seen + 640}")
    assert (code, error) == (0, "")
    assert f"going on from {seen:,}" in out
    assert status(run)["state"] == "finished"
    assert status(run)["restarts"] == 1


def test_a_stopped_rank_is_named_within_the_timeout(tmp_path: Path) -> None:
    run = tmp_path / "a"
    with started(tmp_path, "local.sh", "-n", "2", *HASTY, f"run={run}") as launcher:
        saved(run)
        victim = ranks_of(launcher.pid)[1]
        victim.suspend()
        _, error = launcher.communicate(timeout=60)
    assert launcher.returncode == 6
    who = f"rank 1 (host {os.uname().nodename}, pid {victim.pid})"
    reason = f"no progress for 5 s: {who} does not respond, last seen after "
    assert error.startswith(f"dist_gan: {reason}"), error
    assert error.count("dist_gan") == 1
    assert "Traceback" not in error
    failed = status(run)
    assert (failed["state"], failed["exit_code"], failed["rank"]) == ("failed", 6, 0)
    assert reason in failed["reason"]
    assert "in update" in (run / "stacks/rank-00000.txt").read_text(), "where rank 0 waited"
    assert_nothing_left(run)
    goes_on(tmp_path, run, 2)


def test_a_rank_that_hangs_is_named_with_its_phase_and_its_stack(tmp_path: Path) -> None:
    found = command("-m", "tests.support.poisoned", *HASTY, f"run={tmp_path}", ranks=2, env={"POISON": "hang"})
    assert found.returncode != 0
    assert found.stderr.count("dist_gan: no progress") == 1
    reason = status(tmp_path)["reason"]
    assert reason.startswith("PeerFailed: no progress for 5 s: rank 1 (host ")
    assert "is stuck after 6,336 images, in the data, and the others wait for it" in reason
    assert "in hanging" in (tmp_path / "stacks/rank-00001.txt").read_text()
    assert_nothing_left(tmp_path)


def test_a_killed_rank_is_named_and_ends_the_others(tmp_path: Path) -> None:
    run = tmp_path / "a"
    with started(tmp_path, "local.sh", "-n", "3", *HASTY, f"run={run}", "batch_size=96") as launcher:
        saved(run)
        victim = ranks_of(launcher.pid)[1]
        victim.kill()
        _, error = launcher.communicate(timeout=60)
    assert launcher.returncode == 1
    assert len(error.splitlines()) == 2, error
    told, last = error.splitlines()
    assert told.startswith(f"dist_gan: rank 1 (host {os.uname().nodename}, pid {victim.pid}) died, last seen after ")
    assert last == f"launcher: rank 1 (pid {victim.pid}) was killed by SIGKILL"
    assert status(run)["reason"].startswith("PeerFailed: rank 1 (host ")
    assert status(run)["exit_code"] == 6
    assert_nothing_left(run)


@pytest.mark.parametrize("count", [1, 2])
def test_without_its_launcher_a_run_stops_cleanly(tmp_path: Path, count: int) -> None:
    run = tmp_path / "a"
    # A launcher for one process too: the scripts start it without.
    one: list[str | Path] = [sys.executable, "-m", "accelerate.commands.launch"]
    one += ["--config_file", ROOT / "launch/one_process.yaml"]
    if count == 1:
        beginning = child([*one, ROOT / "dist_gan/train.py", *HASTY, f"run={run}"], cwd=tmp_path)
    else:
        beginning = started(tmp_path, "local.sh", "-n", "2", *HASTY, f"run={run}")
    with beginning as launcher:
        saved(run)
        launcher.kill()
        launcher.wait()
        assert_nothing_left(run)
    stopped = status(run)
    assert (stopped["state"], stopped["reason"]) == ("stopped", "signal 15")
    assert newest(run).state["images_seen"] == stopped["images_seen"], "nothing is lost"
    goes_on(tmp_path, run, count)


def test_a_run_that_was_suspended_for_longer_than_the_timeout_goes_on(tmp_path: Path) -> None:
    run = tmp_path / "a"
    with started(tmp_path, "local.sh", "-n", "2", *HASTY, f"run={run}") as launcher:
        saved(run)
        ranks = ranks_of(launcher.pid).values()
        for rank in ranks:
            rank.suspend()
        time.sleep(8)
        before = status(run)["images_seen"]
        for rank in ranks:
            rank.resume()
        wait_for(lambda: status(run)["images_seen"] > before + 6400)
        launcher.send_signal(signal.SIGTERM)
        _, error = launcher.communicate(timeout=60)
    assert (launcher.returncode, error, status(run)["state"]) == (0, "", "stopped")


def test_a_process_that_hangs_alone_is_ended_too(tmp_path: Path) -> None:
    env = {"POISON": "hang", "POISON_RANK": "0"}
    found = command("-m", "tests.support.poisoned", *HASTY, f"run={tmp_path}", env=env)
    assert found.returncode == 6, found.stderr
    assert "this process (host " in found.stderr
    assert "in the data" in status(tmp_path)["reason"]


def test_a_worker_that_dies_is_reported_with_advice(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for number in range(64):
        Image.new("L", (8, 8), number).save(tmp_path / f"images/{number}.png")
    data = "data={name: folder, path: images, size: 8, channels: 1, workers: 2, resident_megabytes: 0}"
    run = tmp_path / "a"
    with started(tmp_path, "local.sh", *HASTY, data, f"run={run}") as process:
        saved(run)
        psutil.Process(process.pid).children()[0].kill()
        _, error = process.communicate(timeout=60)
    assert process.returncode == 5, error
    assert error.count("\n") == 1, error
    assert error.startswith("dist_gan: data: a process that reads images died (")
    assert "data.workers=0" in error
    assert (status(run)["state"], status(run)["exit_code"]) == ("failed", 5)
    assert_nothing_left(run)


def test_a_process_whose_peers_never_come_says_so(tmp_path: Path) -> None:
    env = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    found = command("dist_gan/train.py", *HASTY, f"run={tmp_path / 'a'}", env=env)
    assert found.returncode == 6, found.stderr
    assert "rank 0 did not meet the other 1 of 2 processes at 127.0.0.1:" in found.stderr
    assert "Traceback" not in found.stderr
    assert list(tmp_path.iterdir()) == []


def test_processes_agree_to_stop_long_before_metrics_are_due(tmp_path: Path) -> None:
    run = tmp_path / "a"
    with started(tmp_path, "local.sh", "-n", "2", *ENDLESS, f"run={run}", "track.every=100000000") as launcher:
        wait_for((run / "samples/real.png").exists)
        launcher.send_signal(signal.SIGUSR1)
        launcher.communicate(timeout=60)
    assert launcher.returncode == 0
    assert status(run)["reason"] == "signal 10"
    assert newest(run).state["images_seen"] == status(run)["images_seen"]


@pytest.mark.parametrize("prefix", [[], ["nohup"]])
def test_the_end_of_the_terminal_stops_cleanly_and_not_with_nohup(tmp_path: Path, prefix: list[str]) -> None:
    run = tmp_path / "a"
    with child(
        [*prefix, sys.executable, ROOT / "dist_gan/train.py", *HASTY, f"run={run}"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        saved(run)
        process.send_signal(signal.SIGHUP)
        if prefix:
            seen = status(run)["images_seen"]
            wait_for(lambda: status(run)["images_seen"] > seen + 6400)
            process.terminate()
        process.wait(60)
    expected = signal.SIGTERM if prefix else signal.SIGHUP
    assert (process.returncode, status(run)["reason"]) == (0, f"signal {int(expected)}")


def test_a_log_on_a_full_disk_ends_no_run(tmp_path: Path) -> None:
    short = [*SMALL, "images=6400", f"run={tmp_path}"]
    with open("/dev/full", "w") as full:
        ended = finished([sys.executable, ROOT / "dist_gan/train.py", *short], stdout=full, stderr=full)
    assert (ended.returncode, status(tmp_path)["state"]) == (0, "finished")
