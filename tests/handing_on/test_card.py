"""The model card: metadata that the Hub's own client reads, and what people read."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from dist_gan.handing_on.licenses import license_fields
from dist_gan.metrics.protocol import Protocol
from dist_gan.run.folder import RunFolder
from tests.support.commands import export
from tests.support.runs import SMALL, run

FID = Protocol("efficientnet_lite0", "57934424", "bicubic224", 10000, "ema", 60000, "train", "1a2b3c4d").key("fid")
SCORE = Protocol("digits", "0a1b2c3d", "none", 5000, "ema").key("inception_score")


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with classes, whose only checkpoint has scores."""
    folder = tmp_path_factory.mktemp("scored") / "trained"
    assert run(folder, 256, small=[*SMALL, "networks.conditional=true"]) == 0
    RunFolder(folder).score(256, {FID: 12.345678, SCORE: 1.5}, best=(FID, False))
    return folder


def written(run: Path, out: Path, *options: str) -> tuple[dict[str, Any], str]:
    """(metadata, text) of the card."""
    assert export.main([str(run), f"out={out}", *options]) == 0
    _, header, text = (out / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(header), text


def test_the_hub_reads_the_metadata(scored: Path, tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    assert export.main([str(scored), f"out={tmp_path}/a-gan", "license=apache-2.0", "which=best"]) == 0
    data = hub.ModelCard.load(tmp_path / "a-gan/README.md").data
    assert (data.license, data.library_name) == ("apache-2.0", "dist_gan")
    assert data.pipeline_tag == "unconditional-image-generation"
    assert data.tags == ["gan", "image-generation", "pytorch", "class-conditional"]
    assert data.model_name == "a-gan"
    fid, score = data.eval_results
    assert (fid.metric_type, fid.metric_value, fid.metric_args) == ("fid", 12.345678, {"key": FID})
    assert fid.metric_name == (
        "FID (10,000 images of the average of G against 60,000 real ones (train, data 1a2b3c4d); features "
        "efficientnet_lite0 57934424, scaled by bicubic224)"
    )
    assert (fid.task_type, fid.dataset_name, fid.dataset_type) == (data.pipeline_tag, "generated", "generated")
    assert (score.metric_type, score.metric_value) == ("inception_score", 1.5)
    again = hub.ModelCardData(**yaml.safe_load(data.to_yaml()))
    assert again.to_yaml() == data.to_yaml()


def test_what_people_read(scored: Path, tmp_path: Path) -> None:
    data, text = written(scored, tmp_path / "a-gan", "name=Shapes")
    assert data["license"] == "unknown"
    assert data["model-index"][0]["name"] == "Shapes"
    for part in (
        "# Shapes\n",
        "Each column is one class: ",
        'load_generator("a-gan")',
        "samples(generator, 64, seed=0, classes=0)",
        "| **FID** | 12.3457 | 10,000 images of the average of G against 60,000 real ones",
        f"- `{SCORE}`",
        "| images that D saw | 256 |",
        "| precision | fp32 |",
        "**No license was given.**",
    ):
        assert part in text
    assert str(tmp_path) not in text
    data, text = written(scored, tmp_path / "b", "license=My own: terms")
    assert (data["license"], data["license_name"]) == ("other", "My own: terms")
    assert "No license was given" not in text


def test_scores_that_were_computed_later(scored: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(scored, tmp_path / "run"))
    RunFolder(copy).score(256, {FID: 9.5, "kid/x": float("nan")})
    RunFolder(copy).score(128, {SCORE: 7.0})
    data, _ = written(copy, tmp_path / "a")
    metrics = data["model-index"][0]["results"][0]["metrics"]
    assert [(metric["args"]["key"], metric["value"]) for metric in metrics] == [(FID, 9.5), (SCORE, 1.5)]
    assert json.loads((tmp_path / "a/config.json").read_text())["scores"] == {FID: 9.5, SCORE: 1.5}


def test_without_scores(tmp_path: Path) -> None:
    assert run(tmp_path / "run", 256) == 0
    data, text = written(tmp_path / "run", tmp_path / "a")
    assert "model-index" not in data
    assert "None was computed" in text
    assert "Nobody has measured how good it is" in text


def test_licenses() -> None:
    assert license_fields(None) == {"license": "unknown"}
    assert license_fields("MIT") == {"license": "mit"}
    assert license_fields("our terms") == {"license": "other", "license_name": "our terms"}
