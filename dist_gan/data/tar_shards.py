"""Tar shards as WebDataset has them: the files of a sample share their name up to its first dot, and stand together."""

import contextlib
import hashlib
import json
import re
import tarfile
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

import torch

from dist_gan.data.durable import BLOCK
from dist_gan.data.files import AWAY, ENDINGS, expanded, is_skipped, patiently, shown
from dist_gan.data.from_files import FromFiles
from dist_gan.data.index import Scanned, Shard, index_of
from dist_gan.data.remote import is_url, notes_on, remote_shards, urls_at
from dist_gan.data.shards import Local, as_it_is, open_shards, stay_open
from dist_gan.data.source import READING, Dataset, Reading
from dist_gan.errors import ConfigError
from dist_gan.part import free

PIECE = 1 << 14  # bytes: tarfile copies what is left of a piece with every read
HEADER = 512  # bytes before a file's content
SAMPLE = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]+)", re.DOTALL)
RANGE = re.compile(r"\{([^{}]*)\}")


class Tar(FromFiles):
    """WebDataset's tar shards, in the order of their names; in a shard, samples stay in their order.

    Every shard is read once: the place of each image is kept in an index in DIST_GAN_DATA, else in ~/.cache/dist_gan.
    The fingerprint is of the content of all shards (SHA-256). They may move; then the index is made again.
    """

    name: Literal["tar"] = "tar"
    path: str = free(...)
    """A folder of .tar files; one file; or a pattern: shards/train-{000..127}.tar, shards/*.tar. Or a URL that fsspec
    reads, with such a pattern too: s3://bucket/train-{000..127}.tar."""
    image: str = ""
    """Which file of a sample is its image, by what follows the first dot of its name: jpg, or seg.png. Empty: the one
    with the ending of an image."""
    labels: bool = False
    """Whether images have classes: see `label`."""
    label: str = "cls"
    """Which file of a sample is its class: `cls` has its number or its name; `json:KEY` is a value of a JSON object."""
    cache_gigabytes: float = free(100.0, ge=0)
    """Of shards at a URL, this many gigabytes are kept on disk, in DIST_GAN_DATA, else in ~/.cache/dist_gan. Images of
    others are fetched one by one."""

    def open(self, device: torch.device, reading: Reading = READING) -> Dataset:
        notes: list[str] = []
        shards: Sequence[Shard]
        if is_url(self.path):
            urls = [url for one in braces(self.path) for url in urls_at(one, "*.tar")]
            shards = remote = remote_shards(urls, self.cache_gigabytes * 1e9)
            notes = notes_on(remote)
        else:
            shards = shards_at(self.path)
        if not shards:
            raise ConfigError(f"data.path: no .tar file at {shown(self.path)}. Give a folder of them, or a pattern")
        ending, separator, key = self.label.partition(":")
        image, label = self.image.lower(), ending.lower() + separator + key if self.labels else ""
        options = {"image": image, "label": label}

        def scan(shard: Shard, skipped: Counter[str]) -> Generator[Scanned, None, str]:
            return _scan(shard, image, label, reading.patience, skipped)

        index = index_of("tar", shards, options, scan, self.white, reading)
        return open_shards(self, index, shards, options, as_it_is, _name, device, reading, notes)


def shards_at(path: str) -> Sequence[Shard]:
    """The shards on disk that `path` means. Raises ConfigError where one cannot be read."""
    found = []
    for one in braces(path):
        place = expanded(one)
        if place.is_dir():
            found += sorted(place.glob("*.tar"))
        elif re.search(r"[*?\[]", one):
            root = Path(place.anchor)
            found += sorted(root.glob(str(place.relative_to(root))))
        else:
            found.append(place)
    return [Local(place, stay_open(len(found))) for place in found]


def braces(text: str) -> list[str]:
    """`a{0..2}` as a0, a1, a2; `{x,y}` as x, y. Numbers keep their leading zeros."""
    match = RANGE.search(text)
    if match is None:
        return [text]
    inside = match.group(1)
    if ends := re.fullmatch(r"(\d+)\.\.(\d+)", inside):
        first, last = ends.groups()
        choices = [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
    else:
        choices = inside.split(",")
    return [text[: match.start()] + choice + rest for choice in choices for rest in braces(text[match.end() :])]


class _Hashed:
    """A shard that is read from its start to its end in large blocks, with its SHA-256."""

    def __init__(self, shard: Shard, patience: float) -> None:
        self.shard = shard
        self.patience = patience
        self.size = int(shard.stamp[0])
        self.fetched = 0
        self.block = memoryview(b"")
        self.digest = hashlib.sha256()

    def read(self, size: int) -> bytes:
        if not self.block:
            self.block = memoryview(self.at(self.fetched, min(BLOCK, self.size - self.fetched)))
            self.fetched += len(self.block)
            self.digest.update(self.block)
        content, self.block = self.block[:size], self.block[size:]
        return bytes(content)  # fewer than `size` at the end of a block: tarfile asks again

    def at(self, offset: int, size: int) -> bytes:
        return patiently(lambda: self.shard.read(offset, size), self.patience, AWAY)

    def rest(self, end: int) -> str:
        """Read what is left; the SHA-256 of everything. Raises tarfile.ReadError where not all is zero from `end` on:
        tarfile takes a damaged header for the end of the file."""
        content = self.at(end, max(0, self.fetched - len(self.block) - end))  # again: tarfile read ahead
        is_empty = not any(content)
        while content := self.read(BLOCK):
            is_empty = is_empty and content.count(0) == len(content)
        if not is_empty:
            raise tarfile.ReadError(
                f"it is damaged at byte {end:,}, or another tar file was appended: give each by itself"
            )
        if self.size < end + 2 * HEADER:  # a tar ends with two empty blocks
            raise tarfile.ReadError("its end is missing")
        return self.digest.hexdigest()


class _File(NamedTuple):
    offset: int
    size: int
    content: bytes | None


def _scan(
    shard: Shard, image: str, label: str, patience: float, skipped: Counter[str]
) -> Generator[Scanned, None, str]:
    file: Any = _Hashed(shard, patience)
    key, files = "", dict[str, _File]()
    try:
        with tarfile.open(fileobj=file, mode="r|", bufsize=PIECE) as tar:
            for member in tar:
                tar.members = []  # type: ignore[attr-defined]  # it would keep all of them
                match = _part_of_sample(member, shard, image, label, skipped)
                if match is None:
                    continue
                if match.group(1) != key:
                    yield from _sample(shard, key, files, image, label, skipped)
                    key, files = match.group(1), {}
                ending = match.group(2).lower()
                wanted = _is_wanted(ending, image, label)
                if wanted and ending in files:
                    raise ConfigError(
                        f"data.path: {shown(key)} in {shown(shard.name)} has two files .{shown(ending)}. Files "
                        "with one name before its first dot are one sample: rename one"
                    )
                content = tar.extractfile(member).read() if wanted else None  # type: ignore[union-attr]
                if content is not None and len(content) < member.size:
                    raise tarfile.ReadError("unexpected end of data")
                files[ending] = _File(member.offset_data, member.size, content)
            yield from _sample(shard, key, files, image, label, skipped)
        return str(file.rest(tar.offset))
    except tarfile.TarError as error:
        raise ConfigError(
            f"data.path: {shown(shard.name)} is no whole tar file ({error}). Copy it again, or unpack it where it is "
            "compressed (gunzip): images inside are read one by one"
        ) from None


def _part_of_sample(
    member: tarfile.TarInfo, shard: Shard, image: str, label: str, skipped: Counter[str]
) -> re.Match[str] | None:
    """Its key and ending where `member` is a file of a sample; else None, and an image is counted as skipped. Raises
    ConfigError where it is needed, but its bytes do not stand after its header."""
    path = PurePosixPath(member.name)
    reason = next(filter(None, map(is_skipped, path.parts)), "symbolic links" if member.issym() else "")
    if reason:
        if path.suffix.lower() in ENDINGS and not member.isdir():
            skipped[reason] += 1
        return None
    match = SAMPLE.fullmatch(member.name)
    if match is None or not (member.isreg() or member.islnk()):
        return None
    if _is_wanted(match.group(2).lower(), image, label) and (member.issparse() or member.islnk()):
        what, option = "is stored sparse", "without -S"
        if member.islnk():
            what, option = f"is a hard link to {shown(member.linkname)}", "with --hard-dereference"
        raise ConfigError(
            f"data.path: {shown(member.name)} in {shown(shard.name)} {what}, which is not read here. Make the tar "
            f"again {option}"
        )
    return match


def _is_wanted(ending: str, image: str, label: str) -> bool:
    """Whether a file with this ending is an image or a class."""
    return ending == image or (not image and f".{ending}" in ENDINGS) or ending == label.partition(":")[0]


def _sample(
    shard: Shard, key: str, files: dict[str, _File], image: str, label: str, skipped: Counter[str]
) -> Iterator[Scanned]:
    if not files:
        return
    where = f"{shown(key)} in {shown(shard.name)}"
    images = [ending for ending in files if (ending == image if image else f".{ending}" in ENDINGS)]
    if not images:
        others = [ending for ending in files if PurePosixPath(ending).suffix.lower() in ENDINGS]
        if others and not image:
            skipped["images with more than one dot in their names (see data.image)"] += len(others)
        else:
            skipped[f"samples without {image or 'an image'}"] += 1
        return
    if len(images) > 1:
        raise ConfigError(
            f"data.image: {where} has {len(images)} images: {', '.join(images)}. Set data.image={images[0]}, or another"
        )
    found = files[images[0]]
    assert found.content is not None
    name = f"{key}.{images[0]}"
    yield Scanned(
        name, found.offset, found.size, found.content, _label(files, label, where, ", ".join(files)) if label else None
    )


def _label(files: dict[str, _File], label: str, where: str, there: str) -> int | str:
    ending, _, key = label.partition(":")
    file = files.get(ending)
    if file is None or file.content is None:
        raise ConfigError(f"data.label: {where} has no .{ending}, but {there}. Set data.label, or data.labels=false")
    try:
        text = file.content.decode().strip()
        value: Any = json.loads(text)[key] if key else text
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ConfigError(f"data.label: the .{ending} of {where} has no class {key!r} ({error})") from None
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return int(value)
        return value
    if type(value) is int:
        return value
    raise ConfigError(f"data.label: the class of {where} is {value!r}, expected a number from 0 on, or a name")


def _name(shard: Shard, offset: int, number: int) -> str:
    """From the header before a file's content."""
    header = shard.read(offset - HEADER, HEADER)
    info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    return info.name
