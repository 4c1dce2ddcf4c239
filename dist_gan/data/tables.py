"""Parquet files, and data sets of Hugging Face's `datasets`: of the Hub, or saved to a folder.

A row of such a table cannot be read without its neighbors. So the images in it are copied once into a plain file, as
they are (JPEG, PNG), and read from there like those of a tar shard:

    tables/KEY.images    the images of one table, one after the other
    tables/KEY.json      the names of its classes
"""

import contextlib
import hashlib
import json
import re
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import torch

from dist_gan.data.durable import read_json, replacing, write_json
from dist_gan.data.fetch import data_root
from dist_gan.data.files import expanded, shown
from dist_gan.data.from_files import FromFiles
from dist_gan.data.index import Index, Scanned, Shard, index_of
from dist_gan.data.remote import Remote, file_system, is_url, urls_at
from dist_gan.data.shards import MOST_OPEN, Local, as_it_is, open_shards
from dist_gan.data.source import READING, Dataset, Reading
from dist_gan.errors import ConfigError
from dist_gan.part import free

SPLITS = ("train", "test", "validation")
HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
AT_ONCE = 256  # rows
ENDINGS = (".parquet", ".arrow")


class Parquet(FromFiles):
    """Images in the rows of Parquet files or of a Hugging Face data set; needs pip install 'dist_gan[data]'.

    All rows are read once: their images are copied to DIST_GAN_DATA, else to ~/.cache/dist_gan, which needs as much
    room as they have. The fingerprint is of the content of all images and labels (SHA-256).
    """

    name: Literal["parquet"] = "parquet"
    path: str = free(...)
    """A folder with .parquet files, or one that `datasets` saved; one file; a pattern: tables/*.parquet; a data set of
    the Hugging Face Hub: USER/NAME; or a URL that fsspec reads."""
    split: str = ""
    """Only tables whose name, or whose folder, begins with this, such as train. Empty: all, where they are of one
    split."""
    image: str = "image"
    """The column with the images: the bytes of files, as `datasets` stores them."""
    labels: bool = False
    """Whether images have classes: see `label`."""
    label: str = "label"
    """The column with the class of each image: its number from 0 on, or its name."""

    def open(self, device: torch.device, reading: Reading = READING) -> Dataset:
        tables = _tables(self.path, self.split)
        label = self.label if self.labels else ""
        options = {"image": self.image, "label": label}

        def scan(table: Shard, skipped: Counter[str]) -> Generator[Scanned, None, str]:
            return _scan(table, self.image, label)

        index = index_of("parquet", tables, options, scan, self.white, reading)
        if not _are_there(index, tables, options):
            index.path.with_suffix(".json").unlink(missing_ok=True)
            index = index_of("parquet", tables, options, scan, self.white, reading)
        copies = [Local(_copy(table, options), len(tables) <= MOST_OPEN) for table in tables]
        names: tuple[str, ...] = ()
        for table, copy in zip(tables, copies, strict=True):
            copy.name = table.name
            names = max(names, tuple(read_json(_copy(table, options).with_suffix(".json"))["names"]), key=len)
        if len(names) >= len(index.classes):
            index.classes = names or index.classes
        return open_shards(self, index, copies, options, as_it_is, _name, device, reading)


def _name(table: Shard, offset: int, number: int) -> str:
    return f"row {number}"


def _tables(path: str, split: str) -> list[Shard]:
    """Files, or URLs, in the order of their names."""
    if not is_url(path) and HUB.fullmatch(path) and not expanded(path).exists():
        path = f"hf://datasets/{path}"
    place = expanded(path)
    if is_url(path):
        found = urls_at(path, "**/*.parquet")
    elif place.is_dir():
        found = sorted(str(file) for ending in ENDINGS for file in place.rglob(f"*{ending}"))
    elif re.search(r"[*?\[]", path):
        root = Path(place.anchor)
        found = sorted(map(str, root.glob(str(place.relative_to(root)))))
    else:
        found = [str(place)]
    common = len(str(place)) if not is_url(path) and place.is_dir() else 0
    of = {one: next((s for s in (*SPLITS, split) if s and _is_of(one[common:], s)), "") for one in found}
    if split:
        found = [one for one in found if _is_of(one[common:], split)]
    elif len(several := sorted(set(of.values()))) > 1:
        named = [one for one in several if one]
        rest = ", and files of none" if "" in several else ""
        raise ConfigError(
            f"data.split: {shown(path)} has the splits {', '.join(named)}{rest}. Set data.split={named[0]}, or another"
        )
    if not found:
        raise ConfigError(
            f"data.path: no table{f' of the split {split}' if split else ''} at {shown(path)}. Expected "
            "files that end in .parquet, or .arrow files that `datasets` saved"
        )
    return [Remote(one) if is_url(one) else Local(Path(one), len(found) <= MOST_OPEN) for one in found]


def _is_of(path: str, split: str) -> bool:
    return any(re.match(rf"{re.escape(split)}(?![a-z0-9])", part) for part in PurePosixPath(path).parts)


def _copy(table: Shard, options: dict[str, Any]) -> Path:
    key = hashlib.sha256(json.dumps([table.name, table.stamp, options]).encode(errors="surrogateescape")).hexdigest()
    return data_root() / "tables" / f"{key[:32]}.images"


def _are_there(index: Index, tables: Sequence[Shard], options: dict[str, Any]) -> bool:
    """Whether the copies of all tables have the sizes that the index says."""
    for number, table in enumerate(tables):
        first, end = index.firsts[number : number + 2]
        size = int(index.entries["offset"][end - 1]) + int(index.entries["size"][end - 1]) if end > first else 0
        copy = _copy(table, options)
        if (
            not copy.is_file()
            or copy.stat().st_size != size
            or not isinstance(read_json(copy.with_suffix(".json")), dict)
        ):
            return False
    return True


def _scan(table: Shard, image: str, label: str) -> Generator[Scanned, None, str]:
    """Copy the images of a table."""
    where = shown(table.name)
    copy = _copy(table, {"image": image, "label": label})
    copy.parent.mkdir(parents=True, exist_ok=True)
    digest, offset, number = hashlib.sha256(), 0, 0
    with _opened(table) as (schema, batches), replacing(copy) as file:
        _check(schema, image, label, where)
        for batch in batches:
            classes = batch.column(label).to_pylist() if label else [None] * batch.num_rows
            for value, one in zip(batch.column(image).to_pylist(), classes, strict=True):
                content = value.get("bytes") if isinstance(value, dict) else value
                if label and (isinstance(one, bool | float) or not isinstance(one, int | str)):
                    raise ConfigError(
                        f"data.label: row {number} of {where} has {one!r} in {label}, expected a number or a name"
                    )
                if content is None and isinstance(value, dict) and value.get("path"):
                    raise ConfigError(
                        f"data.image: row {number} of {where} has no image, but the path of one "
                        f"({shown(value['path'])}). Save the data set with the images in it (`datasets` does so by "
                        "embed_external_files=True), or use data.name=folder"
                    )
                content = content or b""
                file.write(content)
                digest.update(len(content).to_bytes(8) + content + repr(one).encode())
                yield Scanned(f"row {number}", offset, len(content), content, one, "" if content else "it is empty")
                offset += len(content)
                number += 1
    write_json(copy.with_suffix(".json"), {"names": _class_names(schema, label)})
    return digest.hexdigest()


@contextlib.contextmanager
def _opened(table: Shard) -> Iterator[tuple[Any, Iterator[Any]]]:
    """The schema of a table, and its rows in batches."""
    try:
        import pyarrow
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError:
        raise ConfigError("data.name: parquet needs the package pyarrow: pip install 'dist_gan[data]'") from None
    try:
        with contextlib.ExitStack() as stack:
            if isinstance(table, Remote):
                system, path = file_system(table.name)
                file = stack.enter_context(system.open(path, "rb"))
            else:
                file = stack.enter_context(open(table.name, "rb"))
            if table.name.endswith(".arrow"):
                reader = pyarrow.ipc.open_stream(file)
                yield reader.schema, iter(reader)
            else:
                parquet = pyarrow.parquet.ParquetFile(file)
                yield parquet.schema_arrow, parquet.iter_batches(AT_ONCE)
    except pyarrow.ArrowException as error:
        raise ConfigError(
            f"data.path: {shown(table.name)} is no whole table ({' '.join(str(error).split())[:200]}). Copy it again"
        ) from None


def _check(schema: Any, image: str, label: str, where: str) -> None:
    from pyarrow import types

    for key, column in (("image", image), ("label", label)):
        if column and column not in schema.names:
            raise ConfigError(f"data.{key}: {where} has no column {column}, but {', '.join(schema.names)}")
    kind = schema.field(image).type
    is_struct = types.is_struct(kind) and kind.get_field_index("bytes") >= 0
    if not is_struct and not types.is_binary(kind) and not types.is_large_binary(kind):
        raise ConfigError(
            f"data.image: the column {image} of {where} is of the type {kind}, expected bytes of image files"
        )


def _class_names(schema: Any, label: str) -> list[str]:
    """Of Hugging Face's ClassLabel; empty where there are none."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return [str(name) for name in features[label]["names"]]
    except (KeyError, TypeError, ValueError):
        return []
