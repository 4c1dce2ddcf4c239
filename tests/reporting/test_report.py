"""`python -m dist_gan.report`: its command line, its file, and the sections for which images are made."""

import importlib
import importlib.util
import sys
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from dist_gan.data import Generated
from dist_gan.data.source import Resident
from dist_gan.errors import ConfigError
from dist_gan.randomness import CPU
from dist_gan.reporting import nearest
from dist_gan.reporting.nearest import nearest_images
from tests.reporting.made import made
from tests.support.commands import command
from tests.support.runs import SMALL

report = importlib.import_module("dist_gan.report")
plotly = pytest.mark.skipif(importlib.util.find_spec("plotly") is None, reason="plotly is not installed")
GENERATED = {"data": {"name": "generated", "size": 8, "count": 1000}}


def images_of(count: int) -> torch.Tensor:
    dataset = Generated(size=8, count=count).open(CPU)
    assert isinstance(dataset, Resident)
    return dataset.images


def mistake(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert report.main(arguments) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.count("\n") == 1
    return error


@plotly
def test_mistakes_make_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(made(tmp_path / "run"))
    (tmp_path / "empty").mkdir()
    out = f"out={tmp_path}/x.html"
    assert "holds no run" in mistake(capsys, f"{tmp_path}/empty", out)
    assert "is given twice" in mistake(capsys, folder, folder, out)
    assert "expected a run's folder, out=report.html" in mistake(capsys, folder, "ouy=x.html", out)
    assert "trust_code: expected true or false, got 'yes'" in mistake(capsys, folder, "trust_code=yes", out)
    assert "name a run's folder" in mistake(capsys, out)
    assert "expected a file such as" in mistake(capsys, folder, f"out={tmp_path}")
    (tmp_path / "file").write_text("")
    assert "cannot write" in mistake(capsys, folder, f"out={tmp_path}/file/x.html")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "run"]


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main(["--help"]) == 0
    assert "usage: python -m dist_gan.report RUN" in capsys.readouterr().out
    assert report.main([]) == 2


def test_without_plotly_there_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    error = mistake(capsys, str(made(tmp_path / "run")), f"out={tmp_path}/x.html")
    assert "pip install 'dist_gan[report]'" in error
    assert not (tmp_path / "x.html").exists()


@plotly
def test_the_old_page_stays_where_the_new_one_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = str(made(tmp_path / "k=v")), tmp_path / "new/x.html"
    assert report.main([folder, f"out={out}"]) == 0
    before = out.read_bytes()

    def full(path: Path, content: bytes) -> int:
        with open(path, "wb") as file:
            file.write(content[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert "No space left on device" in mistake(capsys, folder, f"out={out}")
    assert [path.name for path in out.parent.iterdir()] == ["x.html"]
    assert out.read_bytes() == before


@plotly
def test_images_of_each_class_and_their_neighbors(conditional: Path, tmp_path: Path) -> None:
    assert report.main([str(conditional), f"out={tmp_path}/x.html"]) == 0
    html = (tmp_path / "x.html").read_text()
    assert 'alt="images of class bottom right"' in html
    assert "for all 4 classes" in html
    assert html.count('class="neighbors"') == 8
    assert html.count('alt="training image at distance') == 8 * 5
    assert "the 5 of all 1,024 training images that are nearest to it. The number is the root" in html


@plotly
def test_data_that_is_gone_does_not_end_the_page(conditional: Path, tmp_path: Path) -> None:
    config = conditional / "config.yaml"
    before = config.read_text()
    try:
        gone = {"name": "folder", "path": "/nowhere/at/all", "size": 8, "channels": 1}
        config.write_text(yaml.safe_dump({**yaml.safe_load(before), "data": gone}))
        assert report.main([str(conditional), f"out={tmp_path}/x.html"]) == 0
    finally:
        config.write_text(before)
    html = (tmp_path / "x.html").read_text()
    assert "The training data was not compared" in html
    assert "/nowhere/at/all" in html.partition("The training data was not compared")[2][:400]
    assert 'alt="images of class bottom right"' in html


@plotly
@pytest.mark.slow
def test_networks_of_ones_own_are_executed_only_when_trusted(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        'from dist_gan.networks import MLP\nprint(\'executed\')\nclass Mine(MLP):\n    """The same."""\n'
    )
    small = [option for option in SMALL if "networks" not in option]
    done = command(
        "-m", "dist_gan.train", *small, f"networks={{name: '{tmp_path}/mine.py:Mine', width: 4, conditional: true}}",
        "images=256", f"run={tmp_path}/r",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    out = tmp_path / "x.html"
    done = command("-m", "dist_gan.report", f"{tmp_path}/r", f"out={out}")
    assert done.returncode == 0, done.stderr
    assert "executed" not in done.stdout
    assert out.read_text().count("trust_code=true") == 2, "both sections say so"
    done = command("-m", "dist_gan.report", f"{tmp_path}/r", f"out={out}", "trust_code=true")
    assert done.returncode == 0, done.stderr
    assert "executed" in done.stdout
    assert out.read_text().count('class="neighbors"') == 8


def test_neighbors_are_those_of_an_exhaustive_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "AT_ONCE", 64)
    images = images_of(1000)
    asked = torch.cat([images[[17, 503]], 255 - images[[5]]])
    found = nearest_images(asked, GENERATED, "", 4, trust_code=False)
    everything = (asked[:, None].double() - images[None].double()).square().flatten(2).mean(2).sqrt()
    distances, order = everything.sort(dim=1, stable=True)
    assert torch.allclose(found.distances, distances[:, :4], rtol=1e-12)
    assert (found.distances[:2, 0] == 0).all()
    assert (found.images[:, 0] == images[order[:, 0]]).all()
    assert (found.compared, found.total, found.same_data) == (1000, 1000, True)


def test_large_data_is_compared_in_part_and_other_data_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "COMPARED", 100)
    images = images_of(1000)
    found = nearest_images(images[[990]], GENERATED, "0123", 2, trust_code=False)
    assert (found.compared, found.total, found.same_data) == (100, 1000, False)
    assert found.distances[0, 0] == 0, "every tenth is among them, the first too"


def test_files_of_a_folder(tmp_path: Path) -> None:
    images = images_of(6)
    for i, image in enumerate(images):
        Image.fromarray(image[0].numpy()).save(tmp_path / f"{i}.png")
    config = {"data": {"name": "folder", "path": str(tmp_path), "size": 8, "channels": 1, "workers": 2}}
    found = nearest_images(images[[3]], config, "", 5, trust_code=False)
    assert found.images.shape == (1, 5, 1, 8, 8)
    assert found.distances[0, 0] == 0


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, "names no data"),
        ({"data": {"name": "generated", "size": 16}}, "images of 1x16x16 now"),
        ({"data": {"name": "stacked_mnist"}}, "mnist"),
        ({"data": {"name": "nobody.py:Source"}}, "trust_code=true"),
    ],
)
def test_data_that_cannot_be_compared(
    config: dict, expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DIST_GAN_DATA", str(tmp_path))  # nothing is there, and nothing is downloaded
    with pytest.raises(ConfigError, match=expected):
        nearest_images(torch.zeros(1, 1, 8, 8, dtype=torch.uint8), config, "", 5, trust_code=False)
    assert list(tmp_path.iterdir()) == []
