"""The campaign must fail where saving is broken: each mistake below is made once, and has to be noticed."""

import inspect
import random
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dist_gan.run import checkpoint
from dist_gan.run.checkpoint import Writer
from dist_gan.run.folder import RunFolder
from tests.campaigns.faults.calls import can_trace, system_calls
from tests.campaigns.faults.disk import disk, limited, read_only, small_disk
from tests.campaigns.faults.kills import kills
from tests.campaigns.faults.rot import rot
from tests.campaigns.faults.runs import Tally

Part = Callable[[Path, random.Random], list[Tally]]


def _calls(folder: Path, generator: random.Random) -> list[Tally]:
    return system_calls(folder, 25, generator) if can_trace() else []


def _bytes(folder: Path, generator: random.Random) -> list[Tally]:
    return [rot(folder, 30, generator)]


def _disk(folder: Path, generator: random.Random) -> list[Tally]:
    return [disk(folder, limited)]


def _read_only(folder: Path, generator: random.Random) -> list[Tally]:
    with small_disk(folder) as mounted:
        return [disk(mounted, read_only)] if mounted else []


def _kills(folder: Path, generator: random.Random) -> list[Tally]:
    return [kills(folder, 1, 8, generator)]


MISTAKES: dict[str, tuple[Any, str, str, str, Part]] = {
    "written in place": (checkpoint, "write", 'parent / f".tmp-{target.name}"', "target", _calls),
    "no fsync": (checkpoint, "_write_through", "os.fsync(file.fileno())", "pass", _calls),
    "the folder is not synced": (checkpoint, "write", "_sync_folder(parent)", "pass", _calls),
    "the old one goes first": (
        Writer, "_write",
        "self.last = write(", "_discard(existing(self.parent)[0]); self.last = write(", _calls,
    ),
    "strays stay": (checkpoint, "find", "_remove(stray)", "pass", _calls),
    "no hash": (checkpoint, "read_files", "_digest(content) != digest", "False", _bytes),
    "a silent fresh start": (checkpoint, "newest", "if found or any(", "if False and any(", _bytes),
    "an unfinished one stays": (checkpoint, "_remove", "shutil.rmtree(path, ignore_errors=True)", "pass", _disk),
    "a torn line of metrics": (RunFolder, "append", "file.truncate(end)", "pass", _disk),
    "metrics end the run": (RunFolder, "append", "contextlib.suppress(OSError), ", "", _read_only),
    "status ends the run": (
        RunFolder, "status", "contextlib.suppress(OSError)", "contextlib.nullcontext()", _read_only,
    ),
    "always from the start": (checkpoint, "newest", "reversed(found)", "()", _kills),
    "from an older one": (checkpoint, "newest", "reversed(found)", "found", _kills),
}  # fmt: skip


@contextmanager
def _made(owner: Any, name: str, old: str, new: str) -> Iterator[None]:
    original = getattr(owner, name)
    source = textwrap.dedent(inspect.getsource(original))
    assert old in source, f"{name} no longer says {old}"
    module = sys.modules[original.__module__]
    made: dict[str, Any] = {}
    exec(source.replace(old, new), vars(module), made)
    setattr(owner, name, made[name])
    yield
    setattr(owner, name, original)


def broken(folder: Path, generator: random.Random) -> Tally:
    """Each mistake is noticed by the part that is there for it."""
    tally = Tally("mistakes made on purpose")
    for number, (name, (owner, function, old, new, part)) in enumerate(MISTAKES.items()):
        room = folder / str(number)
        room.mkdir()
        with _made(owner, function, old, new):
            found = part(room, generator)
        tally.counts["made"] += bool(found)
        noticed = [failure for one in found for failure in one.failures]
        tally.check(bool(noticed) or not found, "not noticed", name)
    return tally
