"""Thinning, packing, escaping, pictures, and which charts there are."""

import base64
import io
import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dist_gan.metrics.protocol import Protocol
from dist_gan.reporting.chart_sections import chart_sections
from dist_gan.reporting.charts import charts_of, data_of
from dist_gan.reporting.elements import element, script_data, text
from dist_gan.reporting.pictures import LEVELS, encoded, spaced, tiles
from dist_gan.reporting.reading import read_runs
from dist_gan.reporting.thinning import packed, points_each, thinned
from dist_gan.run.folder import RunFolder
from tests.reporting.made import made, picture, write_lines


def unpacked(array: dict[str, str]) -> list[float]:
    return np.frombuffer(base64.b64decode(array["bdata"]), f"<{array['dtype']}").astype(float).tolist()


def decoded(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))


def test_thinning_keeps_every_peak_and_makes_nothing_up() -> None:
    random.seed(0)
    x = list(range(0, 640_000, 64))
    y = [random.gauss(0, 1) for _ in x]
    y[1234], y[8765], y[50] = 100.0, -100.0, float("nan")
    across, up = thinned(x, y)
    assert 1900 < len(across) <= 2000
    assert (across[0], across[-1]) == (x[0], x[-1])
    assert across == sorted(set(across))
    everything = dict(zip(x, y, strict=True))
    assert all(everything[at] == value for at, value in zip(across, up, strict=True))
    for start in range(0, len(x), 500):  # far longer than a stretch: its extremes are there
        part = [value for value in y[start : start + 500] if math.isfinite(value)]
        assert {min(part), max(part)} <= set(up)


def test_few_points_stay_as_they_are() -> None:
    assert thinned([1, 2, 3], [5, float("inf"), 7]) == ([1, 3], [5, 7])
    assert thinned([], []) == ([], [])
    assert (points_each(10), points_each(1000), points_each(10**6)) == (2000, 300, 200)


@pytest.mark.parametrize(
    ("values", "kind"),
    [([0, 64, 3_000_000], "i4"), ([2.0**31], "f8"), ([0.25, -1e-9], "f4"), ([0.5, 1e300], "f8"), ([], "i4")],
)
def test_packing(values: list[float], kind: str) -> None:
    array = packed(values)
    assert array["dtype"] == kind
    assert unpacked(array) == pytest.approx(values, rel=1e-7)


def test_everything_is_escaped_once() -> None:
    evil = "<script>'\"&"
    assert text(evil) == "&lt;script&gt;&#x27;&quot;&amp;"
    inner = element("b", evil, title=evil)
    assert inner == f'<b title="{text(evil)}">{text(evil)}</b>'
    assert (
        element("p", inner, class_="a", hidden=True, id=None, data_x=0) == f'<p class="a" hidden data-x="0">{inner}</p>'
    )
    written = script_data("x", {"a": "</script><!--&"})
    assert written.count("<") == 2
    assert json.loads(written.partition(">")[2].removesuffix("</script>")) == {"a": "</script><!--&"}


def test_enlarged_pictures_are_kept_small_and_exact(tmp_path: Path) -> None:
    for i in range(3):
        picture(tmp_path / f"{i}.png", i, side=20, enlarged=3)
    result = encoded([tmp_path / f"{i}.png" for i in range(3)], 10**6)
    assert result.enlarged
    assert result.note == ""
    for i, url in enumerate(result.urls):
        small = np.asarray(decoded(url).convert("RGB"))
        assert small.shape == (20, 20, 3)
        assert (small.repeat(3, 0).repeat(3, 1) == np.asarray(Image.open(tmp_path / f"{i}.png"))).all()


def test_pictures_that_were_not_enlarged_are_not_shrunk(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 1, side=24)
    picture(tmp_path / "b.png", 1, side=12, enlarged=2)
    result = encoded([tmp_path / "a.png", tmp_path / "b.png"], 10**6)
    assert not result.enlarged
    assert [decoded(url).size for url in result.urls] == [(24, 24), (24, 24)]


def test_one_that_was_not_enlarged_among_many_that_were(tmp_path: Path) -> None:
    """Whether all were is guessed from some; nothing of the others may be lost."""
    for i in range(12):
        picture(tmp_path / f"{i}.png", i, side=12 if i else 24, enlarged=2 if i else 1)
    result = encoded([tmp_path / f"{i}.png" for i in range(12)], 10**6)
    assert [decoded(url).size for url in result.urls] == [(24, 24)] + [(12, 12)] * 11


@pytest.mark.parametrize("budget", [200_000, 60_000, 25_000])
def test_pictures_stay_within_their_budget_and_say_so(tmp_path: Path, budget: int) -> None:
    for i in range(5):
        picture(tmp_path / f"{i}.png", i, side=256)
    (tmp_path / "5.png").write_bytes((tmp_path / "4.png").read_bytes()[:900])
    result = encoded([tmp_path / f"{i}.png" for i in range(6)], budget)
    assert sum(len(base64.b64decode(url.partition(",")[2])) for url in result.urls) == result.size <= budget
    assert result.urls[5] == "", "it is damaged"
    assert all(result.urls[:5])
    assert result.level in LEVELS[1:]
    assert "recompressed as WebP of quality" in result.note


def test_spaced_keeps_both_ends() -> None:
    assert spaced(3, 200) == [0, 1, 2]
    found = spaced(1000, 200)
    assert (len(set(found)), found[0], found[-1]) == (200, 0, 999)
    assert set(np.diff(found)) == {5, 6}


def test_tiles() -> None:
    sheet = np.asarray(tiles([np.full((2, 3, 1), i + 1, np.uint8) for i in range(3)], 2))
    assert sheet.shape == (5, 7, 3)
    assert sheet[:, :, 0].tolist() == [[1, 1, 1, 0, 2, 2, 2]] * 2 + [[0] * 7] + [[3, 3, 3, 0, 0, 0, 0]] * 2


def test_two_protocols_are_never_joined(tmp_path: Path) -> None:
    first = Protocol("digits", "0a1b2c3d", "none", 5000, "ema", 60000, "train", "1a2b3c4d")
    second = first._replace(fakes=10_000)
    folders = [made(tmp_path / name) for name in "ab"]
    write_lines(folders[0], {"images": 64, first.key("fid"): 9.0}, {"images": 128, second.key("fid"): 8.0})
    write_lines(folders[0], {"images": 128, first.key("kid"): 0.5})
    write_lines(folders[1], {"images": 64, first.key("fid"): 7.0})
    charts = charts_of(read_runs(folders))
    assert [chart.title for chart in charts.evaluation] == ["FID", "KID"]
    fid, kid = charts.evaluation
    assert [(line.run.label, line.protocol, dict(line.values)) for line in fid.lines] == [
        ("a", first.text(), {64: 9.0}),
        ("b", first.text(), {64: 7.0}),
        ("a", second.text(), {128: 8.0}),
    ]
    assert all(line.protocol in line.name for line in fid.lines)
    assert len({(line.color, line.dash) for line in fid.lines}) == 3
    assert kid.caption == first.text()


def test_the_best_checkpoint_is_marked_in_its_own_line(tmp_path: Path) -> None:
    protocol = Protocol("digits", "0a1b2c3d", "none", 5000, "ema", 60000, "train", "1a2b3c4d")
    other = protocol._replace(fakes=100)
    folder = made(tmp_path / "run")
    for images, value in ((64, 9.0), (128, 7.0), (192, 8.0)):
        (folder / f"checkpoints/images-{images:012d}").mkdir(parents=True)
        numbers = {protocol.key("fid"): value, other.key("fid"): -value, protocol.key("reverse_kl"): 0.5}
        RunFolder(folder).score(images, numbers, best=(protocol.key("fid"), False))
    runs = read_runs([folder])
    charts = charts_of(runs)
    assert [chart.title for chart in charts.evaluation] == ["FID", "Reverse KL"]
    assert [line.best for line in charts.evaluation[0].lines] == [128, None]
    assert "The best checkpoint" in charts.evaluation[0].caption
    drawn = data_of(charts, runs)["charts"]
    assert [line.get("best") for line in drawn[0]["lines"]] == [[128, 7.0], None]
    assert [chart["range"] for chart in drawn[:2]] == ["normal", "nonnegative"]
    (_, _, html), *_ = chart_sections(charts)
    assert '<th scope="col">best checkpoint</th>' in html
    assert html.count('class="best"') == 1


def test_numbers_of_one_checkpoint_are_a_table(tmp_path: Path) -> None:
    key = Protocol("digits", "0a1b2c3d", "none", 5000, "ema").key("inception_score")
    folder = made(tmp_path / "run")
    RunFolder(folder).score(192, {key: 9.0})
    (name, _, html), *_ = chart_sections(charts_of(read_runs([folder])))
    assert name == "evaluation"
    assert "<table" in html
    assert "data-chart" not in html
    assert "<details" not in html
    assert '<th scope="col">protocol</th><th scope="col">value</th></tr>' in html


def test_missing_columns_are_left_out_and_others_have_a_place(tmp_path: Path) -> None:
    folder = made(tmp_path / "run")
    write_lines(folder, {"images": 64, "mine": 1, "D/skipped": 0, "still": 3}, {"images": 128, "mine": 2, "still": 3})
    charts = charts_of(read_runs([folder]))
    assert [chart.title for chart in charts.training] == ["Losses"]
    assert charts.speed == []
    assert [chart.title for chart in charts.more] == ["mine"]
    assert charts.constant == {"D/skipped": 0, "still": 3}


def test_every_value_is_drawn_or_listed(tmp_path: Path) -> None:
    """Whether constant or not, alone or with another run."""
    names = ["D/loss", "G/loss", "D/penalty", "G/penalty", "D/skipped", "G/skipped", "D/learning_rate", "new", "other"]
    for case in range(64):
        random.seed(case)
        folders = []
        for name in "ab"[: 1 + case % 2]:
            folders.append(made(tmp_path / f"{case}/{name}", lines=0))
            rows = [{"images": i, **{n: random.choice([0, 1]) for n in names}} for i in (1, 2)]
            write_lines(folders[-1], *rows)
        runs = read_runs(folders)
        charts = charts_of(runs)
        for run in runs:
            for name, column in run.columns.items():
                drawn = any(line.values is column for chart in charts.all() for line in chart.lines)
                listed = name in charts.constant and set(column.values()) == {charts.constant[name]}
                assert drawn != listed, (case, name, column)
        numbers = [chart["lines"] for chart in data_of(charts, runs)["charts"]]
        assert [len(lines) for lines in numbers] == [len(chart.lines) for chart in charts.all()]
        assert [chart.number for chart in charts.all()] == list(range(len(numbers)))
