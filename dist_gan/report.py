"""A page about runs: `python -m dist_gan.report RUN [OTHER ...] [out=report.html]` (see `--help`)."""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

if __name__ == "__main__" and not __package__:
    # `python dist_gan/report.py` puts dist_gan/ itself first: its modules would hide others of the same name
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from dist_gan.console import Console
from dist_gan.errors import ConfigError, RunError
from dist_gan.formatting import plural, size
from dist_gan.reporting.page import page
from dist_gan.reporting.reading import read_runs
from dist_gan.reporting.videos import check_file, write_file

USAGE = """usage: python -m dist_gan.report RUN [OTHER ...] [out=report.html] [video=training.mp4] [trust_code=false]

One HTML file about a run, or about several side by side: samples over time, also as a video, all metrics as charts,
evaluations, health notes, a grid for each class, the nearest training images, what differs between the configs. It
needs no network, and no other file, to be read. A run may still be training.

  RUN                 a run's folder
  out=report.html     the file
  video=training.mp4  write the video of one run as a file too, with all its grids; or video=training.gif
  trust_code=false    true: execute the code of networks, features and data sources of somebody's own, which two
                      sections need
"""
OUT, VIDEO, TRUST = "out", "video", "trust_code"


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the page as the command line says; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or {"-h", "--help"} & set(arguments):
        print(USAGE, end="", file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    try:
        folders, out, video, trust_code = _asked(arguments)
        runs = read_runs(folders)
        if video:
            check_file(runs, video)
        console = Console(speaks=True)
        try:
            text = page(runs, trust_code, partial(console.reading, unit="images"))
        finally:
            console.stop()
        if video:
            write_file(runs[0], video)
        written = _write(text, out)
    except RunError as error:
        print(f"dist_gan.report: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{out} ({size(written)}, {plural(len(runs), 'run')})")
    if video:
        print(f"{video} ({size(video.stat().st_size)})")
    return 0


def _asked(arguments: Sequence[str]) -> tuple[list[Path], Path, Path | None, bool]:
    """The folders, the file, the video, and whether code is trusted. A folder's name may have a `=`."""
    folders, out, video, trust_code = [], "report.html", None, "false"
    for argument in arguments:
        key, separator, value = argument.partition("=")
        if separator and key == OUT:
            out = value
        elif separator and key == VIDEO:
            video = value
        elif separator and key == TRUST:
            trust_code = value
        elif separator and not Path(argument).exists() and "/" not in key:
            raise ConfigError(
                f"{argument!r}: expected a run's folder, {OUT}=report.html, {VIDEO}=training.mp4 or {TRUST}=false"
            )
        else:
            folders.append(Path(argument))
    if trust_code not in ("true", "false"):
        raise ConfigError(f"{TRUST}: expected true or false, got {trust_code!r}")
    if not folders:
        raise ConfigError("name a run's folder: python -m dist_gan.report RUN")
    if not out or out.endswith("/") or Path(out).is_dir():
        raise ConfigError(f"{OUT}: expected a file such as {OUT}=report.html, got {out!r}")
    return folders, Path(out), None if video is None else Path(video), trust_code == "true"


def _write(text: str, out: Path) -> int:
    """The file, published by one rename; returns its bytes."""
    temporary = out.with_name(f".{out.name}.tmp")
    content = text.encode("utf-8", errors="replace")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(content)
            temporary.replace(out)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"{OUT}: cannot write {out} ({error.strerror or error}). Choose another place") from None
    return len(content)


if __name__ == "__main__":
    sys.exit(main())
