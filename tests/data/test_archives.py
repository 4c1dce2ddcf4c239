"""Zip files and tar shards: the same samples as a folder, indexes that are made once, and what is refused."""

import json
import os
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dist_gan.data import Folder, Source, Tar, Zip, index, tar_shards
from dist_gan.data.__main__ import main
from dist_gan.data.index import ENTRY
from dist_gan.data.source import Dataset, Reading
from dist_gan.data.tar_shards import braces
from dist_gan.errors import ConfigError, DataError
from tests.data.archives import tar_of, tars_of, zip_of
from tests.data.pictures import encoded, picture
from tests.data.streams import CPU, stream, take

WAYS = pytest.mark.parametrize(
    "way",
    [{"resident_megabytes": 100}, {"resident_megabytes": 0, "workers": 0}, {"resident_megabytes": 0, "workers": 2}],
)


def refused(source: Source, reading: Reading | None = None) -> str:
    with pytest.raises(ConfigError) as error:
        source.open(CPU, *([reading] if reading else []))
    return str(error.value)


def same_samples(a: Source, b: Source) -> None:
    for one, other in zip(take(stream(a), 3), take(stream(b), 3), strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)


@WAYS
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_is_like_its_folder(folder: Path, method: int, way: dict[str, Any]) -> None:
    zipped = Zip(path=str(zip_of(folder, method)), size=16, labels=True, **way)
    same_samples(Folder(path=str(folder), size=16, labels=True), zipped)
    assert zipped.open(CPU).classes == ("cats", "dogs")


@WAYS
def test_tar_shards_are_like_their_folder(folder: Path, way: dict[str, Any]) -> None:
    shards = Tar(path=str(tars_of(folder, 3)), size=16, labels=True, **way)
    same_samples(Folder(path=str(folder), size=16, labels=True), shards)
    assert shards.open(CPU).classes == ("cats", "dogs")


def test_stylegans_layout(folder: Path) -> None:
    """Numbers by name, whatever their order, with Windows' slashes too; numbers without an image leave a gap."""
    names = [f"images/{file.relative_to(folder)}" for file in sorted(folder.rglob("*.png"))]
    rows = [[name.replace("/", "\\") if k % 2 else name, 3 * (k % 2)] for k, name in enumerate(names)]
    path = zip_of(folder, extra={"dataset.json": json.dumps({"labels": rows[::-1]})})
    dataset = Zip(path=str(path), size=16, labels=True).open(CPU)
    assert dataset.classes == ("0", "1", "2", "3")
    assert dataset.labels.tolist() == [0, 3] * 20  # type: ignore[attr-defined]
    assert Zip(path=str(path), size=16).open(CPU).classes == ()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('{"labels": null}', "has no labels. Set data.labels=false"),
        ("[]", "has no labels. Set data.labels=false"),
        ("{", "is not as expected"),
        ('{"labels": [1]}', "is not as expected"),
        ('{"labels": [["images/cats/01.png", [0.5, 1]]]}', "has the class [0.5, 1] in dataset.json"),
        ('{"labels": [["images/cats/01.png", 1]]}', "has no class in dataset.json"),
        ('{"labels": [["images/cats/01.png", -1]]}', "images/cats/01.png in "),
    ],
)
def test_tables_that_cannot_be_used(folder: Path, table: str, message: str) -> None:
    if "-1" in table:
        shutil.rmtree(folder / "dogs")
        for file in list((folder / "cats").iterdir())[0:]:
            if file.name != "01.png":
                file.unlink()
    text = refused(Zip(path=str(zip_of(folder, extra={"dataset.json": table})), size=16, labels=True))
    assert message in text


@pytest.mark.parametrize("kind", [Zip, Tar])
def test_the_index_is_made_once(folder: Path, cache: Path, kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zip_of(folder) if kind is Zip else tars_of(folder, 3)
    source = kind(path=str(path), size=16, labels=True, resident_megabytes=0, workers=0)
    before = source.open(CPU)
    files = sorted((cache / "indexes").glob("*.*"))
    assert [file.suffix for file in files if file.name != ".lock"] == [".json", ".npy"]
    with monkeypatch.context() as patch:
        patch.setattr(index, "examine", lambda *arguments, **options: pytest.fail("read again"))
        again = source.open(CPU)
        assert again.fingerprint == before.fingerprint
        assert len(again) == 40
        one = path if kind is Zip else path / "train-001.tar"
        os.utime(one, ns=(0, 0))
        with pytest.raises(pytest.fail.Exception, match="read again"):
            source.open(CPU)
    assert source.open(CPU).fingerprint == before.fingerprint  # of the content: the time does not matter
    moved = path.rename(path.with_name("moved"))
    assert kind(**{**source.model_dump(), "path": str(moved)}).open(CPU).fingerprint == before.fingerprint


@pytest.mark.parametrize("harm", ["cut short", "changed", "gone", "no json"])
def test_a_damaged_index_is_made_again(folder: Path, cache: Path, harm: str) -> None:
    source = Tar(path=str(tars_of(folder, 2)), size=16, labels=True)
    before = source.open(CPU)
    (entries,) = (cache / "indexes").glob("*.npy")
    content = bytearray(entries.read_bytes())
    if harm == "cut short":
        entries.write_bytes(content[:-20])
    elif harm == "changed":
        content[-1] ^= 1
        entries.write_bytes(content)
    elif harm == "gone":
        entries.unlink()
    else:
        entries.with_suffix(".json").write_text("{")
    after = source.open(CPU)
    assert torch.equal(after.images, before.images)  # type: ignore[attr-defined]
    assert torch.equal(after.labels, before.labels)  # type: ignore[attr-defined]


def test_an_index_has_sixteen_bytes_an_image(folder: Path, cache: Path) -> None:
    Tar(path=str(tars_of(folder, 2)), size=16).open(CPU)
    (entries,) = (cache / "indexes").glob("*.npy")
    assert ENTRY.itemsize == 16
    assert 0 < entries.stat().st_size - 40 * 16 < 256  # its header


@pytest.mark.parametrize("kind", [Zip, Tar])
def test_another_content_is_another_fingerprint(folder: Path, kind: Any) -> None:
    def path() -> str:
        return str(zip_of(folder) if kind is Zip else tars_of(folder, 2))

    before = kind(path=path(), size=16).open(CPU).fingerprint
    assert kind(path=path(), size=16, labels=True).open(CPU).fingerprint != before
    picture(5, 20, 30).save(folder / "cats" / "01.png")
    assert kind(path=path(), size=16).open(CPU).fingerprint != before


@WAYS
@pytest.mark.parametrize("kind", [Zip, Tar])
def test_broken_images_are_named_or_replaced(folder: Path, kind: Any, way: dict[str, Any]) -> None:
    last = folder / "cats" / "39.png"  # the one that replaces it is a dog
    last.write_bytes(last.read_bytes()[:100])
    path = zip_of(folder) if kind is Zip else tars_of(folder, 2)
    source = kind(path=str(path), size=16, labels=True, **way)
    text = refused(source)
    assert "39.png in " in text
    assert str(path) in text
    assert "set data.skip_broken=true" in text
    skipping = source.model_copy(update={"skip_broken": True})
    dataset = skipping.open(CPU)
    assert "1 file could not be read and is replaced" in dataset.notes[0]
    same_samples(Folder(path=str(folder), size=16, labels=True, skip_broken=True), skipping)


def test_a_zip_whose_content_was_changed(folder: Path) -> None:
    """Its checksum finds what an image does not show."""
    path = zip_of(folder)
    with zipfile.ZipFile(path) as archive:
        place = archive.getinfo("images/cats/01.png").header_offset
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT", place) + 8] ^= 1
    path.write_bytes(content)
    assert "images/cats/01.png in" in (text := refused(Zip(path=str(path), size=16)))
    assert "Bad CRC-32" in text


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        ("in a header", "is no whole tar file"),
        ("in a file", "is no whole tar file"),
        ("its end", "its end is missing"),
        ("compressed", "is no whole tar file"),
        ("empty", "is no whole tar file"),
    ],
)
def test_tar_files_that_are_not_whole(folder: Path, harm: str, message: str) -> None:
    shards = tars_of(folder, 2)
    one = shards / "train-001.tar"
    content = one.read_bytes()
    with tarfile.open(one) as tar:
        last = tar.getmembers()[-1]
    cut = {"in a header": 700, "in a file": 600, "its end": last.offset_data + 512, "empty": 0}
    if harm == "compressed":
        import gzip

        one.write_bytes(gzip.compress(content))
    else:
        one.write_bytes(content[: cut[harm]])
    text = refused(Tar(path=str(shards), size=16))
    assert message in text
    assert "train-001.tar" in text


def test_archives_that_cannot_be_used(folder: Path, tmp_path: Path) -> None:
    assert "No such file" in refused(Zip(path=str(tmp_path / "none.zip"), size=16))
    assert "is a folder" in refused(Zip(path=str(folder), size=16))
    (tmp_path / "text.zip").write_text("no zip")
    assert "is no whole zip file" in refused(Zip(path=str(tmp_path / "text.zip"), size=16))
    path = zip_of(folder)
    path.write_bytes(path.read_bytes()[:-30])
    assert "is no whole zip file" in refused(Zip(path=str(path), size=16))
    assert "in a way that is not read here" in refused(Zip(path=str(zip_of(folder, zipfile.ZIP_BZIP2)), size=16))
    (folder / "stray.png").write_bytes(encoded(picture(0)))
    assert "stray.png" in refused(Zip(path=str(zip_of(folder)), size=16, labels=True))
    assert "no .tar file at" in refused(Tar(path=str(folder), size=16))
    assert "No such file" in refused(Tar(path=str(tmp_path / "a-{0..1}.tar"), size=16))
    tar_of(tmp_path / "none.tar", {"readme.txt": b"text"})
    assert "there is no image in" in refused(Tar(path=str(tmp_path / "none.tar"), size=16))


def test_an_index_that_cannot_be_written(folder: Path, cache: Path) -> None:
    (cache / "indexes").write_text("a file")
    assert "Set DIST_GAN_DATA to a folder with room" in refused(Zip(path=str(zip_of(folder)), size=16))


def open_files() -> list[str]:
    return [os.path.realpath(file) for file in Path("/proc/self/fd").iterdir()]


def jpg(number: int) -> bytes:
    return encoded(picture(number), "JPEG")


def samples(tmp_path: Path, files: dict[str, bytes], **options: Any) -> Dataset:
    tar_of(tmp_path / "a.tar", files)
    return Tar(path=str(tmp_path / "a.tar"), size=16, **options).open(CPU)


def test_which_file_of_a_sample_is_what(tmp_path: Path) -> None:
    files = {
        "x/0.jpg": jpg(0), "x/0.seg.png": encoded(picture(7)), "x/0.json": b'{"kind": 2}', "x/0.cls": b"5\n",
        "._x/0.jpg": b"junk", "notes": b"text", "x/text.txt": b"a sample without an image",
        "x/1.json": b'{"kind": 0}', "x/1.cls": b"1", "x/1.JPG": jpg(1), "x/1.seg.png": encoded(picture(8)),
    }  # fmt: skip
    plain = samples(tmp_path, files)
    assert len(plain) == 2
    assert plain.notes == ("1 skipped: samples without an image (1)",)
    first = Tar(path=str(tmp_path / "a.tar"), size=16, labels=True).open(CPU)
    assert first.labels.tolist() == [5, 1]  # type: ignore[attr-defined]
    assert first.classes == tuple("012345")
    other = Tar(path=str(tmp_path / "a.tar"), size=16, image="seg.png", labels=True, label="json:kind").open(CPU)
    assert other.labels.tolist() == [2, 0]  # type: ignore[attr-defined]
    assert not torch.equal(other.images, first.images)  # type: ignore[attr-defined]
    assert other.fingerprint != first.fingerprint


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        ({"0.jpg": 0, "0.png": 1}, {}, "0 in {} has 2 images: jpg, png. Set data.image=jpg"),
        ({"0.jpg": 0}, {"labels": True}, "0 in {} has no .cls, but jpg"),
        ({"0.jpg": 0, "0.cls": b"-1"}, {"labels": True}, "has the class -1, expected 0 to"),
        ({"0.jpg": 0, "0.cls": b"1", "1.jpg": 1, "1.cls": b"a"}, {"labels": True}, "Give all of them numbers"),
        ({"0.jpg": 0, "0.json": b"{}"}, {"labels": True, "label": "json:a"}, "the .json of 0 in {} has no class 'a'"),
        ({"0.jpg": 0, "0.json": b'{"a": 0.5}'}, {"labels": True, "label": "json:a"}, "is 0.5, expected a number"),
    ],
)
def test_samples_that_cannot_be_used(tmp_path: Path, files: Any, options: Any, message: str) -> None:
    content = {name: jpg(what) if isinstance(what, int) else what for name, what in files.items()}
    with pytest.raises(ConfigError) as error:
        samples(tmp_path, content, **options)
    assert message.format(tmp_path / "a.tar") in str(error.value)


def test_names_of_shards(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert braces("a-{08..11}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]
    assert braces("{a,b}/{0..1}") == ["a/0", "a/1", "b/0", "b/1"]
    shards = tars_of(folder, 3)
    monkeypatch.chdir(folder.parent)
    known = Tar(path=str(shards), size=16).open(CPU).fingerprint
    for path in ("shards", "shards/*.tar", f"{shards}/train-*.tar", "shards/train-{000..002}.tar"):
        assert Tar(path=path, size=16).open(CPU).fingerprint == known
    assert len(Tar(path="shards/train-000.tar", size=16).open(CPU)) == 14


@pytest.mark.parametrize("keeps_open", [True, False])
def test_shards_that_change_or_vanish_under_a_run(
    folder: Path, keeps_open: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tar_shards, "MOST_OPEN", 256 if keeps_open else 0)
    shards = tars_of(folder, 1)
    source = Tar(path=str(shards), size=16, resident_megabytes=0, workers=0)
    source.open(CPU)  # makes the index, for which it opens the shard
    dataset = source.open(CPU)
    (path,) = shards.glob("*.tar")
    os.utime(path, ns=(0, 0))
    everything = ([range(40)], lambda those: torch.arange(40), lambda those, k: torch.arange(0))
    with pytest.raises(DataError, match=r"00\.png in .*train-000\.tar was changed since the run began|was changed"):
        next(dataset.batches(*everything))
    dataset = source.open(CPU)
    next(dataset.batches(*everything))
    assert open_files().count(str(path)) == keeps_open
    os.truncate(path, 2048)
    with pytest.raises(DataError):
        next(dataset.batches(*everything))


def test_packing_a_zip_and_shards(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (zip_of(folder), tars_of(folder, 2)):
        out = tmp_path / f"{path.stem}-pack"
        assert main(["pack", str(path), f"out={out}", "size=16", "labels=true", "workers=0"]) == 0
        assert np.load(out / "images.npy").shape == (40, 3, 16, 16)
        assert np.load(out / "labels.npy").tolist() == [0] * 20 + [1] * 20
    assert "data.labels=true" in capsys.readouterr().out
