"""Which tables a path, a URL or a name of the Hugging Face Hub means, and of which split they are."""

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from dist_gan.data.durable import read_json
from dist_gan.data.files import expanded, shown
from dist_gan.data.index import Shard
from dist_gan.data.remote import Remote, folder_of, is_url, urls_at
from dist_gan.data.shards import Local, stay_open
from dist_gan.errors import ConfigError

SPLITS = ("train", "test", "validation")
HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
ENDINGS = (".parquet", ".arrow")


def tables_at(path: str, split: str) -> list[Shard]:
    """The tables of `split` (of all, where it is empty and they are of one), in the order of their names.

    Raises:
        ConfigError: there are none, they are of several splits, or one cannot be reached.
    """
    if not is_url(path) and HUB.fullmatch(path) and not expanded(path).exists():
        path = f"hf://datasets/{path}"
    place = expanded(path)
    root = str(place)
    if is_url(path):
        found = urls_at(path, "**/*.parquet")
        root = folder_of(path) if found != [path] else path
    elif place.is_dir():
        found = _without_caches(file for ending in ENDINGS for file in place.rglob(f"*{ending}"))
    elif wildcard := re.search(r"[*?\[]", root):
        found = _without_caches(Path(place.anchor).glob(str(place.relative_to(place.anchor))))
        root = root[: wildcard.start()].rpartition("/")[0]
    else:
        found = [root]
    of = {one: _split_of(one.removeprefix(root) or PurePosixPath(one).name, split) for one in found}
    if split:
        found = [one for one in found if of[one] == split]
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
    return [Remote(one) if is_url(one) else Local(Path(one), stay_open(len(found))) for one in found]


def _without_caches(files: Iterable[Path]) -> list[str]:
    """The files that are data, sorted: beside it, `datasets` keeps what it computed from it."""
    found = sorted(files, key=str)
    saved: dict[Path, set[str] | None] = {}
    for folder in {file.parent for file in found if file.suffix == ".arrow"}:
        state = read_json(folder / "state.json")
        listed = state.get("_data_files") if isinstance(state, dict) else None
        saved[folder] = {str(one.get("filename")) for one in listed} if listed else None
    return [
        str(file)
        for file in found
        if file.suffix != ".arrow"
        or (file.name in names if (names := saved[file.parent]) else not file.name.startswith(("cache-", "tmp")))
    ]


def _split_of(path: str, wanted: str) -> str:
    """The split that the name of a table, else the nearest folder, has as one of its words; empty where none has."""
    for part in reversed(PurePosixPath(path).parts):
        for split in filter(None, (wanted, *SPLITS)):
            if re.search(rf"(?<![A-Za-z0-9]){re.escape(split)}(?![A-Za-z])(?!(?<=\d)\d)", part, re.IGNORECASE):
                return split
    return ""
