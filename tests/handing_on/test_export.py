"""`python -m dist_gan.export`: the folder makes what the run makes, and a mistake is a sentence that leaves nothing."""

import errno
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dist_gan import load_generator, samples
from dist_gan.errors import CheckpointError, ConfigError
from dist_gan.run import checkpoint
from dist_gan.run.restore import class_names
from tests.support.commands import command, export, sample
from tests.support.runs import SMALL, SMALL_DCGAN, newest, run

KINDS = {
    "mlp": SMALL,
    "dcgan": SMALL_DCGAN,
    "conditional": [*SMALL, "networks.conditional=true"],
    "fp64": [*SMALL, "precision=fp64"],
}


@pytest.fixture(scope="module", params=KINDS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param) / "trained"
    assert run(folder, 256, small=KINDS[request.param]) == 0
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two checkpoints."""
    folder = tmp_path_factory.mktemp("plain") / "trained"
    assert run(folder, 256) == 0
    assert run(folder, 512) == 0
    return folder


@pytest.fixture(scope="module")
def model(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model") / "model"
    assert export.main([str(plain), f"out={out}"]) == 0
    return out


def images(path: Path, **options: Any) -> torch.Tensor:
    return torch.cat(list(samples(load_generator(path, "cpu", **options), 37, seed=3)))


def listed(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def mistake(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> str:
    capsys.readouterr()
    assert export.main(arguments) == code
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("dist_gan.export: ")
    assert error.count("\n") == 1
    return error


def test_the_folder_makes_what_the_run_makes(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "model"
    out.mkdir(parents=True)  # an empty one is taken
    assert export.main([str(trained), f"out={out}"]) == 0
    assert listed(out) == ["README.md", "config.json", "generator.safetensors", "samples.png"]
    assert listed(out.parent) == ["model"]
    expected, names = load_generator(trained, "cpu"), class_names(newest(trained).path)
    moved = shutil.move(out, tmp_path / "moved")
    weights = load_generator(moved, "cpu").state_dict()
    assert weights.keys() == expected.state_dict().keys()
    for name, tensor in expected.state_dict().items():
        assert torch.equal(weights[name], tensor), name
        assert weights[name].dtype == tensor.dtype
    assert torch.equal(images(moved), images(trained))
    assert class_names(moved) == names
    for path, target in ((trained, "a.npy"), (moved, "b.npy")):
        assert sample.main([str(path), "count=20", f"out={tmp_path}/{target}"]) == 0
    assert (np.load(tmp_path / "a.npy") == np.load(tmp_path / "b.npy")).all()
    with Image.open(moved / "samples.png") as picture:
        wide, high = (4, 8) if expected.classes else (8, 8)
        assert picture.width * (high * (expected.shape.height + 2) + 2) == picture.height * (
            wide * (expected.shape.width + 2) + 2
        ), "a column is one of the four classes"


def test_which(plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, last = checkpoint.existing(plain / "checkpoints")
    assert export.main([str(plain), f"out={tmp_path}/a", "which=256"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/a (from {first})\n"
    assert torch.equal(images(tmp_path / "a"), images(first))
    assert not torch.equal(images(tmp_path / "a"), images(last))
    assert json.loads((tmp_path / "a/config.json").read_text())["images_seen"] == 256
    assert export.main([str(first), f"out={tmp_path}/b"]) == 0
    assert (tmp_path / "b/generator.safetensors").read_bytes() == (tmp_path / "a/generator.safetensors").read_bytes()
    with pytest.raises(ConfigError, match=r"which: .* is one model"):
        load_generator(tmp_path / "a", which="best")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["out=OUT/full"], "full holds files already, and nothing is replaced"),
        (["out=OUT/file"], "file is a file, and nothing is replaced"),
        (["out=OUT/file/x"], "out: cannot write "),
        ([], "out: give the folder that is to be written"),
        (["out=OUT/x", "which=300"], "which: expected last, best, or the images of a checkpoint (256, 512), got '300'"),
        (["out=OUT/x", "which=best"], "is known to be the best"),
        (["out=OUT/x", "licence=mit"], "did you mean license?"),
        (["out=OUT/x", "onnx=yes"], "onnx: expected true or false, got 'yes'"),
        (["out=OUT/x", "push=nobody"], "push: expected user/name, got 'nobody'"),
    ],
)
def test_mistakes_leave_nothing(
    plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").write_text("")
    (tmp_path / "file").write_text("")
    assert expected in mistake(capsys, 2, str(plain), *(text.replace("OUT", str(tmp_path)) for text in arguments))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "full", "mine"]


def test_no_run_and_a_full_disk(
    plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "is neither a checkpoint nor a run with one" in mistake(capsys, 2, str(tmp_path), f"out={tmp_path}/x")

    def full(*arguments: object) -> None:
        assert (tmp_path / ".tmp-x/generator.safetensors").exists()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("dist_gan.handing_on.folder.save_grid", full)
    assert "No space left on device" in mistake(capsys, 2, str(plain), f"out={tmp_path}/x")
    assert listed(tmp_path) == []


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("generator.safetensors", lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x")),
        ("generator.safetensors", lambda path: path.write_bytes(path.read_bytes()[:100])),
        ("generator.safetensors", Path.unlink),
        ("config.json", lambda path: path.write_bytes(path.read_bytes()[:100])),
        ("config.json", lambda path: path.write_text("[1]")),
        ("config.json", lambda path: path.write_text('{"model_type": "bert"}')),
        ("config.json", lambda path: change(path, image_shape=[1, 2])),
        ("config.json", lambda path: change(path, sha256={})),
    ],
)
def test_damage_is_named(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, damage: Any
) -> None:
    copy = Path(shutil.copytree(model, tmp_path / "model"))
    damage(copy / name)
    with pytest.raises(CheckpointError, match=name):
        load_generator(copy)
    capsys.readouterr()
    assert sample.main([str(copy), f"out={tmp_path}/x.png"]) == 3
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "x.png").exists()


def test_a_config_of_a_newer_version_with_other_files_or_for_other_networks(model: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(model, tmp_path / "model"))
    change(copy / "config.json", format=2, dist_gan="9.9")
    with pytest.raises(ConfigError, match=r"format 2.*use the one that wrote it \(9\.9\)"):
        load_generator(copy)
    known = json.loads((model / "config.json").read_text())["sha256"]
    change(copy / "config.json", format=1, sha256={**known, "code/../../x.py": "0"})
    with pytest.raises(CheckpointError, match=r"'code/\.\./\.\./x\.py' leaves the folder"):
        load_generator(copy)
    change(copy / "config.json", sha256=known, networks={"name": "mlp", "width": 5})
    with pytest.raises(CheckpointError, match="holds no generator that can be built"):
        load_generator(copy)


MINE = '''
from helper import doubled
from dist_gan.networks import MLP

class Wide(MLP):
    """An MLP of another name."""

    width: int = doubled(2)
'''


@pytest.mark.slow
def test_networks_of_ones_own_travel_only_when_asked_and_run_only_when_trusted(tmp_path: Path) -> None:
    """In processes of their own: in this one they would be known."""
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "helper.py").write_text("import os, json\n\ndef doubled(n):\n    return 2 * n\n")
    (tmp_path / "other.py").write_text("")
    small = [option for option in SMALL if "networks" not in option]
    where = {"cwd": tmp_path}
    done = command("-m", "dist_gan.train", *small, "networks.name=mine.py:Wide", "images=256", "run=r", **where)
    assert done.returncode == 0, done.stderr

    def exported(*arguments: str) -> Any:
        return command("-m", "dist_gan.export", "r", *arguments, **where)

    def sampled(path: str, *arguments: str, **options: Any) -> Any:
        return command("-m", "dist_gan.sample", path, f"out={tmp_path}/x.npy", "count=5", *arguments, **options)

    refused = exported("out=a")
    assert refused.returncode == 2
    assert "trust_code=true" in refused.stderr
    assert not (tmp_path / "a").exists()
    assert exported("out=without", "trust_code=true").returncode == 0
    assert not (tmp_path / "without/code").exists()
    text = (tmp_path / "without/README.md").read_text()
    assert "`mine.py:Wide`, which is **not** in this folder" in text
    assert str(tmp_path) not in text + (tmp_path / "without/config.json").read_text()
    assert exported("out=with", "trust_code=true", "code=true").returncode == 0
    assert listed(tmp_path / "with/code") == ["helper.py", "mine.py"]
    config = json.loads((tmp_path / "with/config.json").read_text())
    assert config["networks"]["name"] == "code/mine.py:Wide"
    assert sampled("r", "trust_code=true", **where).returncode == 0
    expected = (tmp_path / "x.npy").read_bytes()

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("mine.py", "helper.py"):
        (tmp_path / name).rename(elsewhere / name)
    refused = sampled(str(tmp_path / "with"))
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "code/mine.py:Wide is code that this config" in refused.stderr
    trusted = sampled(str(tmp_path / "with"), "trust_code=true")
    assert trusted.returncode == 0, trusted.stderr
    assert (tmp_path / "x.npy").read_bytes() == expected
    missing = sampled(str(tmp_path / "without"), "trust_code=true")
    assert missing.returncode == 2
    assert "cannot read mine.py" in missing.stderr
    assert sampled(str(tmp_path / "without"), "trust_code=true", cwd=elsewhere).returncode == 0
    assert (tmp_path / "x.npy").read_bytes() == expected

    (tmp_path / "with/code/helper.py").write_text("print('executed')")
    changed = sampled(str(tmp_path / "with"), "trust_code=true")
    assert (changed.returncode, changed.stdout) == (3, "")
    assert "code/helper.py is damaged" in changed.stderr


def test_without_the_hubs_client(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"no folder here, and a model of the .* pip install huggingface_hub"):
        load_generator("some/body")
    assert "push: needs the Hugging Face Hub's client" in mistake(capsys, 2, str(model), "push=some/body")
    (tmp_path / "some").mkdir()
    for path in ("some/body", "some", "a/b/c", "../a", "/a/b"):
        with pytest.raises(ConfigError, match="neither a checkpoint nor a run"):
            load_generator(path)
