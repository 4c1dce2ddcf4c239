"""The video of a run's samples: within the page, within its bytes, and as a file."""

import base64
import importlib
import re
import sys
from pathlib import Path

import pytest

pytest.importorskip("plotly", reason="plotly is not installed: pip install 'dist_gan[report]'")
pytest.importorskip("av", reason="PyAV is not installed: pip install 'dist_gan[video]'")

from dist_gan.reporting import videos
from dist_gan.reporting.page import page
from dist_gan.reporting.reading import read_runs
from tests.reporting.made import made, picture

report = importlib.import_module("dist_gan.report")


def in_page(html: str, folder: Path) -> list[Path]:
    """The videos of a page, as files."""
    found = re.findall(r'<video src="data:video/mp4;base64,([^"]*)" controls loop muted playsinline', html)
    files = [folder / f"in_page_{i}.mp4" for i in range(len(found))]
    for file, content in zip(files, found, strict=True):
        file.write_bytes(base64.b64decode(content))
    return files


def shown(path: Path) -> tuple[int, tuple[int, int]]:
    """Frames, and (width, height)."""
    import av

    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return len(frames), (frames[0].width, frames[0].height)


def test_each_run_has_a_video_of_all_its_grids(tmp_path: Path) -> None:
    folders = [made(tmp_path / "a", grids=5), made(tmp_path / "b", grids=4), made(tmp_path / "c", grids=2)]
    html = page(read_runs(folders))
    files = in_page(html, tmp_path)
    still = videos.fps_of(5) - 1  # the last frame stays a second
    assert [shown(file)[0] for file in files] == [5 + still, 4 + still]
    assert "media-src data:" in html
    assert "autoplay" not in html.partition('<script type="text/plain"')[0]


def test_few_grids_are_no_video(tmp_path: Path) -> None:
    assert 'id="video"' not in page(read_runs([made(tmp_path / "a", grids=2)]))


def test_a_video_stays_within_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made(tmp_path / "run", grids=30)
    for file in (folder / "samples").iterdir():
        picture(file, int(file.stem), side=64, enlarged=9)
    runs = read_runs([folder])
    monkeypatch.setattr(videos, "BUDGET", 10**8)
    (whole,) = in_page(page(runs), tmp_path)
    assert shown(whole) == (30 + videos.fps_of(30) - 1, (576, 576))
    budget = whole.stat().st_size - 1
    monkeypatch.setattr(videos, "BUDGET", budget)
    (smaller,) = in_page(page(runs), tmp_path)
    assert smaller.stat().st_size <= budget
    assert shown(smaller)[1] == (512, 512)
    monkeypatch.setattr(videos, "BUDGET", 1000)
    html = page(runs)
    assert in_page(html, tmp_path) == []
    assert "The video would be too large for a page; video=training.mp4 makes it as a file" in html


def test_without_pyav_and_with_a_damaged_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made(tmp_path / "run", grids=4)
    (folder / "samples/000000000064.png").write_bytes(b"no picture")
    html = page(read_runs([folder]))
    assert "There is no video: video: " in html
    assert "000000000064.png cannot be read" in html
    monkeypatch.setitem(sys.modules, "av", None)
    html = page(read_runs([folder]))
    assert "it needs PyAV. pip install &#x27;dist_gan[video]&#x27;" in html
    assert "<video" not in html


@pytest.mark.parametrize("ending", [".mp4", ".gif"])
def test_the_video_as_a_file(tmp_path: Path, ending: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = made(tmp_path / "run", grids=6)
    file = tmp_path / f"new/training{ending}"
    assert report.main([str(folder), f"out={tmp_path}/x.html", f"video={file}"]) == 0
    assert f"{file} (" in capsys.readouterr().out
    assert shown(file)[1] == (528, 528)
    if ending == ".mp4":
        assert shown(file)[0] == 6 + videos.fps_of(6) - 1


def test_mistakes_make_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, other, empty = made(tmp_path / "run", grids=3), made(tmp_path / "other", grids=3), made(tmp_path / "empty")
    for arguments, expected in (
        ([folder, "video=x.avi"], "expected a name ending in .mp4 or .gif"),
        ([folder, "video="], "expected a name ending in .mp4 or .gif"),
        ([folder, other, "video=x.mp4"], "a video shows one run"),
        ([empty, "video=x.mp4"], "no grids of samples yet"),
        ([folder, f"video={tmp_path}/run/config.yaml/x.mp4"], "cannot write"),
    ):
        assert report.main([*map(str, arguments), f"out={tmp_path}/x.html"]) == 2
        error = capsys.readouterr().err
        assert expected in error
        assert error.count("\n") == 1
    assert not (tmp_path / "x.html").exists()
