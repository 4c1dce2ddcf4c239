"""`python -m dist_gan.sample`: classes, kinds of files, memory, and every mistake as a sentence."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dist_gan.run.restore import load_generator
from dist_gan.sampling import generate
from dist_gan.sampling.asked import asked_classes
from dist_gan.sampling.generate import sample_latents
from dist_gan.sampling.pictures import save_grid, save_image
from tests.support.commands import command, sample
from tests.support.runs import SMALL, SMALL_STYLEGAN2, run


def array(folder: Path, out: Path, *options: str) -> np.ndarray:
    assert sample.main([str(folder), f"out={out}", *options]) == 0
    return np.load(out)


def mistake(capsys: pytest.CaptureFixture[str], folder: Path, *options: str) -> str:
    capsys.readouterr()
    assert sample.main([str(folder), *options]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.count("\n") == 1
    assert "Traceback" not in error
    return error


def test_columns_are_classes(conditional: Path, tmp_path: Path) -> None:
    both = array(conditional, tmp_path / "a.npy", "classes=3,1", "per_class=5")
    assert both.shape == (10, 8, 8, 1)
    generator = load_generator(conditional, "cpu")
    latents = sample_latents(0, range(10), generator.latent)
    expected = generate.generate(generator, latents, torch.tensor([3, 1] * 5)).permute(0, 2, 3, 1)
    assert (both == expected.numpy()).all()
    everything = array(conditional, tmp_path / "b.npy", "classes=all")
    assert len(everything) == 4 * 8
    assert (array(conditional, tmp_path / "c.npy", "count=32") == everything).all(), "all classes are the default"
    assert (array(conditional, tmp_path / "d.npy", "classes=all", "count=6") == everything[:6]).all()
    assert sample.main([str(conditional), "classes=0,1,2", "per_class=2", f"out={tmp_path}/grid.png"]) == 0
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.size == (32 * 16, 22 * 16), "three columns, two rows"


def test_a_strip_keeps_its_class(conditional: Path, tmp_path: Path) -> None:
    strips = array(conditional, tmp_path / "a.npy", "count=20", "interpolate=3")
    of_0 = array(conditional, tmp_path / "b.npy", "classes=0", "count=21")
    of_2 = array(conditional, tmp_path / "c.npy", "classes=2", "count=21")
    assert len(strips) == 60
    assert (strips[::3] == of_0[:20]).all()
    assert (strips[2::3] == of_0[1:]).all()
    assert (array(conditional, tmp_path / "d.npy", "count=20", "interpolate=3", "classes=2")[::3] == of_2[:20]).all()
    assert (of_0 != of_2).any()


def test_networks_of_ones_own_are_executed_only_when_trusted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(
        'from dist_gan.networks import MLP\nprint(\'executed\')\nclass Mine(MLP):\n    """The same."""\n'
    )
    small = [option for option in SMALL if "networks" not in option]
    done = command(
        "-m", "dist_gan.train", *small, f"networks={{name: '{tmp_path}/mine.py:Mine', width: 4}}", "images=256",
        f"run={tmp_path}/r",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "/r trust_code=true" in done.stdout.replace("\n", "")
    refused = command("-m", "dist_gan.sample", f"{tmp_path}/r", f"out={tmp_path}/x.png")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "trust_code=true" in refused.stderr
    trusted = command("-m", "dist_gan.sample", f"{tmp_path}/r", f"out={tmp_path}/x.png", "trust_code=true")
    assert trusted.returncode == 0, trusted.stderr
    assert "executed" in trusted.stdout


def test_truncation_makes_images_more_alike(plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "styled", 256, small=SMALL_STYLEGAN2) == 0
    made = {psi: array(tmp_path / "styled", tmp_path / "a.npy", f"truncation={psi}") for psi in (1, 0.5, 0)}
    assert (made[1] == array(tmp_path / "styled", tmp_path / "b.npy")).all(), "1 is as trained"
    spread = [made[psi].astype(float).std(0).mean() for psi in (1, 0.5, 0)]
    assert spread[0] > spread[1] > spread[2] == 0
    assert "truncation: MLPGenerator has none" in mistake(capsys, plain, "truncation=0.5")
    assert "truncation: expected a number from 0 to 1, got 1.5" in mistake(capsys, plain, "truncation=1.5")
    assert "truncation: expected something like truncation=0.7" in mistake(capsys, plain, "truncation=half")


def test_names_numbers_and_all() -> None:
    names = ["cat", "dog", "0", "salt, pepper"]
    assert asked_classes("all", names) == [0, 1, 2, 3]
    assert asked_classes("dog, cat,3", names) == [1, 0, 3]
    assert asked_classes("0", names) == [2], "a name wins"
    assert asked_classes("salt, pepper", names) == [3]
    assert asked_classes("all", [*names, "all"]) == [4]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["classes="], "classes: expected something like classes=all, got 'classes='"),
        (["classes"], "classes: expected something like classes=all, got 'classes'"),
        (["classes=9"], r"classes: expected all, numbers from 0 to 3, or names \(.*\), got '9'"),
        (["classes=1,,2"], "got ''"),
        (["classes=-1"], "got '-1'"),
        (["per_class=0"], "per_class must be at least 1"),
        (["per_class=2", "count=4"], "per_class: give it or count, not both"),
        (["per_class=2", "interpolate=4"], "per_class: give it or interpolate, not both"),
        (["classes=1,2", "interpolate=4"], "classes: one class for interpolate, got 2"),
        (["seed=9223372036854775808"], "seed: at most 9,223,372,036,854,775,807, got 9223372036854775808"),
        (["seed=-1"], "seed: expected something like seed=0, got 'seed=-1'"),
        (["count=99999999999999999999"], "count: at most 1,000,000,000,000"),
        (["trust_code=yes"], "trust_code: expected true or false, got 'yes'"),
        (["cuont=3"], "did you mean count?"),
        (["out=x.gif"], r"out: cannot write a file ending in .gif. Expected .png, .jpg, .jpeg, .webp \(a grid\), .npy"),
        (["out=runs/v1.5"], "a folder: a name without an ending, or runs/v1.5/"),
    ],
)
def test_mistakes(conditional: Path, capsys: pytest.CaptureFixture[str], options: list[str], expected: str) -> None:
    assert re.search(expected.replace("?", r"\?"), mistake(capsys, conditional, *options))


def test_a_run_without_classes_has_none(plain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("classes=all", "per_class=3"):
        assert "this run has no classes" in mistake(capsys, plain, option)


def test_a_folder_and_a_file_are_never_taken_for_each_other(
    plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.png").mkdir()
    assert "x.png is a folder" in mistake(capsys, plain, f"out={tmp_path}/x.png")
    (tmp_path / "file").write_text("")
    assert "file is a file" in mistake(capsys, plain, f"out={tmp_path}/file")
    assert sample.main([str(plain), "count=2", f"out={tmp_path}/v1.5/"]) == 0
    assert sorted(path.name for path in (tmp_path / "v1.5").iterdir()) == ["000000.png", "000001.png"]


@pytest.mark.parametrize(("ending", "kind"), [(".jpg", "JPEG"), (".JPEG", "JPEG"), (".webp", "WEBP"), (".png", "PNG")])
def test_files_are_what_their_names_say(plain: Path, tmp_path: Path, ending: str, kind: str) -> None:
    assert sample.main([str(plain), "count=4", f"out={tmp_path}/new/x{ending}"]) == 0
    with Image.open(tmp_path / f"new/x{ending}") as image:
        assert image.format == kind
        assert image.size == (22 * 24, 22 * 24)
    assert [path.name for path in (tmp_path / "new").iterdir()] == [f"x{ending}"]


def test_an_array_holds_what_single_files_do(plain: Path, tmp_path: Path) -> None:
    images = array(plain, tmp_path / "a.npy", "count=37", "seed=5")
    assert images.shape == (37, 8, 8, 1)
    assert images.dtype == np.uint8
    assert sample.main([str(plain), "count=37", "seed=5", f"out={tmp_path}/files"]) == 0
    files = sorted((tmp_path / "files").iterdir())
    assert (np.stack([np.asarray(Image.open(path)) for path in files])[..., None] == images).all()


@pytest.mark.parametrize("out", ["folder", "array.npy"])
def test_memory_does_not_grow_with_the_count(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    """Never are more latents drawn or images made than are written next."""
    drawn: list[int] = []
    made: list[int] = []

    def counting(function: Callable[..., torch.Tensor], sizes: list[int]) -> Callable[..., torch.Tensor]:
        def counted(*arguments: object, **options: object) -> torch.Tensor:
            result = function(*arguments, **options)
            sizes.append(len(result))
            return result

        return counted

    monkeypatch.setattr("dist_gan.sampling.samples.sample_latents", counting(sample_latents, drawn))
    monkeypatch.setattr(generate, "to_uint8", counting(generate.to_uint8, made))
    assert sample.main([str(plain), "count=500", f"out={tmp_path}/{out}"]) == 0
    assert sum(drawn) == sum(made) == 500
    assert max(drawn + made) <= 64


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "L"), (3, "RGB"), (4, "RGB"), (7, "RGB")])
def test_any_number_of_channels_is_shown(tmp_path: Path, channels: int, mode: str) -> None:
    images = torch.randint(0, 256, (3, channels, 5, 6), dtype=torch.uint8)
    save_image(images[0], tmp_path / "one.png")
    with Image.open(tmp_path / "one.png") as image:
        assert (image.mode, image.size) == (mode, (6, 5))
        assert (
            np.asarray(image).reshape(5, 6, -1) == images[0, : 1 if mode == "L" else 3].permute(1, 2, 0).numpy()
        ).all()
    save_grid(images, tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as image:
        assert max(image.size) >= 512


@pytest.mark.parametrize(
    ("side", "columns", "factor", "size"),
    [(1, 3, 37, (407, 518)), (30, 4, 4, (520, 392)), (125, 4, 2, (1020, 766)), (126, 4, 1, (514, 386))],
)
def test_small_grids_are_enlarged_by_a_whole_factor(
    tmp_path: Path, side: int, columns: int, factor: int, size: tuple[int, int]
) -> None:
    images = torch.randint(0, 256, (12, 3, side, side), dtype=torch.uint8)
    save_grid(images, tmp_path / "a.png", columns)
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == size
        pixels = np.asarray(image)
    first = pixels[2 * factor : (2 + side) * factor, 2 * factor : (2 + side) * factor]
    expected = images[0].permute(1, 2, 0).numpy()
    for row in range(factor):
        assert (first[row::factor, ::factor] == expected).all()
        assert (first[::factor, row::factor] == expected).all()


def test_one_class_is_a_square(conditional: Path, tmp_path: Path) -> None:
    assert sample.main([str(conditional), "classes=3", "count=9", f"out={tmp_path}/grid.png"]) == 0
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.size == (32 * 16, 32 * 16), "three columns, three rows"


def test_which_checkpoint(conditional: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sample.main([str(conditional), "count=2", f"out={tmp_path}/a.png", "which=256"]) == 0
    assert "images-000000000256)" in capsys.readouterr().out
    assert "which: no checkpoint of" in mistake(capsys, conditional, "which=best")
    assert "got '3'" in mistake(capsys, conditional, "which=3")
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("ema.safetensors", "config.yaml"):
        shutil.copy(conditional / "checkpoints" / "images-000000000256" / name, bare)
    assert "bare is one model" in mistake(capsys, bare, "which=256")
