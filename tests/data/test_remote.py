"""Shards at a URL: what is kept, what is fetched, and what happens where a download is torn."""

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dist_gan.data import Folder, Source, Tar, remote
from dist_gan.data.fetch import on_disk_only
from dist_gan.data.remote import Remote, is_url
from dist_gan.data.source import Reading
from dist_gan.errors import ConfigError, DataError
from tests.data.archives import tars_of
from tests.data.streams import CPU, stream, take

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def bucket(folder: Path) -> Iterator[Any]:
    """Three shards of the folder in fsspec's file system in memory."""
    memory = fsspec.filesystem("memory")
    for shard in tars_of(folder, 3).glob("*.tar"):
        memory.pipe_file(f"/bucket/{shard.name}", shard.read_bytes())
    yield memory
    memory.rm("/bucket", recursive=True)


def source(**options: Any) -> Tar:
    return Tar(**{"path": "memory://bucket/train-{000..002}.tar", "size": 16, "labels": True, "workers": 0, **options})


def refused(source: Source) -> str:
    with pytest.raises(ConfigError) as error:
        source.open(CPU, Reading())
    return str(error.value)


def copies(cache: Path) -> list[Path]:
    return sorted((cache / "shards").glob("*.tar"))


@pytest.mark.parametrize("megabytes", [0, 100])
@pytest.mark.parametrize("gigabytes", [0, 4e-5, 1])
def test_remote_shards_are_like_their_folder(
    folder: Path, bucket: Any, cache: Path, megabytes: int, gigabytes: float
) -> None:
    """Whatever of them is kept."""
    data = source(resident_megabytes=megabytes, cache_gigabytes=gigabytes)
    known = take(stream(Folder(path=str(folder), size=16, labels=True)), 3)
    for one, other in zip(known, take(stream(data), 3), strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)
    sizes = [bucket.size(f"/bucket/train-{n:03d}.tar") for n in range(3)]
    kept = sum(sum(sizes[: n + 1]) <= gigabytes * 1e9 for n in range(3))
    assert kept == {0: 0, 4e-5: 1, 1: 3}[gigabytes], sizes
    assert sorted(path.stat().st_size for path in copies(cache)) == sorted(sizes[:kept])
    notes = data.open(CPU).notes
    assert [note for note in notes if "data.cache_gigabytes" in note] == list(notes)
    assert len(notes) == (kept < 3)


def test_urls(folder: Path, bucket: Any) -> None:
    known = source().open(CPU).fingerprint
    for url in ("memory://bucket/*.tar", "memory://bucket", f"file://{folder.parent}/shards/train-*.tar"):
        assert source(path=url).open(CPU).fingerprint == known
    assert not is_url("shards/a.tar")
    assert not is_url("C:/a.tar")


def test_nothing_is_fetched_twice(bucket: Any, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = source().open(CPU).fingerprint
    assert len(copies(cache)) == 3
    monkeypatch.setattr(type(bucket), "cat_file", lambda *arguments, **options: pytest.fail("fetched again"))
    with on_disk_only():
        assert source().open(CPU).fingerprint == known


@pytest.mark.parametrize("harm", ["cut short", "changed", "no facts", "gone"])
def test_a_damaged_copy_is_fetched_again(folder: Path, bucket: Any, cache: Path, harm: str) -> None:
    before = source().open(CPU)
    copy = copies(cache)[1]
    content = bytearray(copy.read_bytes())
    whole = bytes(content)
    if harm == "cut short":
        copy.write_bytes(content[:-1])
    elif harm == "changed":
        content[700] ^= 1
        copy.write_bytes(content)
    elif harm == "gone":
        copy.unlink()
    else:
        Path(f"{copy}.json").unlink()
    with on_disk_only():
        assert "nothing is downloaded now" in refused(source())
    after = source().open(CPU)
    assert torch.equal(after.images, before.images)  # type: ignore[attr-defined]
    assert copy.read_bytes() == whole
    assert json.loads(Path(f"{copy}.json").read_text())["stamp"][0] == len(whole)


@pytest.mark.parametrize("gigabytes", [0, 1])
def test_a_torn_download_is_found(bucket: Any, cache: Path, gigabytes: float, monkeypatch: pytest.MonkeyPatch) -> None:
    real = type(bucket).cat_file

    def torn(self: Any, path: str, start: int, end: int) -> bytes:
        return bytes(real(self, path, start=start, end=end)[: max(0, 6000 - start)])

    monkeypatch.setattr(type(bucket), "cat_file", torn)
    text = refused(source(cache_gigabytes=gigabytes))
    assert "memory://bucket/train-000.tar" in text
    assert "6,000 of" in text
    assert not [path for path in (cache / "shards").glob("*") if path.name != ".lock"]
    assert not list((cache / "indexes").glob("*.npy"))
    monkeypatch.setattr(type(bucket), "cat_file", real)
    assert len(source(cache_gigabytes=gigabytes).open(CPU)) == 40


def changed(bucket: Any) -> None:
    """The first shard gets another class, at the same size."""
    content = bucket.cat_file("/bucket/train-000.tar")
    bucket.pipe_file("/bucket/train-000.tar", content.replace(b"cats", b"bats"))


def without_version(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = type(bucket).info
    monkeypatch.setattr(type(bucket), "info", lambda self, path: {**real(self, path), "created": None})


@pytest.mark.parametrize("gigabytes", [0, 1])
def test_another_version_of_the_same_size(bucket: Any, gigabytes: float) -> None:
    before = source(cache_gigabytes=gigabytes).open(CPU)
    changed(bucket)
    after = source(cache_gigabytes=gigabytes).open(CPU)
    assert after.classes == ("bats", "cats", "dogs")
    assert after.fingerprint != before.fingerprint


@pytest.mark.parametrize(
    "key", ["ETag", "mtime", "Last-Modified", "last_modified", "generation", "updated", "created", "blob_id", "sha"]
)
def test_what_is_a_version(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {"name": "a", "size": 5, "type": "file", key: "one", "atime": 1.5, "last_commit": "one"}
    monkeypatch.setattr(remote, "file_system", lambda url: (SimpleNamespace(info=lambda path: facts), "a"))
    before = Remote("cloud://a").stamp
    facts |= {"atime": 2.5, "last_commit": "another"}
    assert Remote("cloud://a").stamp == before
    facts[key] = "another"
    assert Remote("cloud://a").stamp != before


def test_a_shard_that_becomes_another_one(bucket: Any, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the same size, where there is no version: only its content shows it."""
    without_version(bucket, monkeypatch)
    assert "3 of 3 files at URLs have no time, hash or version" in source().open(CPU).notes[0]
    changed(bucket)
    (copy,) = (cache / "shards").glob("*-train-000.tar")
    copy.unlink()
    assert "is not what it was when its index was made" in refused(source())


def test_a_shard_that_is_changed_during_a_run(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = Remote("memory://bucket/train-000.tar")
    shard.read(0, 512)
    changed(bucket)
    monkeypatch.setattr(remote, "LOOK_AGAIN", 0)
    with pytest.raises(OSError, match="was changed since the run began"):
        shard.read(0, 512)


def test_many_kept_shards_are_not_all_kept_open(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data = source(resident_megabytes=0)
    data.open(CPU)  # their copies are made
    for limit, kept_open in ((3 * 4, 3), (3 * 4 - 1, 0)):
        monkeypatch.setattr(resource, "getrlimit", lambda what, limit=limit: (limit, limit))
        shards = remote.remote_shards([f"memory://bucket/train-00{n}.tar" for n in range(3)], 1e9)
        contents = [shard.read(0, 512) for shard in shards]
        assert sum(shard.local is not None and shard.local.file is not None for shard in shards) == kept_open
        shards[1].copy.unlink()
        assert [shard.read(0, 512) for shard in shards] == contents


def test_what_a_killed_process_left_is_removed(bucket: Any, cache: Path) -> None:
    script = "import os, sys; from pathlib import Path; from dist_gan.data.durable import replacing\n"
    script += "with replacing(Path(sys.argv[1])) as file: file.write(bytes(100)); os.kill(os.getpid(), 9)"
    (cache / "shards").mkdir()
    (cache / "shards" / ".from-another-machine-0-1").write_bytes(b"")
    for _ in range(2):
        subprocess.run([sys.executable, "-c", script, str(cache / "shards" / "a.tar")], check=False)
    assert len(list((cache / "shards").iterdir())) == 3
    source().open(CPU)
    assert {path.name for path in (cache / "shards").glob(".*")} == {".lock", ".from-another-machine-0-1"}


def test_a_network_that_fails_for_a_moment(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data = source(resident_megabytes=0, cache_gigabytes=0)
    dataset = data.open(CPU, Reading(patience=60))
    quick = data.open(CPU, Reading())
    real = type(bucket).cat_file
    failures = iter([ValueError("connection reset"), OSError("no route")])

    def fails(self: Any, *arguments: Any, **options: Any) -> Any:
        if error := next(failures, None):
            raise error
        return real(self, *arguments, **options)

    monkeypatch.setattr(type(bucket), "cat_file", fails)
    everything = ([range(40)], lambda those: torch.arange(40), lambda those, k: torch.arange(0))
    assert len(next(dataset.batches(*everything))[0]) == 40
    failures = iter([ValueError("connection reset")])
    with pytest.raises(DataError, match=r"01\.png in memory://bucket/train-000\.tar cannot be used .*connection reset"):
        next(quick.batches(*everything))


def test_a_folder_with_a_dot(bucket: Any) -> None:
    known = source().open(CPU).fingerprint
    bucket.cp("/bucket", "/bucket/set.v2", recursive=True)
    assert source(path="memory://bucket/set.v2").open(CPU).fingerprint == known


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://host/a.tar?X-Sig=a*b/c.d", "https://host/a.tar?X-Sig=a*b/c.d"),
        ("https://host/a?download=1", "https://host/a?download=1"),
        ("http://[::1]:80/a.tar", "http://[::1]:80/a.tar"),
        ("https://host/folder", "in https://host/folder/*.tar"),
        ("https://host/set.v2/", "in https://host/set.v2/*.tar"),
        ("https://host/*.tar", "in https://host/*.tar"),
        ("simplecache::https://host/a.tar?b", "simplecache::https://host/a.tar?b"),
    ],
)
def test_urls_of_the_web(url: str, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked there: whether a file is a folder would be found out by downloading it."""
    web = SimpleNamespace(glob=lambda path: [f"in {path}"], unstrip_protocol=str)
    monkeypatch.setattr(remote, "file_system", lambda url: (web, url))
    assert remote.urls_at(url, "*.tar") == [found]


def test_a_server_that_knows_no_parts_of_files(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = type(bucket).cat_file
    monkeypatch.setattr(type(bucket), "cat_file", lambda self, path, **options: real(self, path))
    with pytest.raises(OSError, match=r"\d\d,\d\d\d bytes came from .* where 10 were asked for"):
        Remote("memory://bucket/train-000.tar").read(512, 10)


def test_urls_that_cannot_be_used(bucket: Any) -> None:
    assert "train-009.tar cannot be reached" in refused(source(path="memory://bucket/train-009.tar"))
    assert "no .tar file at memory://nothing/*.tar" in refused(source(path="memory://nothing/*.tar"))
    assert "cannot be read: Protocol not known: nonsense" in refused(source(path="nonsense://a/b.tar"))
    assert Remote("memory://bucket/train-000.tar").size > 0
