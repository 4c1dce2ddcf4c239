"""Metrics from the command line: of a run, of two folders, on several processes; mistakes."""

import json
from pathlib import Path

import pytest
import torch

from dist_gan.data import Generated
from dist_gan.run import checkpoint
from dist_gan.run.scores import images_of, read_scores
from dist_gan.sampling.pictures import save_image
from tests.support.commands import command, score
from tests.support.runs import SMALL, run

pytestmark = pytest.mark.usefixtures("own_statistics")
CPU = torch.device("cpu")
FID = "{name: fid, features: {name: pixels, side: 4}, images: 60, every: 640}"
KID = "{name: kid, features: {name: pixels, side: 4}, images: 60, every: 1280, subsets: 2, subset_size: 20}"
JUDGED = [f"evaluate=[{FID}, {KID}]", "data.count=150"]


def saved(folder: Path) -> list[int]:
    return [images_of(path) for path in checkpoint.existing(folder / "checkpoints")]


def test_score_finds_what_the_run_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    assert run(folder, 2560, *JUDGED, "save.keep=9") == 0
    known = read_scores(folder)
    (folder / "scores.json").unlink()
    out = tmp_path / "scores.json"
    assert score.main([str(folder), "which=all", f"out={out}"]) == 0
    again = read_scores(folder)
    assert list(again) == saved(folder) == [1280, 2560]
    for images, numbers in again.items():
        assert {key: numbers[key] for key in known[images]} == known[images]
    assert {int(images): numbers for images, numbers in json.loads(out.read_text()).items()} == again
    printed = capsys.readouterr().out
    assert "images seen" in printed
    assert "60 images of the average of G against 150 real ones" in printed

    assert score.main([str(folder), "metrics=precision,mind", "images=50", "reals=40", "weights=newest"]) == 0
    added = read_scores(folder)[2560]
    kid = {"kid,subsets=2,subset_size=20", "kid_std,subsets=2,subset_size=20"}
    assert {key.split("/")[0] for key in added} == {"fid", "precision", "recall", "mind"} | kid
    assert score.main([str(checkpoint.existing(folder / "checkpoints")[0]), "metrics=fid", "images=50"]) == 0


def pictures(folder: Path, source: Generated, first: int, last: int) -> Path:
    folder.mkdir()
    for index, image in enumerate(source.open(CPU).images[first:last]):  # type: ignore[attr-defined]
        save_image(image, folder / f"{index:04d}.png")
    return folder


def test_score_of_two_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = pictures(tmp_path / "a", Generated(size=16, count=300), 0, 100)
    b = pictures(tmp_path / "b", Generated(size=16, count=300), 100, 250)
    out = tmp_path / "out.json"
    options = ["features={name: pixels, side: 4}", "metrics=fid,density_coverage", f"out={out}"]
    assert score.main([f"folder={a}", f"against={b}", *options]) == 0
    (numbers,) = json.loads(out.read_text()).values()
    assert [key.split("/")[0] for key in numbers] == ["fid", "density", "coverage"]
    assert all("/100-images-vs-150-train-" in key for key in numbers)
    near = numbers[next(iter(numbers))]
    assert score.main([f"folder={a}", f"against={a}", *options]) == 0
    assert next(iter(json.loads(out.read_text())[str(a)].values())) == pytest.approx(0, abs=1e-9)
    assert near > 1e-4
    capsys.readouterr()

    one = pictures(tmp_path / "one", Generated(size=16, count=2), 0, 1)
    other = pictures(tmp_path / "other", Generated(size=8, count=20), 0, 20)
    (other / "x.png").write_bytes((one / "0000.png").read_bytes())
    (tmp_path / "none").mkdir()
    written = out.read_text()
    for arguments, says in (
        ([f"folder={one}", f"against={b}"], "1 images are too few: a covariance needs at least 2"),
        ([f"folder={other}", f"against={b}"], "have several sizes: 0000.png is 8x8, x.png 16x16"),
        ([f"folder={a}", f"against={tmp_path}/none"], "none"),
        ([f"folder={a}", "against=mnst"], "did you mean mnist?"),
        ([f"folder={a}"], "give a run's folder, or two sets of images"),
        ([str(tmp_path), f"against={b}"], "give a run, or folder=A against=B, not both"),
        ([f"folder={a}", f"against={b}", "metrics=fit"], "metrics: expected some of fid, kid"),
        (
            [f"folder={a}", f"against={b}", "metrics=kid"],
            "subset_size=1000 (a key of kid",
        ),
        ([f"folder={a}", f"against={b}", "out=x.txt"], "out: expected a name that ends in .json"),
        ([f"folder={a}", f"against={b}", "split=test"], "split: folder has no split 'test'"),
        ([str(tmp_path / "none")], "is neither a checkpoint nor a run with one"),
    ):
        assert (
            score.main([*options[:1], *arguments] if arguments[0][0] == "f" else [arguments[0], *arguments[1:]]) == 2
        ), says
        error = capsys.readouterr().err
        assert says in error
        assert error.count("\n") == 1
    assert out.read_text() == written


@pytest.mark.slow
def test_the_same_numbers_under_a_launcher(tmp_path: Path) -> None:
    """Two processes train and judge, then two score what one trained."""
    assert run(tmp_path / "one", 1280, *JUDGED) == 0
    two = command("dist_gan/train.py", *SMALL, *JUDGED, f"run={tmp_path / 'two'}", "images=1280", "exact=true", ranks=2)
    assert two.returncode == 0, two.stderr[-3000:]
    assert run(tmp_path / "exact", 1280, *JUDGED, "exact=true") == 0
    assert read_scores(tmp_path / "two") == read_scores(tmp_path / "exact")
    known = read_scores(tmp_path / "one")
    done = command("-m", "dist_gan.score", str(tmp_path / "one"), f"out={tmp_path / 'x.json'}", ranks=2)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((tmp_path / "x.json").read_text())["1280"] == known[1280]
