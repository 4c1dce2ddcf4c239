"""A zip file of images: StyleGAN's layout, or a folder that was zipped."""

import hashlib
import io
import json
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Generator
from pathlib import PurePosixPath
from typing import Any, Literal

import torch

from dist_gan.data.decode import Broken
from dist_gan.data.durable import BLOCK
from dist_gan.data.files import ENDINGS, expanded, is_skipped, shown
from dist_gan.data.from_files import SEVERAL, FromFiles
from dist_gan.data.index import Scanned, Shard, index_of
from dist_gan.data.shards import Local, Patient, open_shards
from dist_gan.data.source import READING, Dataset, Reading
from dist_gan.errors import ConfigError
from dist_gan.part import free

LABELS = "dataset.json"
HEADER = 30  # bytes of a file's header, before its name
PIECE = 1 << 16  # bytes that are read at least
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
UNREADABLE = 1 | 1 << 5 | 1 << 6
"""Flags of files that are encrypted, or only changes of others."""


class Zip(FromFiles):
    """All images in a zip file, in the order of their names.

    The zip is read once: the place of each image is kept in an index in DIST_GAN_DATA, else in ~/.cache/dist_gan. The
    fingerprint is of the zip's content (SHA-256). The zip may move; then the index is made again.
    """

    name: Literal["zip"] = "zip"
    path: str = free(...)
    """The zip file, as `zip -r` or StyleGAN's dataset_tool.py makes it."""
    labels: bool = False
    """Whether images have classes: those of `dataset.json` (StyleGAN's layout) where the zip has it; else the first
    folder in which not all images are."""

    def open(self, device: torch.device, reading: Reading = READING) -> Dataset:
        path = expanded(self.path)
        if path.is_dir():
            raise ConfigError(f"data.path: {shown(path)} is a folder. Give a .zip file, or data.name=folder")

        def scan(shard: Shard, skipped: Counter[str]) -> Generator[Scanned, None, str]:
            return _scan(shard, self.labels, reading.patience, skipped)

        shards = [Local(path)]
        index = index_of("zip", shards, {"labels": self.labels}, scan, self.white, reading)
        return open_shards(self, index, shards, {}, unwrapped, _name, device, reading)


def _scan(shard: Shard, labels: bool, patience: float, skipped: Counter[str]) -> Generator[Scanned, None, str]:
    where = shown(shard.name)
    raw = Patient(shard, patience)
    file = io.BufferedReader(raw, PIECE)
    try:
        with zipfile.ZipFile(file) as archive:
            found = [info for info in archive.infolist() if _is_image(info, skipped)]
            found.sort(key=lambda info: info.filename.encode(errors="surrogateescape"))
            classes = _classes(archive, [info.filename for info in found], where) if labels else [None] * len(found)
            for info, label in zip(found, classes, strict=True):
                file.seek(info.header_offset)
                header = file.read(HEADER)
                name_length, extra_length = struct.unpack("<HH", header[26:30])
                size = HEADER + name_length + extra_length + info.compress_size
                if info.compress_type not in METHODS or info.flag_bits & UNREADABLE:
                    raise ConfigError(
                        f"data.path: {shown(info.filename)} in {where} is encrypted, or compressed in a way that "
                        "is not read here. Make the zip again: zip -r -0"
                    )
                try:
                    yield Scanned(info.filename, info.header_offset, size, archive.read(info), label)
                except (zipfile.BadZipFile, zlib.error) as error:
                    yield Scanned(info.filename, info.header_offset, size, b"", label, str(error))
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, UnicodeDecodeError) as error:
        if raw.error:  # zipfile takes it for a zip that is damaged
            raise raw.error from None
        reason = str(error) or "it ends in the middle of a file"
        raise ConfigError(f"data.path: {where} is no whole zip file ({reason})") from None
    digest = hashlib.sha256()
    file.seek(0)
    while block := file.read(BLOCK):
        digest.update(hashlib.sha256(block).hexdigest().encode())
    return digest.hexdigest()


def _is_image(info: zipfile.ZipInfo, skipped: Counter[str]) -> bool:
    name = PurePosixPath(info.filename)
    if info.is_dir() or name.suffix.lower() not in ENDINGS:
        return False
    for part in name.parts:
        if reason := is_skipped(part):
            skipped[reason] += 1
            return False
    return True


def _classes(archive: zipfile.ZipFile, names: list[str], zipped: str) -> list[int] | list[str]:
    """The class of each file: a number out of dataset.json, or the name of a folder."""
    parts = {name: PurePosixPath(name).parts for name in archive.namelist()}
    tables = [name for name, those in parts.items() if those[-1:] == (LABELS,) and not any(map(is_skipped, those))]
    if not tables:
        return _folders(names, zipped)
    if len(tables) > 1:
        raise ConfigError(
            f"data.labels: {zipped} has several tables of labels: {', '.join(map(shown, tables[:SEVERAL]))}. Zip "
            "the folder of one of them, or set data.labels=false"
        )
    (table,) = tables
    where = f"{shown(table)} in {zipped}"
    try:
        content = json.loads(archive.read(table))
        rows = content["labels"] if isinstance(content, dict) else None
        known: dict[str, Any] = {str(name).replace("\\", "/"): label for name, label in rows or []}
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f'data.labels: {where} is not as expected ({error}): {{"labels": [["NAME.png", CLASS], ...]}}'
        ) from None
    if not known:
        raise ConfigError(f"data.labels: {where} has no labels. Set data.labels=false")
    folder = table.removesuffix(LABELS)  # its names begin where it is
    found = []
    for name in names:
        label = known.get(name.removeprefix(folder)) if name.startswith(folder) else None
        if type(label) is not int:
            told = "no class" if label is None else f"the class {str(label)[:40]}"
            raise ConfigError(f"data.labels: {shown(name)} has {told} in {where}, expected a number from 0 on")
        found.append(label)
    return found


def _folders(names: list[str], zipped: str) -> list[str]:
    """The first folder of each name in which not all of them are."""
    parts = [name.split("/")[:-1] for name in names]
    depth = 0
    while len({tuple(folders[depth : depth + 1]) for folders in parts}) == 1 and max(map(len, parts)) > depth + 1:
        depth += 1
    for name, folders in zip(names, parts, strict=True):
        if len(folders) <= depth:
            raise ConfigError(
                f"data.labels: {shown(name)} in {zipped} is in no folder of its class, and there is no {LABELS}. "
                "Zip a folder that has a folder for each class"
            )
    return [folders[depth] for folders in parts]


def unwrapped(raw: bytes) -> bytes:
    """A file's content from its bytes in a zip, which begin with its header."""
    method, name_length, extra_length = struct.unpack("<8xH16xHH", raw[:HEADER])
    data = raw[HEADER + name_length + extra_length :]
    try:
        return zlib.decompress(data, -zlib.MAX_WBITS) if method == zipfile.ZIP_DEFLATED else data
    except zlib.error as error:
        raise Broken(str(error)) from None


def _name(shard: Shard, offset: int, number: int) -> str:
    (length,) = struct.unpack("<H", shard.read(offset + 26, 2))
    return shard.read(offset + HEADER, length).decode(errors="surrogateescape")
