"""Checks all files of a folder once, when it is opened: which can be used, what is in them, and their fingerprint."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from dist_gan.data.decode import Broken, Look, Unclear, decode, examine
from dist_gan.data.durable import read_json, write_json
from dist_gan.data.fetch import data_root
from dist_gan.data.files import AWAY, Found, patiently, read, shown
from dist_gan.data.from_files import SEVERAL, ImageFiles, check_broken
from dist_gan.data.jpegs import differs
from dist_gan.data.source import Progress, Reading, fingerprint, throttled
from dist_gan.data.streamed import most_broken
from dist_gan.errors import ConfigError

T = TypeVar("T")
CONTENT_LIMIT = 256 << 20
"""Bytes. The fingerprint of a folder up to this size reads the content of all files."""
BLOCK = 1024  # files given to threads at once
CHECKED = 1000  # files of a large folder whose values are checked, where these may be out of range


@dataclass
class Survey:
    """What was found when all files were checked."""

    fingerprint: str
    broken: dict[int, str]
    """Why files cannot be used."""
    transparent: int
    """How many images have an alpha channel or transparent colors."""


@dataclass
class _Seen:
    digest: str = ""
    reason: str = ""
    unreachable: bool = False
    unclear: str = ""
    has_alpha: bool = False


def survey(found: Found, files: ImageFiles, look: Look, skips: bool, images: Tensor | None, reading: Reading) -> Survey:
    """Check every file once. Its content is read where that is needed anyway, and kept in `images` if given.

    Args:
        found: the files.
        files: the same, for messages.
        look: how images are made of them.
        skips: whether some may be broken.
        images: uint8 [M, C, H, W], to be filled, or None. Those of broken files stay as they are.
        reading: how to read.

    Raises:
        ConfigError: files cannot be used; it names them.
    """
    by_content = sum(found.sizes) <= CONTENT_LIMIT
    count = len(found.names)
    sampled = max(1, count // CHECKED)

    def see(index: int) -> _Seen:
        if index in found.lost:
            return _Seen(reason=found.lost[index], unreachable=True)
        seen = _Seen()
        try:
            if images is None and not by_content:
                seen.has_alpha = patiently(
                    lambda: _examined(found.path(index), look, index % sampled == 0), reading.patience, AWAY
                )
                return seen
            content = read(found.path(index), reading.patience, AWAY)
            seen.digest = hashlib.sha256(content).hexdigest()
            image, seen.has_alpha = decode(content, look)
            if images is not None:
                images[index] = image
        except Unclear as error:
            seen.unclear = str(error)
        except Broken as error:
            seen.reason = str(error)
        except OSError as error:
            seen.reason, seen.unreachable = error.strerror or str(error), True
        return seen

    lines: list[str] = ["folder", f"skip_broken={skips}", f"content={by_content}", *differs()]
    known: Path | None = None
    if not by_content and images is None:
        listing = "\n".join(map("{} {} {}".format, found.names, found.sizes, found.times))
        known = _known(listing, found, look)
        facts = read_json(known)
        if isinstance(facts, dict) and "transparent" in facts:
            return Survey(fingerprint(*lines, listing), {}, int(facts["transparent"]))
    result = Survey("", {}, 0)
    limit = most_broken(count) if skips else 0
    for index, seen in enumerate(each(see, range(count), "reading images", reading.progress)):
        if seen.unclear:
            raise ConfigError(f"data.path: {shown(found.path(index))}: {seen.unclear}")
        if seen.reason:
            result.broken[index] = seen.reason
        result.transparent += seen.has_alpha
        what = seen.digest if by_content else f"{found.sizes[index]} {found.times[index]}"
        lines.append(f"{found.names[index]} {what}" + (" unreachable" if seen.unreachable else ""))
        if len(result.broken) > limit + SEVERAL:
            break
    check_broken(result.broken, count, skips, files)
    result.fingerprint = fingerprint(*lines)
    if known and not result.broken:
        with suppress(OSError):  # the next start looks at all files again
            known.parent.mkdir(parents=True, exist_ok=True)
            write_json(known, {"folder": shown(found.root), "files": count, "transparent": result.transparent})
    return result


def _known(listing: str, found: Found, look: Look) -> Path:
    """Where is kept that all files of these names, sizes and times were looked at, and none was broken."""
    text = f"{look.white}\n{sorted(found.lost)}\n{listing}"
    digest = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
    return data_root() / "folders" / f"{digest[:32]}.json"


def _examined(path: str, look: Look, thoroughly: bool) -> bool:
    with open(path, "rb") as file:
        return examine(file, look, thoroughly)


def each(function: Callable[[Any], T], items: Sequence[Any], what: str, progress: Progress) -> Iterator[T]:
    """`function` of each item, in order, computed by threads; progress is reported from the calling thread."""
    report = throttled(progress)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(items), BLOCK):
            for done, result in enumerate(pool.map(function, items[start : start + BLOCK]), start + 1):
                report(what, done, len(items))
                yield result
