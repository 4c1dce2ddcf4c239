import errno
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dist_gan.data import Batch, DataError, Stream, files, from_files, survey
from dist_gan.data.source import Dataset, Reading
from dist_gan.data.streamed import Streamed, worker_died
from dist_gan.errors import WorkerDied
from tests.data.streams import CPU, opened, refused, take

WORKERS = pytest.mark.parametrize("workers", [0, 2])


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """Twenty images of 48x48 that do not compress, in two classes."""
    random = np.random.default_rng(0)
    for i in range(20):
        path = tmp_path / "data" / "ab"[i % 2] / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (48, 48, 3)).astype("u1")).save(path)
    return tmp_path / "data"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:3000])


def rot(path: Path) -> None:
    """Damage in the middle, which neither the beginning nor the end shows."""
    content = bytearray(path.read_bytes())
    content[2000:4000] = bytes(2000)
    path.write_bytes(content)


def indexed(dataset: Dataset) -> list[tuple[list[int], int]]:
    """The first pixel and the label of each image, by index, in batches of five."""
    ranges = [range(i, i + 5) for i in range(0, len(dataset), 5)]
    pairs = []
    for images, labels in dataset.batches(ranges, lambda r: torch.arange(r.start, r.stop), lambda r, k: torch.empty(0)):
        pairs += list(zip(images[:, :, 0, 0].tolist(), labels.tolist() or [-1] * len(images), strict=True))
    return pairs


@pytest.fixture(params=["content", "times"])
def by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the fingerprint reads: folders above the limit are looked at less closely."""
    if request.param == "times":
        monkeypatch.setattr(survey, "CONTENT_LIMIT", 10)
    return request.param


@pytest.mark.parametrize("megabytes", [0, 100])
@pytest.mark.parametrize("kind", ["png", "jpg", "gif", "webp", "bmp"])
def test_a_file_that_is_cut_short_is_named_at_the_start(noise: Path, kind: str, megabytes: int, by: str) -> None:
    path = noise / "a" / f"07.{kind}"
    with Image.open(noise / "a" / "06.png") as image:
        image.save(path, **({"lossless": True} if kind == "webp" else {}))
    assert len(opened(noise, resident_megabytes=megabytes)) == 21
    path.write_bytes(path.read_bytes()[:-30])
    text = refused(noise, resident_megabytes=megabytes)
    assert text.startswith(f"data.path: {path} (")
    assert "cannot be used. Repair or remove what is named, or set data.skip_broken=true" in text


@pytest.mark.parametrize("megabytes", [0, 100])
def test_several_broken_files_are_named_together(noise: Path, megabytes: int, by: str) -> None:
    (noise / "a" / "text.png").write_text("I am no picture")
    (noise / "b" / "empty.png").write_bytes(b"")
    text = refused(noise, resident_megabytes=megabytes)
    assert f"{noise / 'a' / 'text.png'} (not an image of a known kind)" in text
    assert f"{noise / 'b' / 'empty.png'} (not an image of a known kind)" in text


@WORKERS
@pytest.mark.parametrize("fate", [cut, rot, Path.unlink])
def test_what_breaks_later_is_named_once(noise: Path, workers: int, fate: Callable[[Path], Any]) -> None:
    dataset = opened(noise, resident_megabytes=0, workers=workers)
    fate(noise / "b" / "13.png")
    with pytest.raises(DataError) as error:
        indexed(dataset)
    text = str(error.value)
    assert text.startswith(f"data: {noise / 'b' / '13.png'} cannot be used (")
    assert "Put it back as it was, and the same command goes on" in text
    assert "data.skip_broken=true" in text
    assert "Traceback" not in text
    assert text.count("13.png") == 1
    assert error.value.__suppress_context__ or error.value.__cause__ is None


@WORKERS
def test_broken_images_are_replaced_by_the_next(noise: Path, workers: int, by: str) -> None:
    whole = indexed(opened(noise, labels=True, skip_broken=True))
    files = sorted(noise.glob("*/*.png"))
    for index in (3, 8, 9, 19):  # 9 is the last of its class: the next has another label; 19 is the last of all
        rot(files[index])
    expected = list(whole)
    expected[3], expected[8], expected[9], expected[19] = whole[4], whole[10], whole[10], whole[0]
    resident = opened(noise, labels=True, skip_broken=True)
    assert indexed(resident) == expected
    assert resident.notes == ("4 files could not be read and are replaced: a/06.png, a/16.png, a/18.png, b/19.png",)
    streamed = opened(noise, labels=True, skip_broken=True, resident_megabytes=0, workers=workers)
    assert isinstance(streamed, Streamed)
    assert indexed(streamed) == expected
    assert streamed.broken == {3, 8, 9, 19}
    assert streamed.fingerprint == resident.fingerprint  # where images are kept may change between starts
    assert "4 files" not in refused(noise)  # the default
    assert "a/06.png" in refused(noise)


def test_every_rank_sees_the_same_images_in_place_of_broken_ones(noise: Path, by: str) -> None:
    for index in (0, 5):
        rot(sorted(noise.glob("*/*.png"))[index])
    options = {"skip_broken": True, "resident_megabytes": 0, "workers": 0}

    def batches(rank: int, processes: int, images_seen: int = 0) -> list[Batch]:
        dataset = opened(noise, **options)
        return take(Stream(dataset, seed=1, batch_size=4, rank=rank, processes=processes, device=CPU), 10, images_seen)

    alone, first, second = batches(0, 1), batches(0, 2), batches(1, 2)
    for both, a, b in zip(alone, first, second, strict=True):
        assert torch.equal(both.images, torch.cat([a.images, b.images]))
    assert torch.equal(batches(0, 1, images_seen=8)[0].images, alone[2].images)


def test_only_some_images_may_be_broken(tmp_path: Path) -> None:
    for i in range(12):
        (tmp_path / f"{i:02d}.png").write_bytes(b"no image")
    Image.new("L", (16, 16)).save(tmp_path / "12.png")
    text = refused(tmp_path, skip_broken=True)
    assert "More than 10 of 13 images are broken, and data.skip_broken replaces no more" in text
    assert "00.png" in text
    assert "and others" in text
    for i in range(2):
        (tmp_path / f"{i:02d}.png").unlink()
    assert len(opened(tmp_path, skip_broken=True)) == 11
    (tmp_path / "12.png").unlink()  # none is left to stand for the others
    assert "More than 9 of 10 images are broken" in refused(tmp_path, skip_broken=True)


def test_the_cap_holds_for_what_is_found_later(noise: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = opened(noise, skip_broken=True, resident_megabytes=0, workers=0)
    for path in sorted(noise.glob("*/*.png"))[:11]:
        rot(path)
    with pytest.raises(DataError, match=r"11 of 20 images are broken, more than data.skip_broken replaces \(10\)"):
        indexed(dataset)


def test_a_file_that_cannot_be_reached_is_never_replaced_later(noise: Path) -> None:
    """Another process may reach it: only the content decides."""
    dataset = opened(noise, skip_broken=True, resident_megabytes=0, workers=0)
    (noise / "b" / "13.png").unlink()
    with pytest.raises(DataError, match=r"13\.png cannot be used \(No such file or directory\)"):
        indexed(dataset)


def test_a_broken_image_is_not_refused_by_threads_in_another_order(noise: Path) -> None:
    for index in (3, 8):
        cut(sorted(noise.glob("*/*.png"))[index])
    assert len({refused(noise) for _ in range(5)}) == 1


def test_a_share_that_comes_back_is_waited_for(noise: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is away when it is asked for, and comes back while it is tried again."""
    expected = indexed(opened(noise))
    dataset = opened(noise, Reading(patience=60), resident_megabytes=0, workers=0)
    away = noise.with_name("away")
    noise.rename(away)
    asked = threading.Event()

    def sleep(seconds: float) -> None:
        if not asked.is_set():
            asked.set()
            away.rename(noise)

    monkeypatch.setattr(files.time, "sleep", sleep)
    assert indexed(dataset) == expected
    assert asked.is_set()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that are waited, without waiting."""
    now = [0.0]
    monkeypatch.setattr(files.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(files.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return now


@pytest.mark.parametrize("away", ["root", "folder", "mount point"])
def test_patience_with_a_share_ends(noise: Path, clock: list[float], away: str) -> None:
    dataset = opened(noise, Reading(patience=300), resident_megabytes=0, workers=0)
    (noise / "b" if away == "folder" else noise).rename(noise.with_name("away"))
    if away == "mount point":
        (noise / "a").mkdir(parents=True)
        (noise / "b").mkdir()
    with pytest.raises(DataError, match="No such file"):
        indexed(dataset)
    assert 300 <= clock[0] < 301


def test_a_file_that_was_removed_is_not_waited_for(noise: Path, clock: list[float]) -> None:
    dataset = opened(noise, Reading(patience=300), resident_megabytes=0, workers=0)
    (noise / "b" / "13.png").unlink()
    with pytest.raises(DataError, match=r"13\.png cannot be used \(No such file"):
        indexed(dataset)
    assert 2 <= clock[0] < 3


@pytest.mark.parametrize(
    ("error", "died"),
    [
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "[Errno 104] Connection reset by peer"),
        (EOFError(), "EOFError"),
        (OSError("Caught OSError in DataLoader worker process 0.\nOriginal Traceback"), ""),  # a dataset's own error
    ],
)
def test_a_worker_that_dies_while_it_hands_over_a_batch(
    noise: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, died: str
) -> None:
    def loader(*_: Any, **__: Any) -> Any:
        yield from ()
        raise error

    monkeypatch.setattr("dist_gan.data.streamed.DataLoader", loader)
    with pytest.raises(WorkerDied if died else type(error)) as caught:
        indexed(opened(noise, resident_megabytes=0, workers=1))
    assert not died or f"a process that reads images died ({died})" in str(caught.value)
    assert worker_died(caught.value) is (caught.value if died else None)


def test_without_patience_a_share_that_is_away_is_an_error(noise: Path) -> None:
    dataset = opened(noise, resident_megabytes=0, workers=0)
    noise.rename(noise.with_name("away"))
    with pytest.raises(DataError, match="No such file"):
        indexed(dataset)


def test_an_unreadable_file_is_named_at_the_start(noise: Path, by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = survey.read

    def read(path: str, patience: float, errors: set[int]) -> bytes:
        if path.endswith("13.png"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real(path, patience, errors)

    monkeypatch.setattr(survey, "read", read)
    assert f"{noise / 'b' / '13.png'} (Permission denied) cannot be used" in refused(noise)
    replaced = opened(noise, skip_broken=True)
    assert replaced.notes == ("1 file could not be read and is replaced: b/13.png",)
    monkeypatch.setattr(survey, "read", real)
    assert opened(noise, skip_broken=True).fingerprint != replaced.fingerprint


def test_running_out_of_memory_is_not_a_broken_image(noise: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = opened(noise, resident_megabytes=0, workers=0)

    def decode(*arguments: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(from_files, "decode", decode)
    with pytest.raises(MemoryError):
        indexed(dataset)
