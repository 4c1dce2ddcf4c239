"""Rotten bytes: found, named, put aside, the older checkpoint taken."""

import random
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from dist_gan.errors import CheckpointError
from dist_gan.run import checkpoint
from tests.campaigns.faults.runs import BATCH, Tally, finish, output, same_end


def damage(path: Path, generator: random.Random) -> str:
    """One random flip, truncation, insertion or deletion in a checkpoint; returns the file's name."""
    file = generator.choice(sorted(path.iterdir()))
    kind = generator.choice(["flip", "truncate", "delete", "insert"])
    content = bytearray(file.read_bytes())
    if kind == "flip":
        content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
    elif kind == "truncate":
        del content[generator.randrange(len(content)) :]
    elif kind == "insert":
        content.insert(generator.randrange(len(content) + 1), generator.randrange(256))
    else:
        file.unlink()
        return file.name
    file.write_bytes(content)
    return file.name


def rot(folder: Path, count: int, generator: random.Random) -> Tally:
    """Damage to a real checkpoint: found, named, put aside; the older one is taken; none left valid is exit code 3."""
    tally = Tally("rotten bytes")
    images = 4 * BATCH
    whole, base, run = folder / "whole", folder / "base", folder / "run"
    tally.check(finish(whole, 2 * images) == finish(base, images, f"save.every={BATCH}") == [0], "exit codes")
    old, new = checkpoint.existing(base / "checkpoints")
    for k in range(count):
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(base, run)
        parent, none_left, entire = run / "checkpoints", k % 5 == 4, k % 50 in (0, 4)
        names = [damage(parent / path.name, generator) for path in ([new, old] if none_left else [new])]
        warnings: list[str] = []
        found: Any = None
        if entire:  # the command itself
            output(run).unlink(missing_ok=True)
            code = finish(run, 2 * images)
            said = " ".join(output(run).read_text().split())
            warnings = said.split("warning: ")[1:]
            found = parent / old.name if "going on from 192" in said else None
            tally.counts["of them by whole commands"] += 1
            tally.check(code == [3 if none_left else 0], "exit codes", f"{k}: {code}: {said}")
            if not none_left:
                same_end(tally, run, whole)
        else:
            with suppress(CheckpointError):
                found = checkpoint.find(parent, warnings.append)
        tally.counts["damaged"] += 1
        tally.counts["none left valid"] += none_left
        named = len(warnings) == len(names) and all(n in text for n, text in zip(names, warnings, strict=True))
        tally.check(named, "not found or not named", f"{k}: {names}: {warnings}")
        tally.check(found == (None if none_left else parent / old.name), "a wrong one taken", f"{k}: {names}: {found}")
        tally.check(len([*parent.glob("bad-*")]) == len(names), "not put aside", f"{k}: {names}")
        if none_left:
            again = ""
            with suppress(CheckpointError):
                again = f"from {checkpoint.find(parent, warnings.append)}"
            tally.check(not again, "silent fresh starts", f"{k}: {again}")
    return tally
