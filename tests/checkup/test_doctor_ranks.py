"""The doctor under launchers: one table of all ranks, and none that waits for one that fails."""

import re
import shutil
import socket
from pathlib import Path

import pytest

from tests.checkup.test_doctor import Told
from tests.support.commands import ROOT, command
from tests.support.launched import done, free_port, started
from tests.support.runs import SMALL

pytestmark = pytest.mark.slow


def test_two_processes(tmp_path: Path) -> None:
    code, out, error = done(tmp_path, "local.sh", "-n", "2", "--doctor", *SMALL, "run=a")
    told = Told(code, out)
    assert code == 0, out + error
    assert [out.count(line) for line in ("doctor: ", "world ", "This run would work.")] == [1, 1, 1]
    assert told.rows["world"][1].startswith("2 processes, gloo: 2 on ")
    assert re.search(
        r"[\d.]+ ms for one number, [\d.]+ GB/s for 67 MB; a player's gradients", told.rows["all-reduce"][1]
    )
    assert "updates of 32 images" in told.rows["memory"][1]
    assert told.rows["speed"][0] in ("ok", "advice")
    assert list(tmp_path.iterdir()) == []


def test_two_nodes_of_which_one_lacks_the_data(tmp_path: Path) -> None:
    """And the run's folder, which is relative to where each was started. Both are told, with the rank; none waits."""
    for node in ("0", "1"):
        (tmp_path / node).mkdir()
    pictures(tmp_path / "0" / "images")
    out = two_nodes(tmp_path, ROOT, "data={name: folder, path: images, size: 8}", "batch_size=8")
    missing = r"^data +problem  on rank 1 \(.*\): data.path: images is not a folder \(No such file or directory\)$"
    assert re.search(missing, out, re.MULTILINE), out
    assert re.search(
        rf"^shared +problem  on rank 1 \(.*\): {tmp_path}/1 is not the folder that rank 0 sees$", out, re.MULTILINE
    ), out
    assert "This run would fail: 2 problems." in out


def test_two_nodes_with_different_code(tmp_path: Path) -> None:
    for name in ("dist_gan", "launch"):
        shutil.copytree(ROOT / name, tmp_path / "copy" / name, ignore=shutil.ignore_patterns("__pycache__"))
    with open(tmp_path / "copy" / "dist_gan" / "game" / "game.py", "a") as file:
        file.write("# newer\n")
    for node in ("0", "1"):
        (tmp_path / node).mkdir()
    out = two_nodes(tmp_path, tmp_path / "copy")
    assert re.search(
        rf"^world +problem .*; code is \w+ on {socket.gethostname()}, and \w+ on rank 0's$", out, re.MULTILINE
    )
    assert re.search(r"^all-reduce  - +not examined: see world$", out, re.MULTILINE), out
    assert re.search(r"^run folder  ok ", out, re.MULTILINE), out
    assert "This run would fail: 1 problem." in out


def pictures(folder: Path) -> None:
    from PIL import Image

    folder.mkdir()
    for i in range(8):
        Image.new("RGB", (8, 8)).save(folder / f"{i}.png")


def two_nodes(folder: Path, second_tree: Path, *arguments: str) -> str:
    """What rank 0 of two nodes prints, each started in a folder of its own; both end with exit code 2."""
    nodes = ["--nodes", "2", "--head", "127.0.0.1", "--port", free_port(), "-n", "1", "--doctor"]
    more = [*SMALL, "run=a", *arguments]
    with (
        started(
            folder / "1", f"{second_tree}/launch/multi_node.sh", *nodes, "--rank", "1", *more, PYTHONPATH=""
        ) as second,
        started(folder / "0", "multi_node.sh", *nodes, "--rank", "0", *more) as head,
    ):
        out, error = head.communicate(timeout=100)
        assert second.wait(60) != 0
    assert head.returncode == 2, out + error
    return out


@pytest.mark.parametrize("place", ["dist_gan.game.game.Game.warm_up_reduction", "dist_gan.checkup.rehearsal.memory"])
def test_a_rank_that_fails_holds_up_nobody(tmp_path: Path, place: str) -> None:
    """By itself, which all learn of; or among all in an update, where the others lose a connection."""
    script = tmp_path / "broken.py"
    script.write_text(
        f"import os, sys\nfrom unittest.mock import patch\nfrom dist_gan.distributed.launch import leave\n"
        f"from tests.support.commands import doctor\n"
        f"def boom(*_): raise RuntimeError('boom')\n"
        f"if os.environ['RANK'] == '1': patch({place!r}, boom).start()\n"
        f"leave(doctor.main(sys.argv[1:]))\n"
    )
    told = command(str(script), *SMALL, f"run={tmp_path}/a", ranks=2, timeout=100)
    assert told.returncode != 0
    assert "boom" in told.stdout + told.stderr
    if place.endswith(".memory"):
        assert re.search(r"^memory +problem  on rank 1 \(.*\): RuntimeError: boom$", told.stdout, re.MULTILINE), (
            told.stdout
        )
        assert "This run would fail: 1 problem." in told.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["broken.py"]
