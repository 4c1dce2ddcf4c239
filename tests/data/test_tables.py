"""Parquet files and data sets of Hugging Face: the same samples as a folder, and what is refused."""

import builtins
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from dist_gan.data import Folder, Parquet, Source, tables
from dist_gan.data.__main__ import main
from dist_gan.errors import ConfigError
from tests.data.archives import tables_of
from tests.data.streams import CPU, stream, take

pytest.importorskip("pyarrow")


def refused(source: Source) -> str:
    with pytest.raises(ConfigError) as error:
        source.open(CPU)
    return str(error.value)


def same_samples(a: Source, b: Source) -> None:
    for one, other in zip(take(stream(a), 3), take(stream(b), 3), strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
@pytest.mark.parametrize(
    "way",
    [{"resident_megabytes": 100}, {"resident_megabytes": 0, "workers": 0}, {"resident_megabytes": 0, "workers": 2}],
)
def test_tables_are_like_their_folder(folder: Path, ending: str, way: dict[str, Any]) -> None:
    source = Parquet(path=str(tables_of(folder, 3, ending)), size=16, labels=True, **way)
    same_samples(Folder(path=str(folder), size=16, labels=True), source)
    assert source.open(CPU).classes == ("cats", "dogs")


def test_rows_are_read_once(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Parquet(path=str(tables_of(folder, 2)), size=16, labels=True)
    before = source.open(CPU).fingerprint
    with monkeypatch.context() as patch:
        patch.setattr(tables, "_scan", lambda *arguments: pytest.fail("read again"))
        assert source.open(CPU).fingerprint == before
    for harm in ("cut short", "changed", "gone", "nothing beside it"):
        copy = sorted((cache / "tables").glob("*.images"))[0]
        whole = copy.read_bytes()
        if harm == "cut short":
            copy.write_bytes(whole[:-1])
        elif harm == "changed":
            copy.write_bytes(whole[::-1])
        elif harm == "gone":
            copy.unlink()
        else:
            Path(f"{copy}.json").unlink()
        assert source.open(CPU).fingerprint == before
        assert copy.read_bytes() == whole
    assert len(list((cache / "tables").iterdir())) == 4 + 1  # a lock


def test_the_fingerprint_is_of_images_and_labels(folder: Path, tmp_path: Path) -> None:
    """Not of how the table stores them."""
    parquet = pytest.importorskip("pyarrow.parquet")
    place = tables_of(folder, 1)
    before = Parquet(path=str(place), size=16, labels=True).open(CPU).fingerprint
    (file,) = place.glob("*.parquet")
    table = parquet.read_table(file)
    parquet.write_table(table, file, compression="gzip", row_group_size=11)
    assert Parquet(path=str(place), size=16, labels=True).open(CPU).fingerprint == before
    assert Parquet(path=str(place), size=16).open(CPU).fingerprint != before
    other = table.set_column(1, "label", table.column("label").combine_chunks().take(list(range(39, -1, -1))))
    parquet.write_table(other, file)
    assert Parquet(path=str(place), size=16, labels=True).open(CPU).fingerprint != before


def test_columns_and_names(folder: Path) -> None:
    place = tables_of(
        folder,
        1,
        photo=lambda files: [file.read_bytes() for file in files],
        kind=lambda files: [file.parent.name.upper() for file in files],
    )
    source = Parquet(path=str(place), size=16, image="photo", labels=True, label="kind")
    same_samples(Folder(path=str(folder), size=16, labels=True), source)
    assert source.open(CPU).classes == ("CATS", "DOGS")


def test_tables_with_other_classes(folder: Path) -> None:
    (first,) = tables_of(folder, 1).iterdir()
    shutil.move(first, first.parent / "train-0.parquet")
    (folder / "cats").rename(folder / "birds")
    place = tables_of(folder, 1)
    text = refused(Parquet(path=str(place), size=16, labels=True))
    assert f"the classes of {place}/train-0.parquet are cats, dogs, those of {place}/train-00000" in text
    assert ".parquet birds, dogs:" in text
    assert len(Parquet(path=str(place), size=16).open(CPU)) == 80


def test_another_run_leaves_the_copies_of_the_first_alone(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tables_of(folder, 2)
    source = Parquet(path=str(place), size=16, labels=True, resident_megabytes=0, workers=0)
    everything = ([range(40)], lambda those: torch.arange(40), lambda those, k: torch.arange(0))
    first = source.open(CPU)
    copies = {path: path.stat().st_mtime_ns for path in (cache / "tables").glob("*.images*")}
    others = ({"white": 255}, {"labels": False}, {"path": f"{place}/*-00000-*"}, {"path": f"{place}/*"})
    for options in others:
        source.model_copy(update=options).open(CPU)
    assert {path: path.stat().st_mtime_ns for path in (cache / "tables").glob("*.images*")} == copies
    assert len(next(first.batches(*everything))[0]) == 40


@pytest.mark.parametrize("labels", [True, False])
def test_a_table_that_becomes_another_one(folder: Path, cache: Path, labels: bool) -> None:
    """At the same size and time: only its content shows it."""
    (file,) = tables_of(folder, 1, "arrow").iterdir()
    source = Parquet(path=str(file), size=16, labels=True)
    source.open(CPU)
    time = file.stat().st_mtime_ns
    image = (folder / "cats" / "01.png").read_bytes()
    file.write_bytes(file.read_bytes().replace(image, image[::-1]))
    os.utime(file, ns=(time, time))
    if labels:  # the index is there, and no copy
        (made,) = (cache / "indexes").glob("*.npy")
        next((cache / "tables").glob("*.images")).unlink()
    else:  # the copy is there, and no index
        (made,) = (cache / "tables").glob("*.images")
    text = refused(source.model_copy(update={"labels": labels, "skip_broken": True}))
    assert f"{file} is not what it was when {made} was made" in text
    made.unlink()
    assert source.model_copy(update={"labels": labels, "skip_broken": True}).open(CPU).notes


def test_what_a_killed_process_left_is_removed(folder: Path, cache: Path) -> None:
    source = Parquet(path=str(tables_of(folder, 2)), size=16)
    script = "import os, sys, torch; from dist_gan.data import Parquet, tables\n"
    script += "tables.record = lambda *arguments, **facts: os.kill(os.getpid(), 9)\n"
    script += "tables._check = lambda *arguments: None if len(sys.argv) > 2 else os.kill(os.getpid(), 9)\n"
    script += "Parquet(path=sys.argv[1], size=16).open(torch.device('cpu'))"
    for more in ([], ["x"]):  # while a copy is written; before it is said to be complete
        subprocess.run([sys.executable, "-c", script, source.path, *more], check=False)
    assert len(list((cache / "tables").iterdir())) == 2  # a lock, and a copy
    source.open(CPU)
    assert len(list((cache / "tables").iterdir())) == 5
    assert [path.name for path in (cache / "tables").glob(".*")] == [".lock"]


def test_a_url(folder: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    place = tables_of(folder, 2)
    for file in place.glob("*.parquet"):
        memory.pipe_file(f"/tables/data/{file.name}", file.read_bytes())
    remote = Parquet(path="memory://tables", size=16, labels=True, resident_megabytes=0, workers=0)
    same_samples(Folder(path=str(folder), size=16, labels=True), remote)
    assert remote.open(CPU).fingerprint == Parquet(path=str(place), size=16, labels=True).open(CPU).fingerprint
    memory.rm("/tables", recursive=True)


def test_broken_images_are_named_or_replaced(folder: Path) -> None:
    whole = (folder / "cats" / "03.png").read_bytes()
    (folder / "cats" / "03.png").write_bytes(whole[: len(whole) // 2])
    (folder / "cats" / "07.png").write_bytes(b"")
    source = Parquet(path=str(tables_of(folder, 1)), size=16, labels=True)
    text = refused(source)
    assert "row 1 in " in text
    assert "row 3 in " in text
    assert "train-00000-of-00001.parquet" in text
    same_samples(
        Folder(path=str(folder), size=16, labels=True, skip_broken=True),
        source.model_copy(update={"skip_broken": True}),
    )


def test_tables_that_cannot_be_used(folder: Path) -> None:
    place = tables_of(
        folder,
        1,
        paths=lambda files: [{"bytes": None, "path": str(file)} for file in files],
        half=lambda files: [0.5 for _ in files],
    )
    (file,) = place.glob("*.parquet")
    for options, message in (
        ({"image": "picture"}, "has no column picture, but image, label, paths, half"),
        ({"image": "label"}, "the column label of"),
        ({"image": "paths"}, "row 0 of"),
        ({"label": "kind", "labels": True}, "has no column kind"),
        ({"label": "half", "labels": True}, "has 0.5 in half, expected a number or a name"),
    ):
        assert message in refused(Parquet(path=str(place), size=16, **options))
    file.write_bytes(file.read_bytes()[:-50])
    assert f"{file} is no whole table" in refused(Parquet(path=str(place), size=16))
    assert "no table at" in refused(Parquet(path=str(folder), size=16))


def test_columns_that_cannot_be_used(folder: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    place = tables_of(folder, 1, text=lambda files: [{"bytes": "text", "path": None} for _ in files])
    assert "struct<bytes: string, path: null>, expected bytes" in refused(Parquet(path=str(place), image="text"))
    (file,) = place.iterdir()
    table = parquet.read_table(file)
    parquet.write_table(pyarrow.table([*table.columns, table["image"]], [*table.column_names, "image"]), file)
    assert "has 2 columns image, but image, label, text, image" in refused(Parquet(path=str(place)))


def test_errors_of_reading(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    (file,) = tables_of(folder, 1).iterdir()
    memory.pipe_file("/failing/a.parquet", file.read_bytes())

    def fails(*arguments: Any, **options: Any) -> Any:
        raise RuntimeError("connection reset")

    with monkeypatch.context() as patch:
        patch.setattr(type(memory), "open", fails)
        text = refused(Parquet(path="memory://failing", size=16))
    assert "memory:///failing/a.parquet cannot be read (connection reset)" in text
    memory.rm("/failing", recursive=True)
    with monkeypatch.context() as patch:
        patch.setattr(tables, "open", fails, raising=False)
        assert f"{file} cannot be read (connection reset)" in refused(Parquet(path=str(file), size=16))


def test_without_pyarrow(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tables_of(folder, 1)
    real = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    assert "needs the package pyarrow: pip install 'dist_gan[data]'" in refused(Parquet(path=str(place), size=16))


def test_packing_tables(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pack", str(tables_of(folder, 2)), f"out={tmp_path / 'pack'}", "name=parquet", "size=16"]) == 0
    assert "40 images" in capsys.readouterr().out
    assert json.loads((tmp_path / "pack" / "pack.json").read_text())["count"] == 40
