"""Which files are taken as tables, and of which split they are."""

import json
import shutil
from pathlib import Path

import pytest

from dist_gan.data import Parquet, Source, table_files
from dist_gan.errors import ConfigError
from tests.data.archives import tables_of
from tests.data.streams import CPU

pytest.importorskip("pyarrow")


def refused(source: Source) -> str:
    with pytest.raises(ConfigError) as error:
        source.open(CPU)
    return str(error.value)


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


@pytest.mark.parametrize(
    ("files", "path", "split", "taken"),
    [
        ("cifar10-train.parquet cifar10-test.parquet", "", "", "test, train"),
        ("cifar10-train.parquet cifar10-test.parquet", "", "train", [0]),
        ("Train_0.parquet Test_0.parquet", "", "test", [1]),
        ("train2017/0.parquet test2017/0.parquet", "", "train", [0]),
        ("train1.parquet train10.parquet", "", "train1", [0]),
        ("train-faces/train-0.parquet train-faces/test-0.parquet", "", "train", [0]),
        ("train-faces/train-0.parquet train-faces/test-0.parquet", "train-faces", "", "test, train"),
        ("test/train-0.parquet test/test-0.parquet", "test/*.parquet", "test", [1]),
        ("test/a.parquet test/b.parquet", "test/*.parquet", "", [0, 1]),
        ("a.parquet test/a.parquet", "", "train", []),
        ("test/a.parquet test/b.parquet", "test/*.parquet", "test", []),
        ("contest/latest.parquet contest/0.parquet", "", "test", []),
    ],
)
@pytest.mark.parametrize("system", ["", "memory://"])
def test_what_belongs_to_a_split(
    files: str, path: str, split: str, taken: list[int] | str, system: str, tmp_path: Path
) -> None:
    """Names of folders above the path, or before a pattern, say nothing."""
    fsspec = pytest.importorskip("fsspec")
    root = f"{system}{tmp_path}/train-x"
    places = [f"{root}/{file}" for file in files.split()]
    for place in places:
        fsspec.open(place, "wb", auto_mkdir=True).open().close()
    if isinstance(taken, str):
        with pytest.raises(ConfigError, match=f"has the splits {taken}"):
            table_files.tables_at(f"{root}/{path}", split)
    elif not taken:
        with pytest.raises(ConfigError, match="no table of the split"):
            table_files.tables_at(f"{root}/{path}", split)
    else:
        found = table_files.tables_at(f"{root}/{path}", split)
        assert [table.name for table in found] == sorted(places[n] for n in taken)


@pytest.mark.parametrize("state", [True, False])
def test_what_datasets_computed_is_no_data(folder: Path, state: bool) -> None:
    place = tables_of(folder, 2, "arrow")
    known = Parquet(path=str(place), size=16).open(CPU).fingerprint
    named = [{"filename": file.name} for file in sorted(place.iterdir())]
    for name in ("cache-0123456789abcdef.arrow", "tmpabcdefgh", "tmpabcdefgh.arrow", *(["b.arrow"] if state else [])):
        shutil.copy(place / "train-00000-of-00002.arrow", place / name)
    if state:
        (place / "state.json").write_text(json.dumps({"_data_files": named}))
    for path in (place, place / "*.arrow"):
        assert Parquet(path=str(path), size=16).open(CPU).fingerprint == known


def test_a_name_of_the_hub_is_looked_for_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def urls_at(url: str, inside: str) -> list[str]:
        asked.append((url, inside))
        return []

    monkeypatch.setattr(table_files, "urls_at", urls_at)
    monkeypatch.chdir(folder.parent)
    assert "no table at hf://datasets/user/name" in refused(Parquet(path="user/name", size=16))
    assert asked == [("hf://datasets/user/name", "**/*.parquet")]
    (folder.parent / "user" / "name").mkdir(parents=True)
    assert "no table at user/name" in refused(Parquet(path="user/name", size=16))
    assert len(asked) == 1
