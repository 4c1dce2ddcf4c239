"""`python -m dist_gan` and `dist-gan`: the list of commands, and that each runs as it does by itself."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from dist_gan import __main__ as entry
from dist_gan.config.explain import parts_of
from dist_gan.config.schema import Config
from dist_gan.part import Part
from tests.support.commands import ROOT, command, train
from tests.support.runs import SMALL


def test_the_list_names_what_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(["--help"]) == 0
    listed = capsys.readouterr().out
    for name in entry.COMMANDS:
        assert f"  {name} " in listed
        assert (ROOT / f"dist_gan/{name}.py").exists() or (ROOT / f"dist_gan/{name}/__main__.py").exists()
    assert entry.main([]) == 2
    assert capsys.readouterr().err == listed
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"dist-gan": "dist_gan.__main__:main"}


def test_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(["tarin", "x=1"]) == 2
    assert capsys.readouterr().err == "dist_gan: there is no command 'tarin'; did you mean train?\n"
    assert entry.main(["xyz"]) == 2
    assert f"expected one of {', '.join(entry.COMMANDS)}" in capsys.readouterr().err


@pytest.mark.slow
def test_it_trains_samples_and_shows_the_status(tmp_path: Path) -> None:
    done = command("-m", "dist_gan", "train", *SMALL, f"run={tmp_path}/a", "images=640")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("reading images\n")
    assert json.loads((tmp_path / "a/status.json").read_text())["state"] == "finished"
    done = command("-m", "dist_gan", "sample", f"{tmp_path}/a", f"out={tmp_path}/x.png")
    assert done.returncode == 0, done.stderr
    done = command("-m", "dist_gan", "sample", f"{tmp_path}/none")
    assert done.returncode == 2
    assert "dist_gan.sample: " in done.stderr
    done = command("-m", "dist_gan", "train", "sede=3")
    assert done.returncode == 2
    assert "did you mean seed?" in done.stderr
    done = command("-m", "dist_gan", "data", "--help")
    assert (done.returncode, "NAME is one of" in done.stdout) == (0, True)


def test_status_stays_light(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('torch was imported')")
    (tmp_path / "status.json").write_text('{"state": "finished", "time": 0}')
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-m", "dist_gan", "status", tmp_path], env=env, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert " finished " in done.stdout


def test_something_is_seen_before_torch_is_imported(tmp_path: Path) -> None:
    """In a log file; and nothing in a pipe, where the output is a file's content, nor on other ranks."""
    (tmp_path / "torch.py").write_text("raise SystemExit(9)")
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    log = tmp_path / "log"

    def said(*arguments: str, into_file: bool = True, **more: str) -> str:
        command = [sys.executable, "-m", "dist_gan.train", *arguments]
        with log.open("w") as file:
            done = subprocess.run(
                command, env={**env, **more}, stdout=file if into_file else subprocess.PIPE, text=True, timeout=60
            )
        assert done.returncode == 9
        return log.read_text() + (done.stdout or "")

    assert said() == "loading torch\n"
    assert said(RANK="1") == said("--print-config") == said("--help") == said(into_file=False) == ""


def test_help_cuts_no_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["--help"]) == 0
    shown = capsys.readouterr().out
    lines = [line for line in shown.splitlines() if ".name=" in line and ": " in line and line.startswith("    ")]
    assert len(lines) > 15
    assert [line for line in lines if not line.endswith(".")] == []

    def members(part: type[Part]) -> list[type[Part]]:
        found = []
        for field in part.model_fields.values():
            inner = parts_of(field.annotation)
            found += inner if len(inner) > 1 else []
            for each in inner:
                found += members(each)
        return found

    for part in members(Config):
        first = " ".join((part.__doc__ or "").strip().split("\n\n")[0].split())
        assert f": {first}\n" in shown, part
