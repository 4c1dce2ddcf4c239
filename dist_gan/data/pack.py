"""Making packs (see `dist_gan.data.packed`)."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dist_gan.data.durable import block_hashes, synchronize, write_json
from dist_gan.data.files import ENDINGS, expanded, is_skipped, shown
from dist_gan.data.from_files import FromFiles
from dist_gan.data.packed import FACTS, FORMAT, IMAGES, LABELS
from dist_gan.data.source import READING, Dataset, Reading, Source, throttled
from dist_gan.data.table_files import ENDINGS as TABLES
from dist_gan.errors import ConfigError, RunError

AT_ONCE = 256  # images


def pack(source: Source, out: Path, reading: Reading = READING) -> tuple[int, tuple[str, ...]]:
    """Write all images of `source`, in its order, as a pack.

    Args:
        source: any source of images.
        out: the folder to be made; it is there completely or not at all.
        reading: how to read, and where progress goes.

    Returns:
        how many images it has, and what the user should know about them.

    Raises:
        ConfigError: the source cannot be opened, `out` is there already, or cannot be written.
        DataError: an image cannot be read.
    """
    if out.exists() or out.is_symlink():
        raise ConfigError(f"out: {shown(out)} is there already, and is not replaced. Give another name, or remove it")
    dataset = source.open(torch.device("cpu"), reading)
    part = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _check_room(out.parent, len(dataset) * torch.Size(dataset.shape).numel())
        part = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name[:60]}-"))
        _write(dataset, part, reading)
        part.chmod(0o755)
        part.rename(out)
        synchronize(out.parent)
    except RunError:  # of the images
        raise
    except OSError as error:
        raise ConfigError(f"out: {shown(out)} cannot be written ({error.strerror or error})") from None
    finally:
        if part is not None:
            shutil.rmtree(part, ignore_errors=True)
    return len(dataset), dataset.notes


def _check_room(folder: Path, needed: int) -> None:
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed * 1.01:
        raise ConfigError(
            f"out: the pack needs {needed / 1e9:,.1f} GB, and {shown(folder)} has room for {free_bytes / 1e9:,.1f} GB. "
            "Give a folder on another disk, or a smaller size"
        )


def _write(dataset: Dataset, folder: Path, reading: Reading) -> None:
    count = len(dataset)
    labels = np.full(count, -1, np.int32)
    report = throttled(reading.progress)
    with open(folder / IMAGES, "wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, *dataset.shape)}
        np.lib.format.write_array_header_1_0(file, header)
        for start, (images, numbers) in zip(range(0, count, AT_ONCE), _in_order(dataset), strict=True):
            file.write(images.contiguous().numpy().tobytes())
            if len(numbers):
                labels[start : start + len(numbers)] = numbers.numpy()
            report("packing images", start + len(images), count)
    names = [IMAGES]
    if dataset.classes:
        np.save(folder / LABELS, labels)
        names.append(LABELS)
    blocks = {name: list(block_hashes(folder / name)) for name in names}
    facts = {
        "format": FORMAT,
        "count": count,
        "shape": list(dataset.shape),
        "classes": list(dataset.classes),
        "made_from": dataset.fingerprint,
        "bytes": {name: sum(size for size, _ in found) for name, found in blocks.items()},
        "blocks": {name: [digest for _, digest in found] for name, found in blocks.items()},
    }
    for name in names:
        with open(folder / name, "rb") as file:
            os.fsync(file.fileno())
    write_json(folder / FACTS, facts)


def _in_order(dataset: Dataset) -> Iterator[tuple[Tensor, Tensor]]:
    """All images and labels, in the order of the data."""
    count = len(dataset)
    ranges = [range(start, min(start + AT_ONCE, count)) for start in range(0, count, AT_ONCE)]

    def straight(ordinals: range) -> Tensor:
        return torch.arange(ordinals.start, ordinals.stop)

    def none(ordinals: range, k: int) -> Tensor:
        raise AssertionError("a pack is made of single images")

    return dataset.batches(ranges, straight, none)


def source_at(path: str, kinds: dict[str, type[Source]], given: dict[str, str]) -> Source:
    """The source that reads what is at `path`, found by its name, with `data.` keys as `given`; pydantic's errors."""
    options: dict[str, Any] = dict(given)
    kind = options.pop("name", "") or _kind(path)
    if kind not in kinds:
        raise ConfigError(f"name: expected one of {', '.join(kinds)}, got {kind!r}")
    source = kinds[kind]
    for key, value in options.items():
        if re.fullmatch("[0-9]{1,18}", value) and key in source.model_fields:
            options[key] = value if source.model_fields[key].annotation is str else int(value)
    if issubclass(source, FromFiles):
        options.setdefault("resident_megabytes", 0)  # images are written as they come
    return source.model_validate({"path": path, **options})


def _kind(path: str) -> str:
    name = path.rstrip("/").lower()
    if name.endswith(".zip"):
        return "zip"
    if name.endswith(".npy"):
        return "npy"
    if ".parquet" in name or name.startswith("hf://"):
        return "parquet"
    if name.endswith(".tar"):
        return "tar"
    return "folder" if "://" in name else _kind_inside(expanded(path))


def _kind_inside(folder: Path) -> str:
    """By the files below `folder`. Raises ConfigError where they are of several kinds."""
    found: dict[str, Path] = {}
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not is_skipped(name)]
        for file in (Path(place, name) for name in names if not is_skipped(name)):
            ending = file.suffix.lower()
            if ending in ENDINGS:
                found.setdefault("folder", file)
            elif ending in TABLES:
                found.setdefault("parquet", file)
            elif ending == ".tar" and file.parent == folder:
                found.setdefault("tar", file)
        if len(found) > 1:
            raise ConfigError(
                f"name: {shown(folder)} has files of several kinds: {', '.join(map(shown, found.values()))}. Add "
                + " or ".join(f"name={kind}" for kind in found)
            )
    return next(iter(found), "folder")
