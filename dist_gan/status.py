"""What runs, how far, how fast, until when: `python -m dist_gan.status [RUN_FOLDER ...]`, from the files alone.

It works on any machine that sees the folders, also while a run trains in them, and imports neither torch nor the run.
"""

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from dist_gan.console import Console
from dist_gan.distributed.timing import VANISHED_SECONDS
from dist_gan.formatting import duration
from dist_gan.run.folder import RunFolder
from dist_gan.run.listing import checkpoints_in

USAGE = """usage: python -m dist_gan.status [RUN_FOLDER ...]

What the runs are doing, how far they are and when they end. Without a folder: all runs below runs/. For a folder with
several runs, such as a sweep's: all of them. Below the table: why a run ended, and what is wrong with what it learns.
"""
COLUMNS = ("run", "state", "images", "images/s", "ends in", "last checkpoint", "restarts", "where")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; returns 0, or 2 where a folder holds no run."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if {"-h", "--help"} & set(arguments):
        print(USAGE, end="")
        return 0
    runs = []
    for folder in map(Path, arguments or ["runs"]):
        found = [folder] if _is_run(folder) else sorted(path.parent for path in folder.glob("**/status.json"))
        if not found:
            hint = "" if arguments else ". Name one: python -m dist_gan.status RUN_FOLDER"
            print(f"dist_gan: {folder} holds no run (no status.json){hint}", file=sys.stderr)
            return 2
        runs += found
    rows = [describe(RunFolder(run), time.time()) for run in runs]
    notes = {str(run): _notes(RunFolder(run)) for run in runs}
    Console(speaks=True).columns(COLUMNS, [[row[column] for column in COLUMNS] for row in rows])
    for row in rows:
        if row["why"]:
            print(f"{row['run']}: {row['why']}")
        for note in notes[row["run"]]:
            print(f"{row['run']}: {note}")
    return 0


def describe(run: RunFolder, now: float) -> dict[str, str]:
    """Column -> text, and `why`: the reason where it did not end cleanly. `now`: seconds since the epoch."""
    try:
        status = run.read_status()
    except OSError as error:
        return dict.fromkeys(COLUMNS, "") | {"run": str(run.path), "state": "unknown", "why": str(error)}
    state, seen, images = status.get("state", "unknown"), status.get("images_seen", 0), status.get("images")
    alive = state in ("starting", "running")
    silent = now - _sign_of_life(run, status)
    if alive and silent > VANISHED_SECONDS:
        state, alive = "vanished", False
        why = f"it said that it was {status['state']}, but has not been heard of for {duration(silent)}"
    else:
        why = status.get("reason", "") if state == "failed" else ""
    rate = status.get("images_per_second")
    again, stalled = status.get("restarts", 0), status.get("restarts_without_progress", 0)
    return {
        "run": str(run.path),
        "state": state,
        "images": f"{seen:,}" + (f" of {images:,} ({seen / images:.0%})" if images else ""),
        "images/s": f"{rate:,.0f}" if rate else "",
        "ends in": duration((images - seen) / rate) if alive and rate and images else "",
        "last checkpoint": _last_checkpoint(run, now),
        "restarts": f"{again}" + (f" ({stalled} without progress)" if stalled else ""),
        "where": ", ".join(
            f"{name} {status[key]}" for name, key in (("job", "job"), ("host", "host")) if status.get(key)
        ),
        "why": f"exit code {status['exit_code']}: {why}" if state == "failed" else why,
    }


def _is_run(folder: Path) -> bool:
    return RunFolder(folder).status_file.is_file()


def _notes(run: RunFolder) -> list[str]:
    """What is wrong with what it learns, and what to try, as it noted itself."""
    with suppress(OSError):
        return [f"at {note['images']:,} images: {note['text']}. {note['advice']}" for note in run.notes()]
    return []


def _sign_of_life(run: RunFolder, status: dict[str, Any]) -> float:
    try:
        return max(run.lock_file.stat().st_mtime, status["time"])
    except (OSError, KeyError):
        return 0.0


def _last_checkpoint(run: RunFolder, now: float) -> str:
    try:
        found = checkpoints_in(run.checkpoints)
        written = found[-1].stat().st_mtime if found else 0.0
    except OSError as error:
        return f"unknown ({error})"
    if not found:
        return "none"
    return f"{int(found[-1].name.removeprefix('images-')):,}, {duration(now - written)} ago"


if __name__ == "__main__":
    sys.exit(main())
