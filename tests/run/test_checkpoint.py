import json
import os
import pickle
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dist_gan.errors import CheckpointError
from dist_gan.run import checkpoint
from dist_gan.run.checkpoint import Writer, existing, find, read, verify, write
from dist_gan.run.manifest import _canonical, _digest
from tests.campaigns.faults.rot import damage
from tests.support.commands import train
from tests.support.runs import SMALL

TENSORS = {
    "generator": {"a.weight": torch.arange(6.0).view(2, 3)},
    "ema": {"a": torch.zeros(3), "step": torch.tensor(4.0)},
}


def save(parent: Path, images: int) -> Path:
    return write(parent, images, TENSORS, {"images_seen": images}, "seed: 1\n")


@pytest.fixture
def warnings() -> list[str]:
    return []


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = save(tmp_path, 640)
    found = read(path)
    assert found.state == {"images_seen": 640}
    assert found.config == "seed: 1\n"
    for file, own in TENSORS.items():
        for name, tensor in own.items():
            assert torch.equal(found.tensors[file][name], tensor)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_every_damage_is_found_and_named(tmp_path: Path) -> None:
    whole = save(tmp_path / "whole", 640)
    generator = random.Random(0)
    for k in range(300):
        copy = tmp_path / "copy" / whole.name
        shutil.copytree(whole, copy)
        name = damage(copy, generator)
        problem = verify(copy)
        assert name in problem, (k, name, problem)
        with pytest.raises(CheckpointError, match=name):
            read(copy)
        shutil.rmtree(copy)


def test_the_newest_valid_one_is_found_and_bad_ones_are_put_aside(tmp_path: Path, warnings: list[str]) -> None:
    assert find(tmp_path / "nothing", warnings.append) is None
    for images in (100, 200, 300):
        save(tmp_path, images)
    (tmp_path / ".tmp-images-000000000400").mkdir()
    (tmp_path / "images-000000000300" / "ema.safetensors").write_bytes(b"rot")
    assert find(tmp_path, warnings.append) == tmp_path / "images-000000000200"
    assert "images-000000000300 is not valid (ema.safetensors" in warnings[0]
    assert (tmp_path / "bad-images-000000000300").is_dir()
    assert not list(tmp_path.glob(".tmp-*"))
    for path in existing(tmp_path):
        (path / "state.json").unlink()
    for _ in range(2):  # never a silent fresh start, not even at the second try
        with pytest.raises(CheckpointError, match="none of the checkpoints"):
            find(tmp_path, warnings.append)


def forge(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the manifest, and make its own hash fit."""
    manifest = json.loads((path / "manifest.json").read_text())
    change(manifest)
    del manifest["sha256"]
    manifest["sha256"] = _digest(_canonical(manifest))
    (path / "manifest.json").write_text(json.dumps(manifest, indent=1))


@pytest.mark.parametrize("name", ["../outside", "a/b", "/etc/passwd", "..", ""])
def test_names_that_leave_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    path = save(tmp_path, 5)
    forge(path, lambda manifest: manifest["files"].update({name: manifest["files"].pop("state.json")}))
    assert "leaves the folder" in verify(path)


@pytest.mark.parametrize("size", [10**15, 5, 0, -1, -2, float("inf"), "many", None])
def test_nothing_is_read_beyond_what_is_there_and_was_promised(tmp_path: Path, size: Any) -> None:
    path = save(tmp_path, 5)
    forge(path, lambda manifest: manifest["files"]["ema.safetensors"].update(bytes=size))
    problem = verify(path)
    assert problem.startswith(("ema.safetensors: ", "manifest.json: ")), problem
    with pytest.raises(CheckpointError, match="is no valid checkpoint"):
        read(path)


@pytest.mark.parametrize(
    "content", [b" " * 2**21, b"[" * 10**5, b"[]", b"{}", b"1e999", b'{"sha256": 1}', b"\xff", b""]
)
def test_a_manifest_of_any_content_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = save(tmp_path, 5)
    (path / "manifest.json").write_bytes(content)
    assert verify(path).startswith("manifest.json: ")


def test_nothing_unpickles_while_loading(tmp_path: Path, warnings: list[str]) -> None:
    """Neither a checkpoint alone, nor a run that goes on from one, past a bad one."""
    run = [*SMALL, f"run={tmp_path}/run"]
    assert train.main([*run, "images=256", "save.every=128"]) == 0
    old, new = existing(tmp_path / "run" / "checkpoints")
    (new / "state.json").write_text("rot")
    events: list[str] = []
    watching = True
    sys.addaudithook(lambda event, args: events.append(event) if watching else None)
    try:
        read(old)
        assert train.main([*run, "images=384"]) == 0
        read_events = set(events)
        pickle.loads(pickle.dumps(Path()))  # the hook sees what it is there for
    finally:
        watching = False
    assert "open" in read_events
    assert "pickle.find_class" not in read_events
    assert "pickle.find_class" in events
    assert (old.parent / f"bad-{new.name}").is_dir()


def test_what_was_published_is_never_replaced(tmp_path: Path) -> None:
    """Else there is a moment at which neither is there."""
    path = save(tmp_path, 100)
    with pytest.raises(OSError, match="not empty"):
        write(tmp_path, 100, {"ema": {"a": torch.ones(1)}}, {}, "")
    assert verify(path) == ""
    assert read(path).state == {"images_seen": 100}
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_the_last_few_are_kept(tmp_path: Path, warnings: list[str]) -> None:
    writer = Writer(tmp_path, keep=2, keep_every=200, warn=warnings.append)
    for images in range(100, 700, 100):
        writer.save(images, TENSORS, {}, "")
    writer.wait()
    assert [path.name[-3:] for path in existing(tmp_path)] == ["200", "400", "500", "600"]
    assert writer.last == tmp_path / "images-000000000600"
    assert warnings == []


def test_a_snapshot_is_taken_when_it_is_asked_for(tmp_path: Path, warnings: list[str]) -> None:
    tensor = torch.ones(1000)
    writer = Writer(tmp_path, keep=1, keep_every=0, warn=warnings.append)
    writer.save(1, {"x": {"x": tensor}}, {}, "")
    tensor.zero_()
    writer.wait()
    assert read(tmp_path / "images-000000000001").tensors["x"]["x"].sum() == 1000


def test_a_full_disk_leaves_the_old_one_and_warns_then_ends(
    tmp_path: Path, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer(tmp_path, keep=2, keep_every=0, warn=warnings.append)
    writer.save(100, TENSORS, {}, "")
    writer.wait()

    def full(path: Path, content: bytes) -> None:
        path.write_bytes(content[: len(content) // 2])
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(checkpoint, "_write_through", full)
    for images in (200, 300):
        writer.save(images, TENSORS, {}, "")
        writer.wait()
    assert len(warnings) == 2
    assert "No space left on device" in warnings[0]
    assert "images-000000000100 stays" in warnings[0]
    assert [entry.name for entry in tmp_path.iterdir()] == ["images-000000000100"]
    writer.save(400, TENSORS, {}, "")
    with pytest.raises(OSError, match="No space left"):
        writer.wait()
    monkeypatch.undo()
    assert verify(tmp_path / "images-000000000100") == ""


@pytest.mark.parametrize("point", ["mkdir", "_write_through", "_sync_folder", "rename", "_retain"])
def test_killed_at_any_point_the_old_or_the_new_one_loads(tmp_path: Path, point: str, warnings: list[str]) -> None:
    """A child process kills itself at the K-th call of a step of a save, for every K that is reached."""
    reached = 0
    for k in range(1, 30):
        parent = tmp_path / f"{point}-{k}"
        save(parent, 100)
        child = os.fork()
        if child == 0:
            _die_at(point, k)
            writer = Writer(parent, keep=1, keep_every=0, warn=warnings.append)
            writer._write(200, TENSORS, {"images_seen": 200}, "")
            os._exit(0)
        _, status = os.waitpid(child, 0)
        found = find(parent, warnings.append)
        assert found is not None
        assert found.name[-3:] in ("100", "200")
        read(found)
        assert not [path for path in parent.iterdir() if path.name.startswith(".")]
        if os.WIFEXITED(status):
            break
        reached += 1
    assert reached >= 1
    assert warnings == []


def _die_at(point: str, k: int) -> None:
    owner: Any = Path if point in ("mkdir", "rename") else Writer if point == "_retain" else checkpoint
    original = getattr(owner, point)
    count = 0

    def deadly(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if count == k:
            os.kill(os.getpid(), 9)
        return original(*args, **kwargs)

    setattr(owner, point, deadly)


def test_the_same_state_gives_the_same_bytes(tmp_path: Path) -> None:
    """What is said beside the tensors has one order, in every save."""
    state = {"images_seen": 0, "image_shape": [1, 8, 8], "classes": ["a", "b"]}
    tensors = {"ema": {"a": torch.ones(3), "b": torch.zeros(2)}}
    written = {
        (checkpoint.write(tmp_path / str(i), 0, tensors, state, "seed: 0\n") / "ema.safetensors").read_bytes()
        for i in range(8)
    }
    assert len(written) == 1
