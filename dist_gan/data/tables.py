"""Parquet files, and data sets of Hugging Face's `datasets`: of the Hub, or saved to a folder.

A row of such a table cannot be read without its neighbors. So the images in it are copied once into a plain file, as
they are (JPEG, PNG), and read from there like those of a tar shard:

    tables/KEY.images         the images of one table, one after the other
    tables/KEY.images.json    their SHA-256, when they were written, and the names of the table's classes

A copy is of a table and a column: whatever else a run wants of them, it is not made again.
"""

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from dist_gan.data.durable import record, recorded, remove_torn, replacing
from dist_gan.data.fetch import data_root, only_one
from dist_gan.data.files import shown
from dist_gan.data.from_files import FromFiles
from dist_gan.data.index import Index, Scan, Scanned, Shard, index_of
from dist_gan.data.remote import Remote, file_system, version_note
from dist_gan.data.shards import Local, as_it_is, open_shards, stay_open
from dist_gan.data.source import READING, Dataset, Reading, throttled
from dist_gan.data.table_files import tables_at
from dist_gan.errors import ConfigError
from dist_gan.part import free

AT_ONCE = 256  # rows


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
    """Only tables with this word in their name, or else in their nearest folder below `path`: train takes
    train-0.parquet, faces-train.parquet and train/0.parquet. Empty: all, where they are of one split."""
    image: str = "image"
    """The column with the images: the bytes of files, as `datasets` stores them."""
    labels: bool = False
    """Whether images have classes: see `label`."""
    label: str = "label"
    """The column with the class of each image: its number from 0 on, or its name."""

    def open(self, device: torch.device, reading: Reading = READING) -> Dataset:
        tables = tables_at(self.path, self.split)
        copies = [_copy(table, self.image) for table in tables]
        label = self.label if self.labels else ""
        options = {"image": self.image, "label": label}

        def scan(table: Shard, skipped: Counter[str]) -> Generator[Scanned, None, str]:
            return _scan(table, self.image, label)

        folder = data_root() / "tables"
        try:
            with contextlib.ExitStack() as stack:
                if not all(map(recorded, copies)):
                    stack.enter_context(only_one(folder))
                    remove_torn(folder)
                index = index_of("parquet", tables, options, scan, self.white, reading)
                facts = _made_sure(tables, copies, index, scan, reading)
        except OSError as error:
            raise ConfigError(
                f"data: the images of tables cannot be copied to {shown(folder)} ({error.strerror or error}). Set "
                "DIST_GAN_DATA to a folder with room"
            ) from None
        shards = []
        for table, copy, one in zip(tables, copies, facts, strict=True):
            shards.append(Local(copy, stay_open(len(copies))))
            shards[-1].name, shards[-1].stamp = table.name, one["stamp"]
        names = _names(tables, [tuple(one["classes"].get(label, ())) for one in facts])
        if len(names) >= len(index.classes) and index.classes == tuple(map(str, range(len(index.classes)))):
            index.classes = names
        notes = version_note([table for table in tables if isinstance(table, Remote)])
        return open_shards(self, index, shards, options, as_it_is, _name, device, reading, notes)


def _made_sure(
    tables: Sequence[Shard], copies: Sequence[Path], index: Index, scan: Scan, reading: Reading
) -> list[dict[str, Any]]:
    """What is recorded of the copies; those that are missing, or are not what they were, are made again.

    Raises:
        ConfigError: a table is not the one of the index.
        OSError: a copy cannot be written.
    """
    facts = []
    report = throttled(reading.progress)
    for number, (table, copy) in enumerate(zip(tables, copies, strict=True)):
        found = recorded(copy, reads=True)
        if not found:
            if _all_read(scan(table, Counter())) == index.sha256[number]:
                found = recorded(copy)
            if not found:
                raise _is_another(table, index.path)
            report("copying tables", number + 1, len(tables))
        facts.append(found)
    return facts


def _all_read(images: Generator[Scanned, None, str]) -> str:
    """What `images` returns at its end."""
    while True:
        try:
            next(images)
        except StopIteration as end:
            return str(end.value)


def _is_another(table: Shard, made: Path) -> ConfigError:
    return ConfigError(
        f"data.path: {shown(table.name)} is not what it was when {shown(made)} was made, at the same size and time. "
        "Put it back as it was, or remove that file"
    )


def _names(tables: Sequence[Shard], names: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The names of classes that the tables agree on; empty where none has them. Raises ConfigError."""
    first: dict[tuple[str, ...], str] = {}
    for table, those in zip(tables, names, strict=True):
        if those:
            first.setdefault(those, table.name)
    if len(first) > 1:
        (those, one), (others, another) = list(first.items())[:2]
        raise ConfigError(
            f"data.label: the classes of {shown(one)} are {_few(those)}, those of {shown(another)} {_few(others)}: a "
            "number means something else in each. Give tables with the same classes in data.path, or data.labels=false"
        )
    return next(iter(first), ())


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _name(table: Shard, offset: int, number: int) -> str:
    return f"row {number}"


def _copy(table: Shard, image: str) -> Path:
    """Of the images in the column `image`."""
    key = hashlib.sha256(json.dumps([table.name, table.stamp, image]).encode(errors="surrogateescape")).hexdigest()
    return data_root() / "tables" / f"{key[:32]}.images"


def _scan(table: Shard, image: str, label: str) -> Generator[Scanned, None, str]:
    """All images of a table, which are copied where no copy is whole."""
    where = shown(table.name)
    copy = _copy(table, image)
    known = recorded(copy, reads=True)
    images, rows = hashlib.sha256(), hashlib.sha256()
    offset = number = 0
    with _opened(table) as (schema, batches), contextlib.nullcontext() if known else replacing(copy) as file:
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
                if file:
                    file.write(content)
                images.update(content)
                rows.update(len(content).to_bytes(8) + content + repr(one).encode())
                yield Scanned(f"row {number}", offset, len(content), content, one, "" if content else "it is empty")
                offset += len(content)
                number += 1
    if not known:
        record(copy, images.hexdigest(), classes=_class_names(schema))
    elif known["sha256"] != images.hexdigest():
        raise _is_another(table, copy)
    return rows.hexdigest()


@contextlib.contextmanager
def _opened(table: Shard) -> Iterator[tuple[Any, Iterator[Any]]]:
    """The schema of a table, and its rows in batches."""
    try:
        import pyarrow
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError:
        raise ConfigError("data.name: parquet needs the package pyarrow: pip install 'dist_gan[data]'") from None
    with contextlib.ExitStack() as stack:
        with _explained(table):
            if isinstance(table, Remote):
                system, path = file_system(table.name)
                file = stack.enter_context(system.open(path, "rb"))
            else:
                file = stack.enter_context(open(table.name, "rb"))
            if table.name.endswith(".arrow"):
                reader = pyarrow.ipc.open_stream(file)
                schema, batches = reader.schema, iter(reader)
            else:
                parquet = pyarrow.parquet.ParquetFile(file)
                schema, batches = parquet.schema_arrow, parquet.iter_batches(AT_ONCE)
        yield schema, _each(table, batches)


def _each(table: Shard, batches: Iterator[Any]) -> Iterator[Any]:
    while True:
        with _explained(table):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


@contextlib.contextmanager
def _explained(table: Shard) -> Iterator[None]:
    """Inside, what a table, or the file system that has it, raises becomes a ConfigError."""
    from pyarrow import ArrowException

    try:
        yield
    except Exception as error:  # each file system has errors of its own
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        if isinstance(error, ArrowException):
            text = f"{shown(table.name)} is no whole table ({reason}). Copy it again"
        else:
            text = f"{shown(table.name)} cannot be read ({getattr(error, 'strerror', None) or reason})"
        raise ConfigError(f"data.path: {text}") from None


def _check(schema: Any, image: str, label: str, where: str) -> None:
    from pyarrow import types

    for key, column in (("image", image), ("label", label)):
        if column and schema.names.count(column) != 1:
            several = f"{schema.names.count(column)} columns" if column in schema.names else "no column"
            raise ConfigError(f"data.{key}: {where} has {several} {column}, but {', '.join(schema.names)}")
    kind = schema.field(image).type
    is_struct = types.is_struct(kind) and kind.get_field_index("bytes") >= 0
    content = kind.field("bytes").type if is_struct else kind
    if (
        not types.is_binary(content)
        and not types.is_large_binary(content)
        and not (is_struct and types.is_null(content))
    ):
        raise ConfigError(
            f"data.image: the column {image} of {where} is of the type {kind}, expected bytes of image files"
        )


def _class_names(schema: Any) -> dict[str, list[str]]:
    """Of each column that is Hugging Face's ClassLabel."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {
            key: [str(name) for name in feature["names"]]
            for key, feature in features.items()
            if isinstance(feature, dict) and feature.get("names")
        }
    except (AttributeError, KeyError, TypeError, ValueError):
        return {}
