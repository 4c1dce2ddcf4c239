"""What is read from a run's folder, whole or damaged."""

import json
import math
import time
from pathlib import Path

import pytest

from dist_gan.errors import ConfigError
from dist_gan.reporting.configs import ABSENT, differences
from dist_gan.reporting.reading import labels, read_runs
from dist_gan.run.folder import RunFolder
from tests.reporting.made import made, picture, write_lines


def test_an_incomplete_last_line_and_strange_values(tmp_path: Path) -> None:
    folder = made(tmp_path / "run")
    write_lines(folder, {"images": 400, "D/loss": math.nan, "text": "no", "flag": True, "big": 10**400, "a": 5})
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('[1, 2]\n\n{"images": "many", "a": 1}\n{"images": 448, "D/lo')
    (run,) = read_runs([folder])
    assert run.columns["G/loss"] == {64: 0.5, 128: 1.5, 192: 2.5}
    assert list(run.columns["D/loss"]) == [64, 128, 192, 400]
    assert set(run.columns) == {"D/loss", "G/loss", "a"}
    assert run.broken_lines == 3
    assert run.images_seen == 400


def test_a_line_that_was_written_again_counts_once_and_in_order(tmp_path: Path) -> None:
    folder = made(tmp_path / "run")
    write_lines(folder, {"images": 128, "D/loss": 7.0})
    assert list(read_runs([folder])[0].columns["D/loss"].items()) == [(64, 1.0), (128, 7.0), (192, 1 / 3)]


def test_grids_and_damaged_files(tmp_path: Path) -> None:
    folder = made(tmp_path / "run", grids=3)
    picture(folder / "samples/real.png", 9)
    (folder / "samples/.000000000999.png.tmp").write_text("half")
    for name in ("status.json", "config.yaml"):
        (folder / name).write_text("{ not: [closed")
    (run,) = read_runs([folder])
    assert list(run.grids) == [0, 64, 128]
    assert run.real == folder / "samples/real.png"
    assert (run.status, run.config, run.state(time.time())) == ({}, {}, "unknown")
    assert run.images_seen == 192


@pytest.mark.parametrize(("silent", "expected"), [(0, "running"), (3600, "vanished")])
def test_a_run_that_says_that_it_runs(tmp_path: Path, silent: float, expected: str) -> None:
    folder = made(tmp_path / "run", state="running", time=time.time() - silent)
    assert read_runs([folder])[0].state(time.time()) == expected


def test_time_in_training_is_the_sum_over_lines(tmp_path: Path) -> None:
    folder = made(tmp_path / "run", lines=0)
    write_lines(folder, {"images": 100, "images_per_second": 50}, {"images": 400, "images_per_second": 100})
    assert read_runs([folder])[0].seconds == pytest.approx(2 + 3)


def test_the_best_checkpoint_and_the_newest_facts(tmp_path: Path) -> None:
    folder = made(tmp_path / "run")
    for images, value in ((64, 30.0), (128, 10.0), (192, 20.0)):
        checkpoint = folder / f"checkpoints/images-{images:012d}"
        checkpoint.mkdir(parents=True)
        (checkpoint / "state.json").write_text(json.dumps({"images_seen": images, "device": f"d{images}"}))
        RunFolder(folder).score(images, {"fid": value}, best=("fid", False))
    (folder / "checkpoints/images-000000000256").mkdir()
    (run,) = read_runs([folder])
    assert run.best == (128, "fid", 10.0)
    assert run.facts["device"] == "d192"
    assert run.checkpoints == [64, 128, 192]


def test_numbers_of_evaluations_and_of_the_score_command(tmp_path: Path) -> None:
    """The former are in both files, the latter in scores.json alone; what is damaged in it is left out."""
    folder = made(tmp_path / "run", lines=0)
    write_lines(folder, {"images": 64, "fid": 30.0}, {"images": 192, "fid": 20.0})
    for images, numbers in ((192, {"fid": 20.0}), (128, {"fid": 10.0, "kid": 1}), (64, {"fid": 30.0})):
        RunFolder(folder).score(images, numbers)
    scores = json.loads((folder / "scores.json").read_text())
    (folder / "scores.json").write_text(json.dumps({**scores, "256": 7, "320": {"fid": "x"}, "best": {"key": 5}}))
    (run,) = read_runs([folder])
    assert {name: list(column.items()) for name, column in run.columns.items()} == {
        "fid": [(64, 30.0), (128, 10.0), (192, 20.0)],
        "kid": [(128, 1.0)],
    }
    assert run.best is None


def test_notes_by_images(tmp_path: Path) -> None:
    folder = made(tmp_path / "run")
    rows = [{"images": 9, "kind": "b", "text": "B", "advice": "c"}, {"images": 5, "text": "A"}, {"images": 5}, 7]
    (folder / "notes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_runs([folder])[0].notes == [(5, "", "A", ""), (9, "b", "B", "c")]


def test_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    folders = [made(tmp_path / name) for name in ("a/x/run", "b/x/run", "b/y/other")]
    assert [run.label for run in read_runs(folders)] == ["a/x/run", "b/x/run", "b/y/other"]
    assert labels([Path("/a/one"), Path("/b/two")]) == ["one", "two"]
    assert labels([Path("/run")]) == ["run"]


def test_what_is_no_run(tmp_path: Path) -> None:
    folder = made(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(folder)
    for paths, expected in (
        ([tmp_path / "empty"], "holds no run"),
        ([tmp_path / "gone"], "is not there"),
        ([folder / "status.json"], "is a file"),
        ([folder, tmp_path / "link"], "is given twice"),
    ):
        with pytest.raises(ConfigError, match=expected):
            read_runs(paths)


def test_what_differs_between_configs() -> None:
    one = {"run": "a", "seed": 0, "batch": 64, "loss": {"name": "x", "k": 1.0}, "penalties": [], "tags": ["a", 1]}
    two = {"run": "b", "seed": 1, "batch": 64, "loss": {"name": "x", "k": 1.0}, "penalties": [{"name": "r1"}]}
    assert differences([one, two, one]) == [
        ("seed", ["0", "1", "0"]),
        ("penalties", ["[]", ABSENT, "[]"]),
        ("tags", ["[a, 1]", ABSENT, "[a, 1]"]),
        ("penalties.0.name", [ABSENT, "r1", ABSENT]),
    ]
    assert differences([one, {**one, "run": "c"}]) == []
