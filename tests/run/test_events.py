"""What a user adds to the log and to the clock: one class and one line each, through `train` itself."""

import json
from pathlib import Path
from typing import Any

import pytest

from dist_gan import Config, train
from dist_gan.run import checkpoint
from tests.support import own_parts
from tests.support.runs import assert_same


def config(run: Path, images: int, **more: Any) -> Config:
    blocks = {
        "data": {"name": "generated", "size": 8},
        "networks": {"name": "mlp", "width": 4},
        "track": {"every": 640, "wandb": "disabled"},
        "sample": {"every": 100_000, "count": 4},
        "save": {"every": 640},
    }
    return Config.model_validate({"run": str(run), "images": images, **blocks, **more})


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def newest(run: Path) -> checkpoint.Checkpoint:
    return checkpoint.read(checkpoint.existing(run / "checkpoints")[-1])


def test_an_event_and_a_scalar(tmp_path: Path) -> None:
    event = own_parts.WeightNorm(every=960)
    train(config(tmp_path / "a", 1920), events=[event], scalars=[own_parts.SCALAR])
    assert [images for images, _ in event.seen] == [960, 1920]
    written = lines(tmp_path / "a")
    assert [line["images"] for line in written if "G/average_norm" in line] == [960, 1920]
    usual = [line for line in written if "D/loss" in line]
    assert [line["images"] for line in usual] == [640, 1280, 1920]
    assert all(line["D/real_logit_squared"] >= line["D/real_logit"] ** 2 for line in usual)


def test_what_watches_changes_nothing(tmp_path: Path) -> None:
    """The same bits with an event and a scalar as without, and stopped and resumed between."""
    train(config(tmp_path / "plain", 1920))
    for images in (1280, 1920):
        event = own_parts.WeightNorm(every=320)
        train(config(tmp_path / "watched", images), events=[event], scalars=[own_parts.SCALAR])
    assert [images for images, _ in event.seen] == [1600, 1920]
    assert_same(newest(tmp_path / "plain"), newest(tmp_path / "watched"))


def test_a_controller_and_a_penalty_with_a_mean_go_through_a_run(tmp_path: Path) -> None:
    """Parts of one's own as instances: stopped and resumed they end with the bits of a run that was left alone."""
    parts = {
        "augment": own_parts.Controlled(),
        "objective": {"penalties": [own_parts.PathLength(weight=0.5, every=128)]},
        "generator_optimizer": own_parts.RMSProp(learning_rate=1e-3),
    }
    train(config(tmp_path / "one", 1280, **parts))
    for images in (640, 1280):
        train(config(tmp_path / "two", images, **parts))
    first, second = newest(tmp_path / "one"), newest(tmp_path / "two")
    assert_same(first, second)
    assert {"augment", "penalty-0-path_length"} <= first.tensors.keys()
    assert first.tensors["penalty-0-path_length"]["mean"] > 0
    last = lines(tmp_path / "one")[-1]
    assert "G/penalty" in last
    assert last["augment/strength"] == pytest.approx(first.tensors["augment"]["strength"].item())
