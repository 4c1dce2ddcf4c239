"""What evaluations of a run have found: scores.json in its folder.

    {"best": {"key": KEY, "higher": false}, "640000": {KEY: 12.3, ...}, ...}

The keys of the numbers are their full names (`dist_gan.metrics.protocol`). `best` says which number `save.best` means.
"""

import contextlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dist_gan.errors import ConfigError, InputOutputError
from dist_gan.run.listing import checkpoints_in, unreadable

FILE = "scores.json"


def read_scores(run: Path) -> dict[int, dict[str, float]]:
    """Images seen -> numbers by their full names; empty where nothing was evaluated. What is no number is left out."""
    return {
        int(images): {key: float(value) for key, value in numbers.items() if isinstance(value, int | float)}
        for images, numbers in _read(run).items()
        if images.isdecimal() and isinstance(numbers, dict)
    }


def text_with(run: Path, images_seen: int, numbers: Mapping[str, float], best: tuple[str, bool] | None = None) -> str:
    """scores.json with `numbers` added. `best`: the number by which checkpoints are compared from now on, and whether a
    higher one is better."""
    found = _read(run)
    if best is not None:
        found["best"] = {"key": best[0], "higher": best[1]}
    found[str(images_seen)] = {**found.get(str(images_seen), {}), **numbers}
    return _text(found)


def text_compared(run: Path, best: tuple[str, bool] | None) -> str | None:
    """scores.json with `best` as the number by which checkpoints are compared; None where nothing changes."""
    before = _read(run)
    found = {key: value for key, value in before.items() if key != "best"}
    if best is not None:
        found = {"best": {"key": best[0], "higher": best[1]}, **found}
    return None if found == before else _text(found)


def text_until(run: Path, images_seen: int) -> str | None:
    """scores.json without what was found after `images_seen`; None where nothing changes."""
    before = _read(run)
    found = {images: numbers for images, numbers in before.items() if not _is_later(images, images_seen)}
    return None if found == before else _text(found)


def best_first(run: Path, checkpoints: Iterable[Path]) -> list[Path]:
    """Those of a run's checkpoints that have the number of `save.best`, the best one first, of equal ones the older."""
    found = _read(run)
    with contextlib.suppress(LookupError, TypeError, ValueError):
        key, sign = found["best"]["key"], -1 if found["best"]["higher"] else 1
        scored = [(sign * found[str(images_of(path))][key], path) for path in checkpoints if _has(found, path, key)]
        return [path for _, path in sorted(scored)]
    return []


def best_key(run: Path) -> str:
    """The full name of the number by which a run's checkpoints are compared; empty where there is none."""
    try:
        return str(_read(run)["best"]["key"])
    except (LookupError, TypeError):
        return ""


def chosen(run: Path, which: str) -> list[Path]:
    """The checkpoints of a run that `which` names, in the order in which they are to be tried.

    Args:
        run: its folder.
        which: `best`, or the number of images a checkpoint had seen.

    Raises:
        ConfigError: there is none.
        InputOutputError: the folder cannot be read.
    """
    there = checkpoints_in(run / "checkpoints")
    if which == "best":
        if found := best_first(run, there):
            return found
        raise ConfigError(
            f"which: no checkpoint of {run} is known to be the best. A config keeps one by evaluate=... and "
            "save.best=NAME. Or choose which=last"
        )
    named = [path for path in there if which.isdecimal() and images_of(path) == int(which)]
    if not named:
        listed = ", ".join(str(images_of(path)) for path in there) or "no checkpoint at all"
        raise ConfigError(f"which: expected last, best, or the images of a checkpoint ({listed}), got {which!r}")
    return named


def images_of(checkpoint: Path) -> int:
    """How many images a checkpoint had seen, from its name."""
    return int(checkpoint.name.removeprefix("images-"))


def _has(found: Mapping[str, Any], path: Path, key: str) -> bool:
    return key in found.get(str(images_of(path)), {})


def _is_later(images: str, images_seen: int) -> bool:
    return images.isdecimal() and int(images) > images_seen


def _read(run: Path) -> dict[str, Any]:
    """Empty where there is no file. Raises InputOutputError where it cannot be read: what is there must not be lost."""
    path = run / FILE
    try:
        found = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise unreadable(path, error) from None
    except ValueError as error:
        raise InputOutputError(f"{path} is damaged ({error}). Correct it, or delete it") from None
    return found if isinstance(found, dict) else {}


def _text(found: Mapping[str, Any]) -> str:
    ordered = sorted(found, key=lambda key: (key.isdecimal(), int(key) if key.isdecimal() else 0))
    return json.dumps({key: found[key] for key in ordered}, indent=1) + "\n"
