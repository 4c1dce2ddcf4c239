import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from pydantic import ValidationError

from dist_gan.data import Folder, source, survey
from dist_gan.data.source import Reading
from tests.data.streams import images, opened, refused, stream, take


def test_folder_reads_what_is_there(folder: Path) -> None:
    dataset = opened(folder, labels=True)
    assert len(dataset) == 40
    pixels, labels = next(dataset.batches([range(40)], lambda r: torch.arange(40), lambda r, k: torch.arange(0)))
    assert labels.tolist() == [0] * 20 + [1] * 20  # cats before dogs, by path
    assert dataset.classes == ("cats", "dogs")
    assert pixels[0, :, 8, 8].tolist() == [6, 249, 128]
    gray = opened(folder, channels=1, fit="stretch")
    assert gray.shape == (1, 16, 16)
    assert len(gray) == 40
    assert gray.classes == ()
    assert gray.notes == ()


def test_ordinary_images_are_scaled_by_pillow_and_nothing_else(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (50, 40, 3)).astype("u1")
    Image.fromarray(noise).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        for channels, mode in ((3, "RGB"), (1, "L")):
            expected = np.asarray(ImageOps.fit(image.convert(mode), (16, 16), Image.Resampling.LANCZOS))
            found = images(tmp_path, channels=channels)[0].permute(1, 2, 0).numpy()
            assert np.array_equal(found, expected.reshape(16, 16, channels))


def test_folder_crops_the_middle_or_stretches(tmp_path: Path) -> None:
    wide = Image.new("L", (90, 30), 0)
    wide.paste(255, (30, 0, 60, 30))
    wide.save(tmp_path / "a.png")
    options = {"size": 30, "channels": 1, "resample": "box"}
    assert images(tmp_path, fit="crop", **options).float().mean() == 255
    assert 80 < images(tmp_path, fit="stretch", **options).float().mean() < 90


@pytest.mark.parametrize(
    ("channels", "background", "expected"),
    [(1, "black", [0]), (3, "#ff8000", [255, 128, 0]), (4, "white", [0, 0, 0, 0])],
)
def test_folder_pads(tmp_path: Path, channels: int, background: str, expected: list[int]) -> None:
    Image.new("RGB", (90, 30), (200, 200, 200)).save(tmp_path / "a.png")
    image = images(tmp_path, size=30, fit="pad", channels=channels, background=background)[0]
    assert image[:, 0, 0].tolist() == image[:, 29, 29].tolist() == expected
    assert image[:, 15, 0].tolist() == image[:, 15, 29].tolist() == [200, 200, 200, 255][:channels]
    assert (image[:, 10:20] == image[:, 10:11, :1]).all()


def test_height_and_width(tmp_path: Path) -> None:
    tall = Image.new("L", (40, 80), 0)
    tall.paste(255, (0, 0, 40, 40))
    tall.save(tmp_path / "a.png")
    for megabytes in (0, 100):
        data = Folder(path=str(tmp_path), size="80x40", resident_megabytes=megabytes, workers=0)
        assert data.shape == (3, 80, 40)
        (batch,) = take(stream(data, batch_size=1), 1)
        assert batch.images.shape == (1, 3, 80, 40)
        assert (batch.images[0, :, :40] == 1).all()
        assert (batch.images[0, :, 40:] == -1).all()
    assert Folder(path="x", size="64x64") == Folder(path="x", size=64)
    for wrong in (3, "3x8", "64x", "x64", True, 64.5, "64 x 64", None):
        with pytest.raises(ValidationError, match="a side of at least 4 pixels"):
            Folder(path="x", size=wrong)


@pytest.mark.parametrize("megabytes", [0, 100])
def test_folders_that_cannot_be_used(folder: Path, tmp_path: Path, megabytes: int) -> None:
    options = {"resident_megabytes": megabytes}
    assert "is not a folder" in refused(tmp_path / "nothing", **options)
    assert "is not a folder" in refused(folder / "cats" / "01.png", **options)
    assert "~nobody-of-this-name/x begins with the home folder of a user" in refused(
        Path("~nobody-of-this-name/x"), **options
    )
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no image")
    assert "no image below" in refused(tmp_path / "empty", **options)
    Image.new("RGB", (20, 20)).save(folder / "stray.png")
    assert "stray.png is in no sub-folder" in refused(folder, labels=True, **options)


def test_the_fingerprint_is_of_names_and_content(folder: Path, tmp_path: Path) -> None:
    before = opened(folder).fingerprint
    assert opened(folder, resident_megabytes=0, workers=0).fingerprint == before
    assert opened(folder, skip_broken=True).fingerprint != before
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved, copy_function=shutil.copyfile)  # without the times
    assert opened(moved).fingerprint == before
    (moved / "cats" / "39.png").rename(moved / "cats" / "40.png")
    assert opened(moved).fingerprint != before


def replaced_bitmap(tmp_path: Path) -> tuple[str, str]:
    """Fingerprints before and after a BMP gives way to another of the same size and time."""
    path = tmp_path / "a.bmp"
    Image.new("RGB", (16, 16), "red").save(path)
    status = path.stat()
    before = opened(tmp_path).fingerprint
    Image.new("RGB", (16, 16), "blue").save(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    return before, opened(tmp_path).fingerprint


def test_another_content_of_the_same_size_changes_the_fingerprint(tmp_path: Path) -> None:
    before, after = replaced_bitmap(tmp_path)
    assert before != after


def test_above_the_limit_the_fingerprint_is_of_sizes_and_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "CONTENT_LIMIT", 10)
    before, after = replaced_bitmap(tmp_path)
    assert before == after
    os.utime(tmp_path / "a.bmp", ns=(0, 0))
    assert opened(tmp_path).fingerprint != before


def test_the_files_of_a_large_folder_are_looked_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "CONTENT_LIMIT", 10)
    Image.new("RGBA", (20, 20), (0, 0, 0, 0)).save(folder / "cats" / "41.png")
    options = {"resident_megabytes": 0, "workers": 0}
    before = opened(folder, **options)
    assert before.notes == ("1 of 41 images have transparency: shown on data.background=white",)
    real = survey._examined
    monkeypatch.setattr(survey, "_examined", lambda *arguments: pytest.fail("looked at again"))
    after = opened(folder, **options)
    assert (after.fingerprint, after.notes) == (before.fingerprint, before.notes)
    assert after.fingerprint == opened(folder).fingerprint  # resident images are read in any case
    os.utime(folder / "cats" / "01.png", ns=(0, 0))
    with pytest.raises(pytest.fail.Exception, match="looked at again"):
        opened(folder, **options)
    monkeypatch.setattr(survey, "_examined", real)
    (folder / "cats" / "03.png").write_bytes(b"no image")
    for _ in range(2):  # a broken file is found each time
        assert "03.png" in refused(folder, **options)
        assert "replaced: cats/03.png" in opened(folder, skip_broken=True, **options).notes[1]


@pytest.mark.parametrize("megabytes", [0, 100])
def test_reading_reports_how_far_it_is(folder: Path, megabytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(source.time, "monotonic", lambda: next(clock))
    heard: list[tuple[str, int, int]] = []
    opened(folder, Reading(progress=lambda *report: heard.append(report)), resident_megabytes=megabytes, workers=0)
    assert heard == [("reading images", done, 40) for done in range(1, 41)]


def test_a_run_inside_the_data_is_a_mistake(folder: Path, tmp_path: Path) -> None:
    data = Folder(path=str(folder))
    (tmp_path / "link").symlink_to(folder)
    for run in (folder, folder / "runs" / "a", tmp_path / "link" / "a"):
        (mistake,) = data.mistakes(str(run))
        assert "data.path: the run's folder" in mistake
        assert "is inside" in mistake
    assert Folder(path=str(tmp_path / "link")).mistakes(str(folder / "a"))
    for run in (tmp_path, tmp_path / "images-2", folder / ".runs" / "a"):
        assert data.mistakes(str(run)) == []
    assert "does not know" in Folder(path="~nobody-of-this-name/x").mistakes("runs/a")[0]


def test_labels_follow_folders(tmp_path: Path) -> None:
    for i, name in enumerate(("Zebra", "ape", "ape/young", "été")):
        (tmp_path / name).mkdir()
        Image.new("L", (16, 16), 50 * i).save(tmp_path / name / "x.png")
    dataset = opened(tmp_path, labels=True)
    assert dataset.classes == ("Zebra", "ape", "été")
    assert dataset.labels.tolist() == [0, 1, 1, 2]  # type: ignore[attr-defined]
    assert dataset.images[:, 0, 0, 0].tolist() == [0, 50, 100, 150]  # type: ignore[attr-defined]
    assert Folder(path="x", labels=True).has_labels
    assert not Folder(path="x").has_labels
