"""What else is beside a checkpoint's files, what cannot be read for now, and what another version made."""

import errno
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dist_gan.errors import CheckpointError, ConfigError, InputOutputError
from dist_gan.run import checkpoint, listing, manifest
from dist_gan.run.checkpoint import Writer, existing, find, read, verify, write
from dist_gan.run.folder import RunFolder
from dist_gan.run.restore import find_checkpoint
from tests.run.test_checkpoint import forge
from tests.support.commands import doctor, sample, status, train
from tests.support.runs import SMALL

AWAY = [errno.EACCES, errno.EIO, errno.ESTALE, errno.ETIMEDOUT]
STRAYS = [".DS_Store", ".nfs0000000001", "README.md", "other.safetensors"]
TENSORS = {"ema": {"a": torch.arange(3.0)}}


def save(parent: Path, images: int) -> Path:
    return write(parent, images, TENSORS, {"images_seen": images}, "seed: 1\n")


def everything(parent: Path) -> set[Path]:
    return set(parent.rglob("*"))


@pytest.fixture
def begun(tmp_path: Path) -> list[str]:
    """The command of a run that has two checkpoints."""
    command = [*SMALL, f"run={tmp_path}/run", "images=256", "save.every=128"]
    assert train.main(command) == 0
    return command


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, int], None]:
    """Let a file or folder be unreadable with an error number; 0 brings it back."""
    numbers: dict[str, int] = {}

    def wrapped(original: Any) -> Any:
        def opened(path: Any, *args: Any, **kwargs: Any) -> Any:
            if number := numbers.get(os.fspath(path) if isinstance(path, str | os.PathLike) else ""):
                raise OSError(number, os.strerror(number), os.fspath(path))
            return original(path, *args, **kwargs)

        return opened

    # As root every mode can be read: so the system's answer is replaced.
    monkeypatch.setattr(manifest, "open", wrapped(open), raising=False)
    monkeypatch.setattr(os, "scandir", wrapped(os.scandir))
    monkeypatch.setattr(Path, "read_text", wrapped(Path.read_text))

    def set_away(path: Path, number: int) -> None:
        numbers[str(path)] = number

    return set_away


@pytest.mark.parametrize("stray", STRAYS)
def test_what_the_manifest_does_not_name_is_ignored(tmp_path: Path, stray: str) -> None:
    path = save(tmp_path, 100)
    (path / stray).write_bytes(b"x")
    (path / f"{stray}.folder").mkdir()
    assert verify(path) == ""
    assert read(path).tensors.keys() == {"ema"}
    assert find(tmp_path, pytest.fail) == path


def test_strays_go_with_the_folder_and_names_that_are_no_checkpoints_are_let_alone(tmp_path: Path) -> None:
    warnings: list[str] = []
    others = ["images-old", "images-000000000100 copy", "images-5"]
    for name in others:
        (tmp_path / name).mkdir()
    writer = Writer(tmp_path, keep=1, keep_every=0, warn=warnings.append)
    for images in (100, 200):
        writer.save(images, TENSORS, {}, "")
        writer.wait()
        (tmp_path / f"images-{images:012d}" / ".DS_Store").write_bytes(b"x")
    writer.save(300, TENSORS, {}, "")
    writer.wait()
    assert {path.name for path in tmp_path.iterdir()} == {*others, "images-000000000300"}
    assert warnings == []


def test_a_run_goes_on_past_strays(begun: list[str], tmp_path: Path) -> None:
    checkpoints = tmp_path / "run" / "checkpoints"
    (checkpoints / ".DS_Store").write_bytes(b"x")
    for path in existing(checkpoints):
        for stray in STRAYS:
            (path / stray).write_bytes(b"x")
    assert train.main([*begun, "images=384"]) == 0
    assert [path.name[-3:] for path in existing(checkpoints)] == ["256", "384"]
    assert not list(checkpoints.glob("bad-*"))


def test_a_checkpoint_that_cannot_be_deleted_is_a_warning_and_the_save_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    writer = Writer(tmp_path, keep=1, keep_every=0, warn=warnings.append)
    writer.save(100, TENSORS, {}, "")
    writer.wait()

    def refuse(path: Path) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(checkpoint, "_discard", refuse)
    for images in (200, 300, 400, 500):
        writer.save(images, TENSORS, {}, "")
        writer.wait()
    assert writer.last == tmp_path / "images-000000000500"
    assert len(warnings) == 4
    assert "could not be deleted" in warnings[0]


@pytest.mark.parametrize("number", AWAY)
@pytest.mark.parametrize("name", ["manifest.json", "ema.safetensors", "config.yaml"])
def test_what_cannot_be_read_is_not_bad(tmp_path: Path, away: Any, number: int, name: str) -> None:
    save(tmp_path, 100)
    path = save(tmp_path, 200)
    before = everything(tmp_path)
    away(path / name, number)
    for look in (verify, read, lambda _: find(tmp_path, pytest.fail)):
        with pytest.raises(InputOutputError, match=rf"{name} cannot be read \({os.strerror(number)}\)"):
            look(path)
    assert everything(tmp_path) == before
    away(path / name, 0)
    assert find(tmp_path, pytest.fail) == path


@pytest.mark.parametrize("number", AWAY)
def test_a_folder_of_checkpoints_that_cannot_be_read_is_no_fresh_start(
    begun: list[str], tmp_path: Path, away: Any, number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    before = everything(run)
    away(run / "checkpoints", number)
    for command in (begun, [*begun, "images=999"], [*begun, "resume=never"]):
        assert train.main(command) == 5
        assert f"{run}/checkpoints cannot be read ({os.strerror(number)})" in capsys.readouterr().err
    assert sample.main([str(run), f"out={tmp_path}/x.png"]) == 5
    assert status.main([str(run)]) == 0
    assert doctor.main(begun) == 2
    assert "cannot be read" in " ".join(capsys.readouterr().out.split())
    away(run / "checkpoints", 0)
    assert everything(run) == before
    assert train.main([*begun, "images=384"]) == 0
    assert json.loads((run / "status.json").read_text())["began_from_images"] == 256


@pytest.mark.parametrize("name", ["metrics.jsonl", "status.json", "checkpoints/images-000000000256/state.json"])
def test_any_file_of_a_run_that_cannot_be_read_is_exit_code_5_and_nothing_is_changed(
    begun: list[str], tmp_path: Path, away: Any, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    content = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "status.json"}
    away(run / name, errno.ESTALE)
    assert train.main([*begun, "images=384"]) == 5
    assert f"{name} cannot be read (Stale file handle)" in capsys.readouterr().err
    content.pop(run / "lock")  # who holds it
    assert {path: path.read_bytes() for path in content} == content
    away(run / name, 0)
    if name.startswith("checkpoints"):
        assert json.loads((run / "status.json").read_text())["exit_code"] == 5, "a scheduler may start it again"
    assert train.main([*begun, "images=384"]) == 0


def test_resume_from_a_path_that_cannot_be_read(begun: list[str], tmp_path: Path, away: Any) -> None:
    path = existing(tmp_path / "run" / "checkpoints")[-1]
    away(path / "manifest.json", errno.EACCES)
    assert train.main([*begun, f"resume={path}", f"run={tmp_path}/other"]) == 5
    assert not (tmp_path / "other").exists()


def test_a_status_that_is_no_object_and_metrics_that_are_no_records_are_no_obstacle(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.status_file.write_text("[1]")
    assert run.read_status() == {}
    lines = [b'{"images": 1}', b"[1]", b"{}", b'{"images": "x"}', b"\xff\x00", b'{"images": 9}', b'{"images": 2}']
    run.metrics.write_bytes(b"\n".join(lines))
    run.forget_after(5)
    assert run.metrics.read_text() == '{"images": 1}\n{"images": 2}\n'


@pytest.mark.parametrize(("version", "said"), [(1, "the key piece is called microbatch now"), (3, "has format 3")])
def test_what_another_version_made_is_refused_and_let_alone(
    begun: list[str], tmp_path: Path, version: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    for path in existing(run / "checkpoints"):
        forge(path, lambda content: content.update(format=version))
    last = (run / "status.json").read_bytes()
    before = everything(run)
    assert train.main([*begun, "images=384"]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert said in error
    assert error.count("dist_gan: ") == 1
    assert sample.main([str(run), f"out={tmp_path}/x.png"]) == 2
    assert (everything(run), (run / "status.json").read_bytes()) == (before, last)
    assert re.search(r"images-\d+ (was made by|has format)", error)
    with pytest.raises(ConfigError):
        find_checkpoint(run)


def test_a_missing_file_and_a_file_in_its_place_are_bad(tmp_path: Path) -> None:
    save(tmp_path, 100)
    for images, change in ((200, Path.unlink), (300, lambda path: (path.unlink(), path.mkdir()))):
        path = save(tmp_path, images)
        change(path / "ema.safetensors")
        assert verify(path).startswith("ema.safetensors: ")
        with pytest.raises(CheckpointError, match=r"ema\.safetensors"):
            read(path)
    assert find(tmp_path, lambda _: None) == tmp_path / "images-000000000100"
    assert len(list(tmp_path.glob("bad-*"))) == 2


def test_the_names_of_checkpoints_sort_and_match() -> None:
    for images in (0, 64, 10**12, 10**15):
        assert listing.CHECKPOINT.fullmatch(checkpoint.name_of(images))
