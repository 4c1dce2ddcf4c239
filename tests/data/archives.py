"""Zip files and tar shards of a folder of pictures, for tests."""

import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dist_gan.data import Source
from dist_gan.data.source import READING, Reading
from dist_gan.errors import ConfigError
from tests.data.streams import CPU


def zip_of(folder: Path, method: int = zipfile.ZIP_STORED, extra: Mapping[str, str] | None = None) -> Path:
    """`folder` zipped, with it as the first folder of all names; `extra` files beside it."""
    path = folder.parent / f"{folder.name}.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, text in (extra or {}).items():
            archive.writestr(name, text)
        for file in sorted(folder.rglob("*"), reverse=True):  # the order in the zip does not matter
            if file.is_file():
                archive.write(file, f"{folder.name}/{file.relative_to(folder)}")
    return path


def tar_of(path: Path, files: Mapping[str, bytes], kinds: Mapping[str, bytes] | None = None) -> Path:
    """A tar file with these files, in this order; those in `kinds` have another type, such as links."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.type = (kinds or {}).get(name, tarfile.REGTYPE)
            if info.issym() or info.islnk():
                info.linkname, info.size = content.decode(), 0
            tar.addfile(info, io.BytesIO(content))
    return path


def tars_of(folder: Path, shards: int) -> Path:
    """The pictures below `folder` in the order of their paths, in shards; the name of their folder is their class."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    each = -(-len(files) // shards)
    for number in range(shards):
        content: dict[str, bytes] = {}
        for file in files[number * each : (number + 1) * each]:
            content[f"{file.stem}{file.suffix}"] = file.read_bytes()
            content[f"{file.stem}.cls"] = file.parent.name.encode()
        tar_of(folder.parent / "shards" / f"train-{number:03d}.tar", content)
    return folder.parent / "shards"


def tables_of(folder: Path, count: int, ending: str = "parquet", **columns: Any) -> Path:
    """The same in Parquet files, or in those that `datasets` saves: numbered classes that have names."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet, ipc = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow.ipc")
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    names = sorted({file.parent.name for file in files})
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    each = -(-len(files) // count)
    place = folder.parent / "tables"
    place.mkdir(exist_ok=True)
    for number in range(count):
        mine = files[number * each : (number + 1) * each]
        rows = {
            "image": [{"bytes": file.read_bytes(), "path": file.name} for file in mine],
            "label": [names.index(file.parent.name) for file in mine],
            **{name: make(mine) for name, make in columns.items()},
        }
        table = pyarrow.table(rows).replace_schema_metadata(
            {"huggingface": json.dumps({"info": {"features": features}})}
        )
        path = place / f"train-{number:05d}-of-{count:05d}.{ending}"
        if ending == "parquet":
            parquet.write_table(table, path, row_group_size=7)
        else:
            with ipc.new_stream(str(path), table.schema) as writer:
                writer.write_table(table, 7)
    return place


def refused(source: Source, reading: Reading = READING) -> str:
    """What is said where it cannot be opened."""
    with pytest.raises(ConfigError) as error:
        source.open(CPU, reading)
    return str(error.value)
