import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dist_gan.data import Folder, files
from dist_gan.data.files import AWAY, find, patiently, shown
from dist_gan.data.source import Reading
from tests.data.streams import opened, refused, stream, take


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        ("._00.png", "names that begin with a dot"),
        ("cats/.hidden.png", "names that begin with a dot"),
        ("__MACOSX/cats/._00.png", "__MACOSX"),
        (".ipynb_checkpoints/00-checkpoint.png", "names that begin with a dot"),
        ("cats/@eaDir/00.png/SYNOPHOTO_THUMB_S.jpg", "@eaDir"),
        (".thumbnails/0.png", "names that begin with a dot"),
        (".Trash-0/files/x.png", "names that begin with a dot"),
        ("lost+found/x.png", "lost+found"),
        ("$RECYCLE.BIN/x.png", "$RECYCLE.BIN"),
        ("System Volume Information/x.png", "System Volume Information"),
    ],
)
def test_what_systems_put_beside_images_is_no_data(folder: Path, odd: str, reason: str) -> None:
    before = opened(folder, labels=True)
    (folder / odd).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(folder / "cats" / "01.png", folder / odd)
    after = opened(folder, labels=True)
    assert len(after) == 40
    assert after.fingerprint == before.fingerprint
    assert after.classes == before.classes == ("cats", "dogs")
    assert after.notes == (f"1 skipped: {reason} (1)",)


def test_what_is_skipped_is_counted_in_one_line(folder: Path) -> None:
    for name in ("._a.png", "._b.png", "._c.png", ".DS_Store", "Thumbs.db", "readme.txt"):
        (folder / name).write_text("no image")
    (folder / "__MACOSX").mkdir()
    os.mkfifo(folder / "pipe.png")
    assert opened(folder).notes == (
        "5 skipped: names that begin with a dot (3), __MACOSX (1), pipes, sockets and devices (1)",
    )


def test_a_folder_of_hidden_images_says_so(tmp_path: Path) -> None:
    (tmp_path / "._a.png").write_text("no image")
    assert "1 skipped: names that begin with a dot (1)" in refused(tmp_path)


def test_a_data_folder_may_itself_be_hidden(tmp_path: Path) -> None:
    hidden = tmp_path / ".cache" / "lost+found"
    hidden.mkdir(parents=True)
    Image.new("L", (16, 16)).save(hidden / "a.png")
    assert len(opened(hidden)) == 1


def test_links_are_followed_and_circles_end(folder: Path, tmp_path: Path) -> None:
    shutil.move(str(folder / "dogs"), tmp_path / "dogs")
    (folder / "dogs").symlink_to(tmp_path / "dogs")
    (folder / "again").symlink_to(tmp_path / "dogs")
    (folder / "cats" / "up").symlink_to(folder)
    (tmp_path / "dogs" / "self").symlink_to(".")
    (folder / "one.png").symlink_to(folder / "cats" / "01.png")
    dataset = opened(folder)
    assert len(dataset) == 61  # the same folder by two links is used twice
    assert dataset.notes == ("3 skipped: links to a folder that they are in (3)",)


def test_links_without_inode_numbers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "cats" / "up").symlink_to("..")
    real = files._identity

    def without(path: str, status: os.stat_result) -> object:
        return real(path, os.stat_result((status.st_mode, 0, *status[2:])))

    monkeypatch.setattr(files, "_identity", without)
    assert len(opened(folder)) == 40


@pytest.mark.parametrize("name", ["gone.png", "gone"])
def test_a_link_whose_target_is_gone_is_named(folder: Path, name: str) -> None:
    (folder / name).symlink_to("/nowhere/at/all")
    text = refused(folder)
    assert f"{folder / name}" in text
    assert "a link to /nowhere/at/all, which is not there" in text
    if name == "gone.png":
        dataset = opened(folder, skip_broken=True)
        assert len(dataset) == 41
        assert dataset.notes == ("1 file could not be read and is replaced: gone.png",)
    else:  # it may have been a folder full of images
        assert "its images would be missing" in refused(folder, skip_broken=True)


def test_a_link_to_itself_is_named(folder: Path) -> None:
    (folder / "loop.png").symlink_to("loop.png")
    assert "loop.png (a link to loop.png, which is not there) cannot be used" in refused(folder)


@pytest.fixture
def closed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a sub-folder that cannot be listed. (The permissions of files do not stop root, who may test.)"""
    real = os.scandir

    def scandir(path: Any) -> Any:
        if Path(path).name == "dogs":
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(files.os, "scandir", scandir)
    return folder


@pytest.mark.parametrize("skips", [False, True])
def test_a_folder_that_cannot_be_listed_is_named(closed: Path, skips: bool) -> None:
    text = refused(closed, skip_broken=skips)
    assert f"the folder {closed / 'dogs'} cannot be listed (Permission denied)" in text


def test_names_that_are_not_utf_8(tmp_path: Path) -> None:
    inside = os.fsdecode(b"\xfe\xff.png")
    for name in (b"caf\xe9", b"z\xff", b"plain"):
        place = tmp_path / os.fsdecode(name)
        place.mkdir()
        Image.new("L", (16, 16), name[0]).save(tmp_path / "x.png")
        (tmp_path / "x.png").rename(place / inside)
    dataset = opened(tmp_path, labels=True)
    assert dataset.classes == (r"caf\xe9", "plain", r"z\xff")
    assert dataset.images[:, 0, 0, 0].tolist() == [*b"cpz"]  # type: ignore[attr-defined]
    assert opened(tmp_path, labels=True).fingerprint == dataset.fingerprint
    source = Folder(path=str(tmp_path), size=16, resident_megabytes=0, workers=2)
    streamed = take(stream(source, batch_size=3), 1)
    assert len(streamed[0].images) == 3
    (tmp_path / os.fsdecode(b"z\xff")).rename(tmp_path / os.fsdecode(b"z\xfe"))
    assert opened(tmp_path).fingerprint != dataset.fingerprint
    (tmp_path / "plain" / inside).write_bytes(b"no image")
    refused(tmp_path).encode()  # the message can be printed
    assert r"plain/\xfe\xff.png" in refused(tmp_path)


def test_the_order_of_names_is_that_of_their_bytes(tmp_path: Path) -> None:
    names = ["B.png", "a.png", "a/b.png", "a-b.png", "é.png", "\U0001f600.png", "～.png"]
    (tmp_path / "a").mkdir()
    for name in names:
        (tmp_path / name).write_bytes(b"")
    assert list(find(tmp_path).names) == sorted(names)
    assert shown("é") == "é"


def test_a_share_that_is_away_is_tried_again() -> None:
    tries = iter([OSError(errno.ESTALE, "stale"), OSError(errno.EIO, "broken"), None])

    def action() -> str:
        if error := next(tries):
            raise error
        return "there"

    assert patiently(action, 60, AWAY) == "there"


def test_a_mistake_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.time, "sleep", lambda seconds: pytest.fail("waited"))
    assert "is not a folder" in refused(tmp_path / "nowhere", reading=Reading(patience=60))


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(files.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(files.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))

    def action() -> None:
        raise OSError(errno.EIO, "still away")

    with pytest.raises(OSError, match="still away"):
        patiently(action, 10, AWAY)
    assert 10 <= now[0] < 11
