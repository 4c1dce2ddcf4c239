"""A config for a folder of images: `python -m dist_gan.advise FOLDER [key=value ...]` (see `--help`)."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__" and not __package__:
    # `python dist_gan/advise.py` puts dist_gan/ itself first: its modules would hide others of the same name
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from dist_gan.advising.advice import advise, name_of
from dist_gan.advising.machine import machine
from dist_gan.advising.table import rows
from dist_gan.arguments import Text, Whole, read_options, run_command
from dist_gan.console import Console
from dist_gan.data.examination import examine
from dist_gan.data.files import expanded
from dist_gan.data.source import Reading
from dist_gan.errors import INTERRUPTED, ConfigError

USAGE = """usage: python -m dist_gan.advise FOLDER [key=value ...]

Looks at every image below FOLDER once, says what it saw, and writes a config that is likely to work: each choice has
its reason in a comment. Nothing that is there is replaced, and the images stay as they are.

  FOLDER             a folder of images; sub-folders may be classes
  out=NAME.yaml      where the config is written; default: the folder's name, in the current directory
  gpu=auto           what it is meant for: auto, the GPU of this machine or none; no; or the GB of one GPU, as gpu=24
  white=0            the value that is white in images of floats or 32-bit integers (see data.white)
"""
OPTIONS = {
    "out": Text(None, example="photos.yaml"),
    "gpu": Text("auto"),
    "white": Whole(0),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Examine the folder and write the config as the command line says; returns the exit code."""
    try:
        return run_command("dist_gan.advise", USAGE, _advise, arguments)
    except KeyboardInterrupt:
        return INTERRUPTED


def _advise(arguments: Sequence[str]) -> str:
    folder, *others = arguments
    options = read_options(others, OPTIONS)
    there = machine(options["gpu"])
    out = Path(options["out"] or f"{name_of(folder)}.yaml").expanduser()
    _check(out)
    console = Console(speaks=True)
    try:
        seen = examine(expanded(folder), options["white"], Reading(progress=console.reading))
    finally:
        console.stop()
    console.table(f"{folder}\n", rows(seen))
    text = advise(seen, folder, there, options["white"])
    _write(out, text)
    config = shlex.quote(str(out))
    return (
        f"\nwritten to {out}: read its comments, then\n"
        f"  python -m dist_gan.doctor {config}     would it work here, and how fast?\n"
        f"  launch/local.sh {config}"
    )


def _check(out: Path) -> None:
    """Raises ConfigError where `out` could not be written."""
    if out.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"out: expected a name that ends in .yaml, got {str(out)!r}")
    if out.exists() or out.is_symlink():
        raise ConfigError(f"out: {out} exists already, and nothing is replaced. Give another name: out=NAME.yaml")
    if not out.absolute().parent.is_dir():
        raise ConfigError(f"out: there is no folder {out.absolute().parent}. Make it first")


def _write(out: Path, text: str) -> None:
    try:
        with open(out, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(f"out: {out} exists already, and nothing is replaced. Give another name") from None
    except OSError as error:
        raise ConfigError(f"out: cannot write {out} ({error.strerror}). Choose another place") from None


if __name__ == "__main__":
    sys.exit(main())
