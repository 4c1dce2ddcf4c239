"""Parquet files and data sets of Hugging Face: the same samples as a folder, and what is refused."""

import builtins
import json
import shutil
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
    for harm in ("cut short", "gone", "no names"):
        copy = sorted((cache / "tables").glob("*.images"))[0]
        whole = copy.read_bytes()
        if harm == "cut short":
            copy.write_bytes(whole[:-1])
        elif harm == "gone":
            copy.unlink()
        else:
            copy.with_suffix(".json").unlink()
        assert source.open(CPU).fingerprint == before
        assert copy.read_bytes() == whole
    assert len(list((cache / "tables").iterdir())) == 4


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


def test_splits(folder: Path, tmp_path: Path) -> None:
    place = tables_of(folder, 2)
    (place / "test").mkdir()
    shutil.move(place / "train-00001-of-00002.parquet", place / "test" / "0000.parquet")
    text = refused(Parquet(path=str(place), size=16))
    assert f"data.split: {place} has the splits test, train. Set data.split=test" in text
    assert len(Parquet(path=str(place), size=16, split="train").open(CPU)) == 20
    assert len(Parquet(path=str(place), size=16, split="test").open(CPU)) == 20
    assert "no table of the split tes at" in refused(Parquet(path=str(place), size=16, split="tes"))
    assert len(Parquet(path=f"{place}/train*.parquet", size=16).open(CPU)) == 20


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


def test_a_name_of_the_hub_is_looked_for_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def urls_at(url: str, inside: str) -> list[str]:
        asked.append((url, inside))
        return []

    monkeypatch.setattr(tables, "urls_at", urls_at)
    monkeypatch.chdir(folder.parent)
    assert "no table at hf://datasets/user/name" in refused(Parquet(path="user/name", size=16))
    assert asked == [("hf://datasets/user/name", "**/*.parquet")]
    (folder.parent / "user" / "name").mkdir(parents=True)
    assert "no table at user/name" in refused(Parquet(path="user/name", size=16))
    assert len(asked) == 1


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
