"""Indexes of shards: made once, complete, and what is said where one cannot be made."""

import errno
import os
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from dist_gan.data import Tar, Zip, files, from_files, index, shards, tar_shards
from dist_gan.data.decode import Broken, Look, decode
from dist_gan.data.index import ENTRY
from dist_gan.data.shards import Local
from dist_gan.data.source import Dataset, Reading
from dist_gan.errors import ConfigError, DataError
from tests.data.archives import refused, tars_of, zip_of
from tests.data.streams import CPU


@pytest.mark.parametrize("kind", [Zip, Tar])
def test_the_index_is_made_once(folder: Path, cache: Path, kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zip_of(folder) if kind is Zip else tars_of(folder, 3)
    source = kind(path=str(path), size=16, labels=True, resident_megabytes=0, workers=0)
    before = source.open(CPU)
    made = sorted((cache / "indexes").glob("*.*"))
    assert [file.suffix for file in made if file.name != ".lock"] == [".json", ".npy"]
    with monkeypatch.context() as patch:
        patch.setattr(index, "whole", lambda *arguments, **options: pytest.fail("read again"))
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


def test_an_index_that_cannot_be_written(folder: Path, cache: Path) -> None:
    (cache / "indexes").write_text("a file")
    assert "Set DIST_GAN_DATA to a folder with room" in refused(Zip(path=str(zip_of(folder)), size=16))


def test_machines_with_other_times_do_not_replace_each_others_index(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zip_of(folder)

    def opened(changed: int) -> str:
        os.utime(path, ns=(changed, changed))
        return Zip(path=str(path), size=16, resident_megabytes=0).open(CPU).fingerprint

    assert opened(1) == opened(2)
    monkeypatch.setattr(index, "whole", lambda *arguments: pytest.fail("read again"))
    assert opened(1) == opened(2)


@pytest.mark.parametrize("kind", [Zip, Tar])
def test_a_shard_that_cannot_be_read_is_waited_for_and_named(
    folder: Path, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zip_of(folder) if kind is Zip else tars_of(folder, 1) / "train-000.tar"
    source = kind(path=str(path), size=16)
    away, read = True, Local.read

    def back(seconds: float) -> None:
        nonlocal away
        away = False

    def reads(self: Local, offset: int, size: int) -> bytes:
        if away:
            raise OSError(errno.ETIMEDOUT, "Connection timed out")
        return read(self, offset, size)

    monkeypatch.setattr(Local, "read", reads)
    monkeypatch.setattr(files.time, "sleep", back)
    assert refused(source) == f"data.path: {path} cannot be read (Connection timed out)"
    assert len(source.open(CPU, Reading(patience=60))) == 40
    assert not away


def test_a_shard_that_changed_after_it_was_listed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zip_of(folder)
    stamp = shards.stamp
    monkeypatch.setattr(shards, "stamp", lambda path: [stamp(path)[0], 5])
    assert refused(Zip(path=str(path), size=16)) == f"data.path: {path} was changed since the run began"


@pytest.mark.parametrize("inside", [False, True])
def test_a_disk_without_room(folder: Path, inside: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the index, or in what a scan copies."""

    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(*((tar_shards, "_sample") if inside else (index.np, "save")), full)
    text = refused(Tar(path=str(tars_of(folder, 1)), size=16))
    assert "(No space left on device). Set DIST_GAN_DATA to a folder with room" in text


@pytest.mark.parametrize("megabytes", [0, 100])
def test_an_image_that_another_decoder_refuses(folder: Path, megabytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the index did not find is handled alike, wherever images are kept."""
    source = Zip(path=str(zip_of(folder)), size=16, workers=0, resident_megabytes=megabytes)
    whole = source.open(CPU)

    def everything(dataset: Dataset) -> torch.Tensor:
        ranges = [range(40)]
        return next(dataset.batches(ranges, lambda those: torch.arange(40), lambda those, k: torch.arange(0)))[0]

    expected = everything(whole).clone()
    with zipfile.ZipFile(source.path) as archive:
        third = archive.read(sorted(archive.namelist())[2])

    def refuses(content: bytes, look: Look) -> Any:
        if content == third:
            raise Broken("of a new kind")
        return decode(content, look)

    monkeypatch.setattr(shards, "decode", refuses)
    monkeypatch.setattr(from_files, "decode", refuses)
    expected[2] = expected[3]
    assert torch.equal(everything(source.model_copy(update={"skip_broken": True}).open(CPU)), expected)
    with pytest.raises((ConfigError, DataError), match=r"05\.png in .*of a new kind"):
        everything(source.open(CPU))


def test_threads_share_an_open_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is opened once, and closed by nobody who does not read it alone."""
    paths = [tmp_path / f"{number:02d}" for number in range(20)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]) * 100)
    there = [Local(path) for path in paths]
    calls, pread, open_ = count(), os.pread, os.open

    def opens(*arguments: Any) -> int:
        time.sleep(0.001)  # others come to the same place
        return open_(*arguments)

    def opened() -> list[str]:
        known = {str(path) for path in paths}
        return sorted(path for file in Path("/proc/self/fd").iterdir() if (path := os.path.realpath(file)) in known)

    def fails(*arguments: int) -> bytes:
        if next(calls) % 7 == 0:
            raise OSError(errno.EIO, "Input/output error")
        return pread(*arguments)

    monkeypatch.setattr(os, "pread", fails)
    monkeypatch.setattr(os, "open", opens)

    def read(place: int) -> bool:
        try:
            return there[place // 8 % 20].read(10, 50) == bytes([place // 8 % 20]) * 50
        except OSError:
            return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(1000)))
    assert len(set(opened())) == len(opened())
    there.clear()
    assert opened() == []
