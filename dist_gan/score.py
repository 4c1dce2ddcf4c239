"""Metrics of a run's checkpoints, or of two sets of images: `python -m dist_gan.score RUN [key=value ...]`."""

import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

if __name__ == "__main__" and not __package__:
    # `python dist_gan/score.py` puts dist_gan/ itself first: its modules would hide others of the same name
    sys.path[0] = str(Path(__file__).resolve().parents[1])
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

from dist_gan.arguments import Flag, Text, Whole, read_options
from dist_gan.console import Console
from dist_gan.data.source import Reading
from dist_gan.distributed.launch import leave, world
from dist_gan.distributed.numerics import preserved
from dist_gan.distributed.processes import Processes
from dist_gan.distributed.stopping import Stopping
from dist_gan.errors import INTERRUPTED, ConfigError
from dist_gan.metrics.protocol import rows_of
from dist_gan.run.failures import report_failure
from dist_gan.run.folder import RunFolder
from dist_gan.run.scoring import Numbers, Work, metrics_asked, score_images, score_run, source_named

USAGE = """usage: python -m dist_gan.score RUN_OR_CHECKPOINT [key=value ...]
       python -m dist_gan.score folder=A against=B [key=value ...]
       launch/local.sh [-n N] --score ...        (the same numbers on any number of processes)

  RUN_OR_CHECKPOINT  a run's folder, or one of its checkpoints. Numbers of a run go into its scores.json too
  which=last         of a run's checkpoints: last, best (by save.best), the images it had seen, or all: a curve
  metrics=fid,kid    fid, kid, mind, precision_recall, density_coverage, copies, inception_score, class_accuracy, modes,
                     some of these with commas between them, or a list as in a config, with their own keys:
                     metrics='[{name: kid, subset_size: 100}]'. Default: those of the run's config, or fid
  features=NAME      of all metrics; default: those of the run's config, or efficientnet_lite0. Also inception, dinov2,
                     digits, stacked_digits, pixels, or my_file.py:MyFeatures
  images=N reals=N   of all metrics: how many images are made, and how many real ones are used (0: all)
  split=NAME         of all metrics: train, test or all, where the data has several; default: what was learnt from
  weights=NAME       of all metrics: ema, the average of G (ema_2: the second of several), or newest, G itself;
                     default: ema
  folder=A           images in a folder, in place of a run
  against=B          another folder, or mnist, fashion_mnist, cifar10, stacked_mnist; all images of both are used
  size=N             scale the images of folders to N x N; without it a folder's images must have one size
  out=FILE.json      write the numbers there too
  trust_code=false   true: execute code of somebody's own that the run names
"""
OPTIONS = {
    "which": Text("last"),
    "metrics": Text(None, example="fid,kid"),
    "features": Text(None, example="efficientnet_lite0"),
    "images": Whole(None, least=1, most=10**9, example="50000"),
    "reals": Whole(None, most=10**9, example="0"),
    "split": Text(None, example="test"),
    "weights": Text(None, example="ema"),
    "folder": Text(None, example="A"),
    "against": Text(None, example="B"),
    "size": Text(None, example="64"),
    "out": Text(None, example="scores.json"),
    "processes": Whole(0, example="1"),
    "trust_code": Flag(),
}


class _Stopped(Exception):
    """All processes have agreed to stop."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Score what the command line says; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    rank, count = world()
    if not arguments or {"-h", "--help"} & set(arguments):
        if rank == 0:
            print(USAGE, end="", file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    try:
        named = [arguments[0]] if "=" not in arguments[0] or Path(arguments[0]).exists() else []
        options = read_options(arguments[len(named) :], OPTIONS)
        _check(named, options, count)
        with preserved():
            return _score(named, options)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        return report_failure(error, rank)


def _check(named: Sequence[str], options: dict[str, Any], count: int) -> None:
    """Raises ConfigError for what does not go together."""
    if options["processes"] not in (0, count):
        raise ConfigError(f"processes: {options['processes']} expected, and the launcher started {count}")
    pair = [key for key in ("folder", "against") if options[key] is not None]
    if named and pair:
        raise ConfigError(f"{pair[0]}: give a run, or folder=A against=B, not both")
    if not named and len(pair) < 2:
        raise ConfigError("give a run's folder, or two sets of images: folder=A against=B (see --help)")
    ignored = ["size"] if named else ["which", "images", "weights", "trust_code"]
    if given := [key for key in ignored if options[key] not in (OPTIONS[key].default, None)]:
        raise ConfigError(f"{given[0]}: it means nothing for {'a run' if named else 'images of folders'}. Leave it out")
    if out := options["out"]:
        if not out.endswith(".json"):
            raise ConfigError(f"out: expected a name that ends in .json, got {out!r}")
        if not Path(out).absolute().parent.is_dir():
            raise ConfigError(f"out: there is no folder {Path(out).absolute().parent}. Make it first")


def _score(named: Sequence[str], options: dict[str, Any]) -> int:
    processes = Processes()
    console = Console(speaks=processes.is_first)
    stopping = Stopping(processes, lambda _: console.urgent("stopping; a second Ctrl-C ends at once"))

    def pause(what: str, done: int, total: int) -> None:
        if what:
            console.reading(what, done, total, "images")
        if stopping.ask_now():
            raise _Stopped

    work = Work(processes, pause, Reading(progress=console.reading), console.warn)
    changes = {key: options[key] for key in ("images", "reals", "split", "weights")}
    found: dict[str, Numbers] = {}
    with stopping.listening():
        try:
            if named:
                found = _run(Path(named[0]), options, changes, work, console)
            else:
                found = _images(options, changes, work, console)
        except _Stopped:
            console.stop()
            console.say("stopped: what was not finished is not written")
            return INTERRUPTED
        finally:
            console.stop()
    if options["out"]:
        processes.on_all_ranks(partial(_write, Path(options["out"]), found) if processes.is_first else _nothing)
        console.say(f"written to {options['out']}")
    processes.close()
    return 0


def _run(
    run: Path, options: dict[str, Any], changes: dict[str, Any], work: Work, console: Console
) -> dict[str, Numbers]:
    found: dict[str, Numbers] = {}
    rows = []
    for path, images, numbers in score_run(
        run,
        options["which"],
        lambda config: metrics_asked(options["metrics"], options["features"], changes, config.evaluate),
        work,
        trust_code=options["trust_code"],
    ):
        if not work.processes.is_first:
            continue
        found[str(images)] = numbers
        rows += [(f"{images:,}", *row) for row in rows_of(numbers)]
        folder = RunFolder(path.parent.parent)
        if path.parent.name == "checkpoints" and folder.status_file.exists():
            folder.score(images, numbers)
    console.stop()
    console.columns(("images seen", "", "value", "computed of"), rows)
    return found


def _images(options: dict[str, Any], changes: dict[str, Any], work: Work, console: Console) -> dict[str, Numbers]:
    images, against = (
        work.processes.on_all_ranks(lambda k=key: source_named(options[k], k, options["size"]))  # type: ignore[misc]
        for key in ("folder", "against")
    )
    metrics = metrics_asked(options["metrics"], options["features"], changes)
    numbers = score_images(images, against, metrics, work)
    console.stop()
    console.columns((f"{options['folder']} against {options['against']}", "value", "computed of"), rows_of(numbers))
    return {options["folder"]: numbers}


def _nothing() -> None:
    pass


def _write(path: Path, found: dict[str, Numbers]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(found, indent=1) + "\n")
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise ConfigError(f"out: cannot write {path} ({error.strerror}). Choose another place") from None


if __name__ == "__main__":
    leave(main())
