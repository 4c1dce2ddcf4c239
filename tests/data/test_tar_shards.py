"""Tar shards: which file of a sample is what, and what is refused."""

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dist_gan.data import Tar
from dist_gan.data.source import Dataset
from dist_gan.data.tar_shards import braces
from dist_gan.errors import ConfigError
from tests.data.archives import refused, tar_of, tars_of
from tests.data.pictures import encoded, picture
from tests.data.streams import CPU


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


@pytest.mark.parametrize(
    "harm",
    [
        lambda content, place: content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :],
        lambda content, place: content[:place] + bytes(2048) + content[place + 2048 :],
        lambda content, place: content + content,
    ],
    ids=["in a header", "a hole", "joined"],
)
def test_a_tar_does_not_end_early_without_a_word(tmp_path: Path, harm: Callable[[bytes, int], bytes]) -> None:
    path = tar_of(tmp_path / "a.tar", {f"{number}.jpg": jpg(number) for number in range(10)})
    assert len(Tar(path=str(path), size=16).open(CPU)) == 10
    with tarfile.open(path) as tar:
        place = tar.getmembers()[4].offset
    path.write_bytes(harm(path.read_bytes(), place))
    text = refused(Tar(path=str(path), size=16))
    assert f"{path} is no whole tar file (it is damaged at byte " in text


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
    assert plain.notes == ("2 skipped: names that begin with a dot (1), samples without an image (1)",)
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
        ({"0.jpg": 0, "0.JPG": 1}, {}, "0 in {} has two files .jpg. Files with one name before"),
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


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("1.jpg", tarfile.GNUTYPE_SPARSE, "1.jpg in {} is stored sparse, which is not read here. Make the tar again "),
        ("1.jpg", tarfile.LNKTYPE, "1.jpg in {} is a hard link to 0.jpg, which is not read here. Make the tar again"),
        ("0.cls", tarfile.LNKTYPE, "0.cls in {} is a hard link to 0.jpg"),
    ],
)
def test_files_whose_bytes_are_elsewhere(tmp_path: Path, name: str, kind: bytes, message: str) -> None:
    content = b"0.jpg" if kind == tarfile.LNKTYPE else jpg(1)
    path = tar_of(tmp_path / "a.tar", {"0.jpg": jpg(0), name: content}, {name: kind})
    assert message.format(path) in refused(Tar(path=str(path), size=16, labels=name == "0.cls"))


def test_images_that_are_skipped_are_counted(tmp_path: Path) -> None:
    files = {"a\nb/0.jpg": jpg(0), "a\nb/0.txt": b"0.jpg", "a\nb/0.TXT": b"", "../1.jpg": jpg(1), ".x/2.jpg": jpg(2),
             "__MACOSX/3.jpg": jpg(3), "4.jpg": b"0.jpg"}  # fmt: skip
    links = {"4.jpg": tarfile.SYMTYPE, "a\nb/0.txt": tarfile.LNKTYPE}  # nothing needs the text
    dataset = Tar(path=str(tar_of(tmp_path / "a.tar", files, links)), size=16).open(CPU)
    assert len(dataset) == 1
    skipped = "names that begin with a dot (2), __MACOSX (1), symbolic links (1)"
    assert dataset.notes == (f"4 skipped: {skipped}",)


def test_more_dots_and_capital_letters(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        samples(tmp_path, {"cat.0.png": encoded(picture(0)), "cat.1.png": encoded(picture(1))})
    assert "a.tar. 2 skipped: images with more than one dot in their names (see data.image) (2)" in str(error.value)
    dataset = samples(tmp_path, {"a.PNG": encoded(picture(0)), "a.CLS": b"3"}, image="PNG", labels=True, label="CLS")
    assert dataset.classes == tuple("0123")
