"""Zip files and tar shards: the same samples as a folder, indexes that are made once, and what is refused."""

import json
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dist_gan.data import Folder, Source, Tar, Zip, shards
from dist_gan.data.__main__ import main
from dist_gan.errors import DataError
from tests.data.archives import refused, tar_of, tars_of, zip_of
from tests.data.pictures import encoded, picture
from tests.data.streams import CPU, stream, take

WAYS = pytest.mark.parametrize(
    "way",
    [{"resident_megabytes": 100}, {"resident_megabytes": 0, "workers": 0}, {"resident_megabytes": 0, "workers": 2}],
)


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
def test_another_content_is_another_fingerprint(folder: Path, kind: Any) -> None:
    def path() -> str:
        return str(zip_of(folder) if kind is Zip else tars_of(folder, 2))

    before = kind(path=path(), size=16).open(CPU).fingerprint
    assert kind(path=path(), size=16, labels=True).open(CPU).fingerprint != before
    picture(5, 20, 30).save(folder / "cats" / "01.png")
    assert kind(path=path(), size=16).open(CPU).fingerprint != before


@WAYS
@pytest.mark.parametrize("harm", ["cut short", "in the middle"])
@pytest.mark.parametrize("kind", [Zip, Tar])
def test_broken_images_are_named_or_replaced(folder: Path, kind: Any, harm: str, way: dict[str, Any]) -> None:
    last = folder / "cats" / "39.png"  # the one that replaces it is a dog
    content = bytearray(last.read_bytes())
    content[content.index(b"IDAT") + 4] ^= 255
    last.write_bytes(content if harm == "in the middle" else content[:100])
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
    ("offset", "value", "message"),
    [
        (8, b"\x20\x00", "a.png in {} is encrypted, or compressed in a way that is not read here"),
        (20, b"\xff\xff\x00\x00\xff\xff\x00\x00", "{} is no whole zip file (it ends in the middle of a file)"),
        (46, b"\xff", "{} is no whole zip file ('utf-8' codec"),
    ],
)
def test_a_list_of_files_that_is_damaged(tmp_path: Path, offset: int, value: bytes, message: str) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("\u00e4.png" if offset == 46 else "a.png")
        archive.writestr(info, encoded(picture(0)))
    content = bytearray(path.read_bytes())
    place = content.index(b"PK\x01\x02") + offset
    content[place : place + len(value)] = value
    path.write_bytes(content)
    assert message.format(path) in refused(Zip(path=str(path), size=16))


def test_tables_in_several_folders(folder: Path) -> None:
    """One folder's labels are not those of another, and a copy that a system made is no table."""
    rows = json.dumps({"labels": [[f"{file.relative_to(folder)}", 1] for file in sorted(folder.rglob("*.png"))]})
    extra = {"images/dataset.json": rows, "other/dataset.json": rows}
    text = refused(Zip(path=str(zip_of(folder, extra=extra)), size=16, labels=True))
    assert "has several tables of labels: images/dataset.json, other/dataset.json" in text
    text = refused(Zip(path=str(zip_of(folder, extra={"others/dataset.json": rows})), size=16, labels=True))
    assert "has no class in others/dataset.json" in text
    extra = {"images/dataset.json": rows, "__MACOSX/dataset.json": "{"}
    assert Zip(path=str(zip_of(folder, extra=extra)), size=16, labels=True).open(CPU).classes == ("0", "1")


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


def open_files() -> list[str]:
    return [os.path.realpath(file) for file in Path("/proc/self/fd").iterdir()]


@pytest.mark.parametrize("keeps_open", [True, False])
def test_shards_that_change_or_vanish_under_a_run(
    folder: Path, keeps_open: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "MOST_OPEN", 256 if keeps_open else 0)
    place = tars_of(folder, 1)
    source = Tar(path=str(place), size=16, resident_megabytes=0, workers=0)
    source.open(CPU)  # makes the index, for which it opens the shard
    dataset = source.open(CPU)
    (path,) = place.glob("*.tar")
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
