"""The page as text: its size, what it says of damaged input, and that nothing in it comes through unescaped."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("plotly", reason="plotly is not installed: pip install 'dist_gan[report]'")

from dist_gan.metrics.protocol import Protocol
from dist_gan.reporting.page import page
from dist_gan.reporting.reading import read_runs
from tests.reporting.made import made, picture, write_lines

EVIL = "<img src=x onerror=alert(1)>\"'&"


def data(html: str, name: str) -> dict:
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', html, re.DOTALL)
    assert found
    return json.loads(found[1])


def body(html: str) -> str:
    return html.partition("<main>")[2].partition("</main>")[0]


def test_what_is_missing_is_said_or_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "bare"
    (folder / "samples").mkdir(parents=True)
    html = page(read_runs([folder]))
    for section in ("samples", "training", "evaluation", "speed", "health", "classes", "configs", "more"):
        assert f'id="{section}"' not in html, section
    assert "This run has no checkpoint yet." in html
    assert data(html, "charts-data")["charts"] == []


def test_damaged_files_are_named(tmp_path: Path) -> None:
    folder = made(tmp_path / "run", grids=4)
    (folder / "samples/000000000064.png").write_bytes(b"no picture")
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"images": 256, "D/lo')
    write_lines(folder, {"images": 512, "D/loss": float("inf")})  # after the half line: one line with it
    html = page(read_runs([folder]))
    assert "run: one line of metrics.jsonl could not be read" in html
    assert "1 of 4 grids could not be read" in html
    assert data(html, "samples-data")["steps"] == [0, 128, 192]


def test_everything_from_files_is_escaped(tmp_path: Path) -> None:
    folders = []
    for name in ("a", "b"):
        folder = made(tmp_path / name / EVIL.replace("/", ""), grids=1, reason=EVIL, state="failed")
        (folder / "config.yaml").write_text(json.dumps({"images": 64, "x": name + EVIL, "data": {"name": EVIL}}))
        (folder / "notes.jsonl").write_text(json.dumps({"images": 1, "kind": EVIL, "text": EVIL, "advice": EVIL}))
        write_lines(folder, {"images": 64, EVIL: 1}, {"images": 128, EVIL: 2})
        checkpoint = folder / "checkpoints/images-000000000064"
        checkpoint.mkdir(parents=True)
        facts = {"device": EVIL, "classes": [EVIL], "image_shape": [EVIL], "versions": {EVIL: EVIL}, "data_images": 3}
        (checkpoint / "state.json").write_text(json.dumps(facts))
        folders.append(folder)
    html = page(read_runs(folders))
    assert "<img src=x" not in html
    assert body(html).count("&lt;img src=x onerror=alert(1)&gt;&quot;&#x27;&amp;") > 20


def test_the_page_asks_for_nothing(tmp_path: Path) -> None:
    folder = made(tmp_path / "run", grids=2)
    picture(folder / "samples/real.png", 5)
    html = page(read_runs([folder]))
    assert "default-src 'none'; img-src data: blob:;" in html
    links = re.findall(r'(?:src|href)="([^"]*)"', html.partition('<script type="text/plain"')[0])
    assert [link for link in links if not link.startswith(("data:", "#"))] == []


def test_each_average_of_several_has_its_samples(tmp_path: Path) -> None:
    folder, other = made(tmp_path / "a", grids=3), made(tmp_path / "b", grids=1)
    for i in range(2):
        picture(folder / f"samples/{i * 64:012d}-ema_2.png", 10 + i)
    alone = page(read_runs([folder]))
    assert [run["images"] for run in data(alone, "samples-data")["runs"]] == [[0, 64, 128], [0, 64]]
    assert "<b>ema</b>" in alone
    assert "<b>ema_2</b>" in alone
    both = page(read_runs([folder, other]))
    assert all(f"<b>{label}</b>" in both for label in ("a, ema", "a, ema_2", "b"))
    assert "<b>generated</b>" in page(read_runs([other]))


def test_several_runs_share_one_slider(tmp_path: Path) -> None:
    folders = [made(tmp_path / "a", grids=2), made(tmp_path / "b", grids=4), made(tmp_path / "c")]
    for folder, seed in zip(folders, (1, 1, 2), strict=True):
        picture(folder / "samples/real.png", seed)
    (folders[0] / "samples/000000000064.png").rename(folders[0] / "samples/000000000100.png")
    (folders[1] / "config.yaml").write_text("images: 640\nbatch_size: 32\n")
    html = page(read_runs(folders))
    found = data(html, "samples-data")
    assert found["steps"] == [0, 64, 100, 128, 192]
    assert [(run["id"], run["at"]) for run in found["runs"]] == [("grid0", [0, 0, 1, 1, 1]), ("grid1", [0, 1, 1, 2, 3])]
    assert html.count('alt="real images"') == 2, "a and b have the same"
    assert "batch_<wbr>size" not in html
    assert "<code>batch_size</code></th><td>64</td><td>32</td><td>64</td>" in html
    assert "networks.<wbr>name</code></th><td>mlp</td><td>–</td><td>mlp</td>" in html


def test_a_damaged_checkpoint_does_not_end_the_page(tmp_path: Path) -> None:
    folder = made(tmp_path / "run")
    (folder / "checkpoints/images-000000000064").mkdir(parents=True)
    (folder / "checkpoints/images-000000000064/state.json").write_text('{"images_seen": 64}')
    html = page(read_runs([folder]))
    assert 'id="training"' in html
    nearest = body(html).partition('id="nearest"')[2].partition("</section>")[0]
    assert "None of the checkpoints in" in nearest


@pytest.mark.slow
@pytest.mark.parametrize("enlarged", [1, 3])
def test_a_long_run_stays_small(tmp_path: Path, enlarged: int) -> None:
    """10,000 lines of 20 metrics, and 300 grids of 726 x 726 pixels of noise, worse than any real picture."""
    folder = made(tmp_path / "run", lines=0)
    noise = np.random.default_rng(0)
    fid = Protocol("digits", "0a1b2c3d", "none", 5000, "ema").key("inception_score")
    names = [
        "D/loss",
        "G/loss",
        "D/real_logit",
        "D/fake_logit",
        "D/accuracy",
        "images_per_second",
        "peak_memory_mib",
        fid,
    ]
    names += [f"own/{i}" for i in range(12)]
    write_lines(
        folder, *({"images": 64 * i, **dict(zip(names, noise.normal(size=20), strict=True))} for i in range(1, 10_001))
    )
    for i in range(300):
        path = folder / f"samples/{i * 2000:012d}.png"
        if i < 10:
            picture(path, i, side=726 // enlarged, enlarged=enlarged)
        else:
            path.hardlink_to(folder / f"samples/{i % 10 * 2000:012d}.png")
    html = page(read_runs([folder]))
    assert len(html.encode()) < 15_000_000
    assert "Lines of more than 2,000 points are thinned" in html
    assert "The grids of samples are recompressed as WebP" in html
    assert "200 of 300 grids of samples are shown" in html
    found = data(html, "samples-data")
    assert (len(found["steps"]), found["steps"][0], found["steps"][-1]) == (200, 0, 299 * 2000)
    assert sum(len(chart["lines"]) for chart in data(html, "charts-data")["charts"]) == 20
