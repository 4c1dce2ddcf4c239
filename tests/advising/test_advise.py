"""The command: folders unlike each other, the config that it writes for them, and that it can be run."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dist_gan.advising import advice
from dist_gan.config.command_line import load
from dist_gan.config.reading import read_yaml
from tests.data.pictures import damaged, picture, save
from tests.support.commands import advise, doctor, train

DOCTOR = ["track.wandb=disabled"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DIST_GAN_DATA", str(tmp_path / "data"))


def few(folder: Path) -> None:
    """Colored, one size, no classes, one copy."""
    for number in range(40):
        save(folder, f"{number}.png", picture(number, 64, 64))
    shutil.copy(folder / "7.png", folder / "copy.png")


def many(folder: Path) -> None:
    """Gray but saved as RGB, small, two classes, one damaged file, all brighter on the left."""
    random = np.random.default_rng(0)
    for number in range(400):
        cells = random.integers(0, 160, (28, 28), dtype=np.uint8)
        cells[:, :9] += 90
        save(folder, f"{'even' if number % 2 == 0 else 'odd'}/{number}.png", Image.fromarray(cells).convert("RGB"))
    damaged(folder, "odd/broken.png")


def clear(folder: Path) -> None:
    """RGBA, bright, of one long shape, in portions."""
    for number in range(120):
        image = picture(number, 120, 60).point(lambda value: 200 + value // 5).convert("RGBA")
        image.paste((0, 0, 0, 0), (0, 0, 20, 20))
        image.paste((0, 0, 0, 0), (100, 0, 120, 20))
        save(folder, f"part{number % 2}/{number}.png", image)


def mixed(folder: Path) -> None:
    """JPEG of many sizes and shapes, some gray, some almost the same, some in no sub-folder."""
    for number in range(60):
        image = picture(number, *((40 + number, 150) if number % 2 else (150, 40 + number)))
        save(folder, f"{'' if number % 3 else 'more/'}{number}.jpg", image.convert("L") if number % 5 == 0 else image)
    save(folder, "again.jpg", picture(1, 41, 150), quality=40)


FOLDERS = {
    "few": (few, {"size": 32, "channels": 3, "fit": "crop", "flip": True, "labels": False}),
    "many": (many, {"size": 32, "channels": 1, "fit": "crop", "flip": False, "labels": True, "skip_broken": True}),
    "clear": (clear, {"size": "32x64", "channels": 3, "background": "black", "fit": "crop", "labels": False}),
    "mixed": (mixed, {"size": 32, "channels": 3, "fit": "pad", "background": "white", "labels": False}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FOLDERS)
def test_what_is_written_can_be_run(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It loads, has no mistakes, the doctor finds no problem, and its debug run goes through."""
    make, expected = FOLDERS[name]
    make(tmp_path / name)
    before = sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / name).rglob("*"))
    assert advise.main([name, "gpu=no"]) == 0
    assert sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / name).rglob("*")) == before
    said = capsys.readouterr().out
    assert f"written to {name}.yaml" in said
    assert f"python -m dist_gan.doctor {name}.yaml" in said
    data = read_yaml((tmp_path / f"{name}.yaml").read_text())["data"]
    assert {key: data.get(key) for key in expected} == expected
    config = load(tmp_path / f"{name}.yaml")
    assert (config.mistakes(1), config.unwise()) == ([], [])
    assert doctor.main([f"{name}.yaml", *DOCTOR]) == 0
    examined = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("images"))
    assert examined.split()[1] == "ok", examined
    try:
        assert train.main([f"{name}.yaml", "debug=true", "track.wandb=disabled", "networks.width=4"]) == 0
    finally:
        torch.autograd.set_detect_anomaly(False)
        torch.use_deterministic_algorithms(False)


NARROW = {
    "6": ("sngan", ["networks.width=4"]),
    "24": ("stylegan2", ["networks.channel_max=8", "networks.latent=16", "networks.style=16"]),
    "80": ("r3gan", ["networks.width=32", "networks.latent=8"]),
}
"""By the GB of a GPU: the networks, and what makes them small."""


@pytest.mark.slow
@pytest.mark.parametrize("gpu", NARROW)
def test_what_is_written_for_gpus_can_be_run(gpu: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As above, made narrow and small; 41 images count as many for the largest."""
    if gpu == "80":
        monkeypatch.setattr(advice, "FEW_IMAGES", 10)
    few(tmp_path / "few")
    assert advise.main(["few", f"gpu={gpu}"]) == 0
    networks, narrow = NARROW[gpu]
    assert load(tmp_path / "few.yaml").networks.name == networks
    less = ["data.size=16", "batch_size=16", "evaluate=[]", "save.best=''", "track.wandb=disabled"]
    try:
        assert train.main(["few.yaml", "debug=true", *narrow, *less]) == 0
    finally:
        torch.autograd.set_detect_anomaly(False)
        torch.use_deterministic_algorithms(False)


def test_what_was_seen_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for make in (many, few):
        make(tmp_path / make.__name__)
        assert advise.main([make.__name__, "gpu=no", f"out={make.__name__}-2.yml"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for fact in (
        "images 400 of 401 files",
        "sizes all 28x28 (width x height)",
        "colors all gray",
        "classes 2 sub-folders of 200 to 201 images: even, odd",
        "cannot be read 1: odd/broken.png (image file is truncated)",
        "colors 0 gray, 41 colored",
        "copies 1 the same as an earlier one, 0 almost: copy.png as 7.png",
        "classes none: some images are in no sub-folder",
    ):
        assert fact in said


def test_nothing_is_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few(tmp_path / "few")
    (tmp_path / "few.yaml").write_text("mine")
    assert advise.main(["few"]) == 2
    assert capsys.readouterr().err == (
        "dist_gan.advise: out: few.yaml exists already, and nothing is replaced. Give another name: out=NAME.yaml\n"
    )
    assert (tmp_path / "few.yaml").read_text() == "mine"
    assert advise.main(["few", "out=other.yaml"]) == 0
    assert (tmp_path / "other.yaml").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none"], "none is not a folder"),
        (["few", "out=x.txt"], "out: expected a name that ends in .yaml"),
        (["few", "out=none/x.yaml"], "out: there is no folder"),
        (["few", "gpu=fast"], "gpu: expected auto, no, or the GB of one GPU, such as gpu=24, got 'fast'"),
        (["few", "otu=x.yaml"], "did you mean out?"),
        (["."], "is inside"),
        (["three"], "3 images, and a GAN needs 16 at the very least"),
    ],
)
def test_what_cannot_be_done(
    tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    few(tmp_path / "few")
    for number in range(3):
        save(tmp_path, f"three/{number}.png", picture(number))
    assert advise.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("dist_gan.advise: ")
    assert message in error
    assert "Traceback" not in error
    assert not list(tmp_path.glob("*.yaml"))


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert advise.main(["--help"]) == 0
    assert "gpu=auto" in capsys.readouterr().out
    assert advise.main([]) == 2


def test_a_folder_of_any_name(tmp_path: Path) -> None:
    few(tmp_path / "my photos: été")
    assert advise.main(["my photos: été/", "gpu=no"]) == 0
    config = load(tmp_path / "my_photos_t.yaml")
    assert (config.run, config.data.path) == ("runs/my_photos_t", "my photos: été/")
