"""The scripts of launch/, as a user types them."""

import signal
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.children import finished
from tests.support.commands import ROOT
from tests.support.launched import ENDLESS, begun, done, free_port, started, status
from tests.support.runs import SMALL, wait_for

SCRIPTS = [
    *sorted(ROOT.glob("launch/*.sh")),
    *(path for path in sorted(ROOT.glob("slurm/*")) if path.suffix in (".sh", ".sbatch", ".example")),
    ROOT / ".ci/run",
]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_bash_can_read_it(script: Path) -> None:
    assert finished(["bash", "-n", script]).stderr == ""


def test_shellcheck_finds_nothing() -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    if not shellcheck.exists():
        pytest.skip("no shellcheck beside this Python (it is one of the dev dependencies)")
    found = finished([shellcheck, "--severity=style", *SCRIPTS])
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("name", ["local.sh", "debug.sh", "multi_node.sh"])
def test_help(tmp_path: Path, name: str) -> None:
    code, out, error = done(tmp_path, name, "-h")
    assert (code, error) == (0, "")
    assert out.startswith(f"usage: launch/{name} ")
    assert "#" not in out
    assert done(tmp_path, name, "--help")[1] == out


NODE = "--nodes 2 --rank 1 --head 127.0.0.1 --port 5000"


@pytest.mark.parametrize(
    ("command", "devices", "expected"),
    [
        ("local.sh -n", "", "-n: expected a number"),
        ("local.sh -n 0", "", "-n 0: expected a number"),
        ("local.sh -n 1.5 run=a", "", "-n 1.5: expected a number"),
        ("local.sh --nodes 2", "", "unknown option --nodes (see -h)"),
        ("local.sh -n 2", "0", "this machine has 1 GPU(s)"),
        ("local.sh -n 3", "0,GPU-5ebe9b,-1,3", "this machine has 2 GPU(s)"),
        ("local.sh batchsize=1", "", "did you mean batch_size?"),
        ("debug.sh -n 2", "", "unknown option -n"),
        ("multi_node.sh", "", "--nodes is missing"),
        ("multi_node.sh --nodes 2 --rank 0 --port 5000", "", "--head is missing"),
        ("multi_node.sh --nodes 2 --rank", "", "--rank: expected a value"),
        (f"multi_node.sh {NODE} --nodes 0", "", "--nodes 0: expected a number"),
        (f"multi_node.sh {NODE} --rank 2", "", "--rank 2: expected 0 to 1"),
        (f"multi_node.sh {NODE} --rank -1", "", "--rank -1: expected 0 to 1"),
        (f"multi_node.sh {NODE} --port 65536", "", "--port 65536: expected"),
        (f"multi_node.sh {NODE} -n 2", "0", "this machine has 1 GPU(s)"),
        (f"multi_node.sh {NODE} --gpus 2", "", "unknown option --gpus"),
    ],
)
def test_a_wrong_command_is_one_line_and_exit_code_2(tmp_path: Path, command: str, devices: str, expected: str) -> None:
    name, *arguments = command.split()
    code, out, error = done(tmp_path, name, *arguments, CUDA_VISIBLE_DEVICES=devices)
    begun = ("", "loading torch\n" if "batchsize" in command else "")  # said where that takes a moment
    assert (code, error.count("\n")) == (2, 1), error
    assert out in begun
    assert expected in error
    assert list(tmp_path.iterdir()) == [], "nothing is created"


@pytest.mark.slow
def test_another_world_than_expected_is_refused_once_with_the_ranks_exit_code(tmp_path: Path) -> None:
    code, out, error = done(tmp_path, "local.sh", "-n", "2", *SMALL, "run=a", "processes=3")
    assert code == 2
    assert out in ("", "loading torch\n")
    assert error.count("processes: 3 expected, and the launcher started 2") == 1
    assert error.count("dist_gan: ") == 1
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_debug_leaves_the_runs_own_folder_alone(tmp_path: Path) -> None:
    code, out, error = done(tmp_path, "debug.sh", *SMALL, "run=a")
    assert code == 0, error
    assert "everything written and read once" in out
    assert [path.name for path in tmp_path.iterdir()] == ["a-debug"]


@pytest.mark.slow
def test_two_processes_stop_by_sigterm_and_the_same_command_goes_on(tmp_path: Path) -> None:
    run = tmp_path / "a"
    with started(tmp_path, "local.sh", "-n", "2", *ENDLESS, "run=a") as launcher:
        begun(run)
        ranks = psutil.Process(launcher.pid).children()
        launcher.send_signal(signal.SIGTERM)
        _, error = launcher.communicate(timeout=60)
    assert (launcher.returncode, len(ranks), error) == (0, 2, "")
    assert not any(rank.is_running() for rank in ranks)
    stopped = status(run)
    assert (stopped["state"], stopped["reason"], stopped["processes"]) == ("stopped", "signal 15", 2)
    images = stopped["images_seen"] + 640
    code, out, error = done(tmp_path, "local.sh", "-n", "2", *ENDLESS, "run=a", f"images={images}")
    assert code == 0, error
    assert f"going on from {stopped['images_seen']:,}" in out
    assert (status(run)["state"], status(run)["images_seen"]) == ("finished", images)


@pytest.mark.slow
def test_two_nodes_stop_together_by_a_signal_to_one(tmp_path: Path) -> None:
    nodes = ["--nodes", "2", "--head", "127.0.0.1", "--port", free_port(), "-n", "1"]
    with (
        started(tmp_path, "multi_node.sh", *nodes, "--rank", "1", *ENDLESS, "run=a") as second,
        started(tmp_path, "multi_node.sh", *nodes, "--rank", "0", *ENDLESS, "run=a") as head,
    ):
        begun(tmp_path / "a")
        second.send_signal(signal.SIGUSR1)
        out, error = head.communicate(timeout=60)
        others = second.communicate(timeout=60)
    assert (head.returncode, second.returncode, error, others) == (0, 0, "", ("", ""))
    assert "processes   2 processes, batch 64 = 2 x 32" in out
    assert (status(tmp_path / "a")["state"], status(tmp_path / "a")["processes"]) == ("stopped", 2)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2])
def test_a_warning_during_the_start_is_answered_after_the_first_updates(tmp_path: Path, count: int) -> None:
    """Sent once, to all that the command has started then, as by SLURM, whose script begins with the signal ignored."""
    ignoring = ["bash", "-c", 'trap "" USR1; exec "$@"', "bash"]
    with started(tmp_path, "local.sh", "-n", str(count), *ENDLESS, "run=a", inside=ignoring) as command:
        wait_for(lambda: takes_warnings(command.pid))
        for process in (psutil.Process(command.pid), *psutil.Process(command.pid).children(recursive=True)):
            process.send_signal(signal.SIGUSR1)
        assert not (tmp_path / "a").exists()
        out, error = command.communicate(timeout=120)
    assert (command.returncode, error) == (0, ""), out
    assert (status(tmp_path / "a")["state"], status(tmp_path / "a")["reason"]) == ("stopped", "signal 10")
    assert 0 < status(tmp_path / "a")["images_seen"] < 100_000


def takes_warnings(process: int) -> bool:
    """Whether it no longer ignores SIGUSR1: it has a handler, or blocks it."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    return any(int(fields[name], 16) >> signal.SIGUSR1 - 1 & 1 for name in ("SigBlk", "SigCgt"))
