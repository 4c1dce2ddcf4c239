"""A run with several averages of G: each is kept, sampled, judged, and can be chosen; one alone is as it was."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from dist_gan import load_generator
from dist_gan.config.command_line import dump, load, parse
from dist_gan.config.explain import help_text
from dist_gan.config.schema import Config
from dist_gan.errors import CheckpointError, ConfigError
from dist_gan.metrics.metric import Metric
from dist_gan.metrics.protocol import Protocol, parsed
from dist_gan.optim.ema import EMA
from dist_gan.optim.names import NAMES
from dist_gan.run import checkpoint
from dist_gan.run.scores import best_key, read_scores
from tests.support.commands import export, sample, score
from tests.support.runs import assert_same, newest, run

pytestmark = pytest.mark.usefixtures("own_statistics")
TWO = "ema=[{half_life_images: 200, ramp: 0}, {half_life_images: 5000, ramp: 0}]"
ONE = "{name: fid, features: {name: pixels, side: 4}, images: 60, every: 640}"
LESS, SECOND = ONE.replace("60", "50"), ONE.replace("every", "weights: ema_2, every")
FID = f"evaluate=[{ONE}]"
JUDGED = [FID, "data.count=150"]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two averages that was judged by the second."""
    folder = tmp_path_factory.mktemp("two") / "run"
    assert run(folder, 2560, TWO, *JUDGED, "save={every: 1280, best: fid@ema_2}") == 0
    return folder


def mistakes(*overrides: str) -> str:
    try:
        found = load(None, list(overrides)).mistakes(1)
    except ConfigError as error:
        return str(error)
    return "\n".join(found)


def test_one_is_written_as_one_and_a_list_of_one_is_the_same() -> None:
    one, listed = load(None, ["ema.half_life_images=5"]), load(None, ["ema=[{half_life_images: 5}]"])
    assert one == listed == parse(dump(one))
    assert one.ema == EMA(half_life_images=5)
    assert "\nema:\n  half_life_images: 5\n" in dump(one)
    assert one.identity() == listed.identity() == Config(ema=EMA(half_life_images=5)).identity()


def test_a_list_is_read_and_written() -> None:
    two = load(None, [TWO, "ema.1.half_life_images=7"])
    assert two.ema == (EMA(half_life_images=200, ramp=0), EMA(half_life_images=7, ramp=0))
    assert parse(dump(two)) == two
    assert Config(ema=list(two.ema)).ema == two.ema


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["ema.halflife_images=5"], "ema.halflife_images: unknown key; did you mean ema.half_life_images?"),
        ([TWO, "ema.1.rampe=5"], "ema.1.rampe: unknown key; did you mean ema.1.ramp?"),
        (["ema=[{half_life_images: -1}, {}]"], "ema.0.half_life_images: expected greater than or equal to 0, got -1"),
        (["ema.half_life_images=x"], "ema.half_life_images: expected a whole number, got 'x'"),
        ([TWO, "ema.half_life_images=5"], "ema.half_life_images: there are 2 items, numbered from 0"),
        (["ema.1.ramp=0"], "ema.1: unknown key: ema is one here, no list. For several set ema=[{...}, {...}] first"),
        (["ema.schedule.1=0"], "ema.schedule.1: unknown key; known here: name"),
        (["ema=[]"], "ema: expected one average, or a list of 1 to 4, got []"),
        (["ema=[{}, {}, {}, {}, {}]"], "ema: expected one average, or a list of 1 to 4, got [{"),
        (["ema=5"], "ema: "),
        ([FID.replace("every", "weights: ema_2, every")], "evaluate.0.weights: there is no ema_2 here; ema has ema"),
        ([FID, "save.best=fid@ema_2"], "save.best: expected one of fid, got 'fid@ema_2'"),
        ([FID, TWO, "save.best=fid@ema_3"], "save.best: expected one of fid, fid@ema_2, got 'fid@ema_3'"),
        (
            [TWO, f"evaluate=[{ONE}, {LESS}]", "save.best=fid"],
            "save.best: expected one of fid@0, fid@0@ema_2, fid@1, fid@1@ema_2, got 'fid'",
        ),
    ],
)
def test_mistakes_are_one_clear_line(overrides: list[str], says: str) -> None:
    found = mistakes("data.name=generated", *overrides)
    assert says in found
    assert "\n" not in found
    assert "<" not in found


def test_help_shows_the_keys_once() -> None:
    assert help_text(Config()).count("ema.half_life_images") == 1
    assert help_text(load(None, [TWO])).count("ema.half_life_images") == 1


@pytest.mark.parametrize(
    ("best", "weights"),
    [("fid", "ema"), ("fid@ema", "ema"), ("fid@ema_2", "ema_2"), ("fid@0@ema_2", "ema_2"), ("fid@pixels@ema", "ema")],
)
def test_which_average_the_best_checkpoint_is_chosen_by(best: str, weights: str) -> None:
    config = load(None, ["data.name=generated", TWO, *JUDGED, f"save.best={best}"])
    assert config.mistakes(1) == []
    found = config.best_metric()
    assert found is not None
    assert found[0].weights == weights
    assert [metric.weights for metric in config.judged] == ["ema", "ema_2"]


@pytest.mark.parametrize("number", [0, 1])
def test_what_is_asked_twice_is_one_metric(number: int) -> None:
    """Of the second average: because there are two, and by its name."""
    twice = f"evaluate=[{ONE}, {SECOND}]"
    for best, weights in {f"fid@{number}": NAMES[number], "fid@ema_2": "ema_2", "fid@ema": "ema"}.items():
        config = load(None, ["data.name=generated", TWO, twice, f"save.best={best}"])
        assert config.mistakes(1) == []
        found = config.best_metric()
        assert found is not None
        assert found[0].weights == weights
        assert [metric.weights for metric in config.judged] == ["ema", "ema_2"]


def test_a_metric_of_other_weights_is_computed_once() -> None:
    only = FID.replace("every", "weights: WEIGHTS, every")
    for weights in ("newest", "ema_2"):
        config = load(None, ["data.name=generated", TWO, only.replace("WEIGHTS", weights)])
        assert [metric.weights for metric in config.judged] == [weights]


def test_begin_from_warns_of_each_that_forgets() -> None:
    config = load(None, ["begin_from=x", "ema=[{ramp: 0}, {begin: 5}, {ramp: 0, begin: 7}]"])
    found = [line for line in config.unwise() if "begin_from" in line]
    assert [line.split()[1] for line in found] == ["ema_2.ramp", "ema_2.begin", "ema_3.begin"]


def test_names_agree() -> None:
    literal = Metric.model_fields["weights"].annotation
    assert (*NAMES, "newest") == literal.__args__  # type: ignore[union-attr]
    protocol = Protocol("digits", "0a1b2c3d", "none", 5000, "ema_2", 60000, "train", "1a2b3c4d")
    assert parsed(protocol.key("fid")) == ("fid", protocol)
    assert protocol.text().startswith("5,000 images of the average ema_2 of G against 60,000 real ones")


def test_each_is_in_the_checkpoint_sampled_and_judged(two: Path) -> None:
    saved = newest(two)
    assert {"ema", "ema_2"} == {file for file in saved.tensors if file.startswith("ema")}
    assert saved.tensors["ema"].keys() == saved.tensors["ema_2"].keys()
    assert any(not torch.equal(saved.tensors["ema"][k], saved.tensors["ema_2"][k]) for k in saved.tensors["ema"])
    pictures = {path.name for path in (two / "samples").iterdir()} - {"real.png"}
    assert pictures == {f"{n:012d}{which}.png" for n in (0, 1280, 2560) for which in ("", "-ema_2")}
    first, second = (Image.open(two / "samples" / f"000000002560{which}.png").tobytes() for which in ("", "-ema_2"))
    assert first != second
    for numbers in read_scores(two).values():
        assert [protocol.weights for _, protocol in filter(None, map(parsed, numbers))] == ["ema", "ema_2"]
        assert len(set(numbers.values())) == 2
    assert "/60-ema_2-vs-150" in best_key(two)
    lines = [json.loads(line) for line in (two / "metrics.jsonl").read_text().splitlines()]
    assert {(line["EMA/half_life_images"], line["EMA_2/half_life_images"]) for line in lines if "D/loss" in line} == {
        (200, 5000)
    }


def test_the_first_is_what_a_run_with_one_has(two: Path, tmp_path: Path) -> None:
    """More averages change nothing of what is learnt."""
    assert run(tmp_path, 2560, TWO.replace(", {half_life_images: 5000, ramp: 0}", ""), "data.count=150") == 0
    alone, saved = newest(tmp_path), newest(two)
    assert saved.tensors.keys() - alone.tensors.keys() == {"ema_2"}
    assert_same(alone, saved)


def test_a_resume_is_bitwise(two: Path, tmp_path: Path) -> None:
    for images in (1000, 2560):
        assert run(tmp_path, images, TWO, "data.count=150") == 0
    assert_same(newest(tmp_path), newest(two))


def test_another_number_of_averages_is_another_run(two: Path, tmp_path: Path, capsys: Any) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(two, copy)
    assert run(copy, 3200, "ema={half_life_images: 200, ramp: 0}", "data.count=150") == 2
    assert "  - ema: " in capsys.readouterr().err


def test_one_is_chosen(two: Path, tmp_path: Path, capsys: Any) -> None:
    """To sample, to export, to score, and from Python."""
    tensors = newest(two).tensors
    for name in ("ema", "ema_2"):
        found = load_generator(two, "cpu", average=name).state_dict()
        assert all(torch.equal(found[key], tensor) for key, tensor in tensors[name].items())
        assert sample.main([str(two), f"average={name}", f"out={tmp_path}/{name}.png", "count=4"]) == 0
        assert export.main([str(two), f"average={name}", f"out={tmp_path}/{name}"]) == 0
        handed = load_generator(tmp_path / name, "cpu").state_dict()
        assert all(torch.equal(handed[key], tensor) for key, tensor in tensors[name].items())
        card = (tmp_path / name / "README.md").read_text()
        assert f"| average of G | `{name}` of 2 |" in card
        scores = json.loads((tmp_path / name / "config.json").read_text())["scores"]
        assert [protocol.weights for _, protocol in filter(None, map(parsed, scores))] == [name]
    assert (tmp_path / "ema.png").read_bytes() != (tmp_path / "ema_2.png").read_bytes()
    assert sample.main([str(two), f"out={tmp_path}/default.png", "count=4"]) == 0
    assert (tmp_path / "ema.png").read_bytes() == (tmp_path / "default.png").read_bytes()

    known = read_scores(two)[2560]
    out = tmp_path / "scores.json"
    for name in ("ema", "ema_2"):
        assert score.main([str(two), f"weights={name}", f"out={out}"]) == 0
        (numbers,) = json.loads(out.read_text()).values()
        assert numbers == {key: value for key, value in known.items() if f"-{name}-vs" in key}


def test_one_that_is_not_there(two: Path, tmp_path: Path, capsys: Any) -> None:
    capsys.readouterr()
    for command, more in ((sample, ["count=1", f"out={tmp_path}/a.png"]), (export, [f"out={tmp_path}/a"])):
        assert command.main([str(two), "average=ema_3", *more]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "has ema, ema_2; got 'ema_3'" in error
    assert score.main([str(two), "weights=ema_3"]) == 2
    assert "has ema, ema_2, newest; got 'ema_3'" in capsys.readouterr().err
    assert export.main([str(two), f"out={tmp_path}/model"]) == 0
    with pytest.raises(ConfigError, match=r"^average: .*model is one model"):
        load_generator(tmp_path / "model", average="ema_2")


def test_from_two_files(two: Path, tmp_path: Path) -> None:
    """The file of the average that is asked for must lie there."""
    for name in ("ema.safetensors", "config.yaml"):
        shutil.copy(checkpoint.existing(two / "checkpoints")[-1] / name, tmp_path)
    assert load_generator(tmp_path, "cpu").latent
    with pytest.raises(ConfigError, match="has ema; got 'ema_2'"):
        load_generator(tmp_path, "cpu", average="ema_2")
    save_file({"a": torch.ones(1)}, tmp_path / "ema_2.safetensors")
    with pytest.raises(CheckpointError, match=r"ema_2\.safetensors has no entry classes"):
        load_generator(tmp_path, "cpu", average="ema_2")
    shutil.copy(checkpoint.existing(two / "checkpoints")[-1] / "ema_2.safetensors", tmp_path)
    found = load_generator(tmp_path, "cpu", average="ema_2").state_dict()
    assert all(torch.equal(found[k], tensor) for k, tensor in newest(two).tensors["ema_2"].items())


def test_begin_from(two: Path, tmp_path: Path) -> None:
    """Each from its own; one that the parent does not have from the first."""
    never = "{half_life_images: 1000000000000, ramp: 0}"
    assert run(tmp_path, 64, f"begin_from={two}", f"ema=[{never}, {never}, {never}]", "data.count=150") == 0
    begun, parent = newest(tmp_path).tensors, newest(two).tensors
    for own, given in (("ema", "ema"), ("ema_2", "ema_2"), ("ema_3", "ema")):
        for key, tensor in parent[given].items():
            torch.testing.assert_close(begun[own][key], tensor, rtol=1e-6, atol=1e-8)
