"""What is printed at the beginning and at the end of a run."""

import signal
import time
from collections.abc import Mapping
from contextlib import suppress

from dist_gan import __version__
from dist_gan.config.schema import Config
from dist_gan.console import Console
from dist_gan.data import Dataset
from dist_gan.distributed.processes import Processes
from dist_gan.formatting import duration, plural
from dist_gan.game.game import Game
from dist_gan.run.build import used_speed
from dist_gan.run.folder import RunFolder
from dist_gan.run.listing import checkpoints_in
from dist_gan.run.records import RunRecords
from dist_gan.run.resume import ResumePoint
from dist_gan.run.scores import best_first, best_key, images_of, read_scores


def parameter_counts(game: Game) -> dict[str, int]:
    """How many parameters G and D have."""
    return {name: sum(p.numel() for p in player.parameters) for name, player in game.players.items()}


def stop_notice(number: int) -> str:
    """The message after a first signal: what happens now."""
    again = "A second one" if number == signal.SIGINT else "Ctrl-C"
    return f"{_signal(number)}: stopping after this update, then saving. {again} ends at once."


def _signal(number: int) -> str:
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


def show_start(
    console: Console,
    config: Config,
    processes: Processes,
    game: Game,
    dataset: Dataset,
    start: ResumePoint,
    services: str,
) -> None:
    """Show what will be trained. `services`: where metrics go."""
    counts = parameter_counts(game)
    shape = "x".join(map(str, dataset.shape))
    images = f"{config.images:,}"
    if start.images_seen:
        images += f", going on from {start.images_seen:,}"
        if start.processes != processes.count and not config.exact:
            images += f" (saved on {plural(start.processes, 'process')}: equal up to rounding, not bit for bit)"
    each = config.batch_size // processes.count
    microbatches = f" in microbatches of {config.used_microbatch}" if config.used_microbatch else ""
    classes = f", {plural(len(dataset.classes), 'class')}" if dataset.classes else ""
    if start.parent and not start.images_seen:
        images += f", beginning from {start.parent['checkpoint']}"
    speed, why = used_speed(config, processes)
    rows = [
        ("device", processes.describe()),
        (
            "processes",
            f"{plural(processes.count, 'process')}, batch {config.batch_size:,} = {processes.count} x {each:,}"
            + microbatches,
        ),
        ("precision", config.precision + (", exact" if config.exact else "")),
        *([("speed", f"{speed}: {why}" if why else speed)] if why or speed != "eager" else []),
        ("networks", f"{config.networks.name}: G {counts['G']:,} and D {counts['D']:,} parameters"),
        ("objective", " + ".join([config.objective.loss.name, *(p.name for p in config.objective.penalties)])),
        ("data", f"{config.data.name}: {len(dataset):,} images of {shape}{classes}"),
        ("images", images),
        ("run folder", config.run),
        ("metrics", services),
    ]
    console.table(f"dist_gan {__version__}", rows)
    for note in dataset.notes:
        console.say(f"data: {note}")


def show_end(
    console: Console,
    records: RunRecords,
    metrics: Mapping[str, float],
    images_seen: int,
    first: int,
    begun: float,
    stop: int,
) -> None:
    """Show the result. `begun`: from `time.perf_counter`; `stop`: the signal that stopped the run, or 0."""
    seconds, images = time.perf_counter() - begun, images_seen - first
    saved = records.last_checkpoint
    rows = [
        ("images seen", f"{images_seen:,} ({images:,} now, {images / seconds:,.0f} a second, in {duration(seconds)})"),
        *([("losses", f"D {metrics['D/loss']:.3f}, G {metrics['G/loss']:.3f}")] if metrics else []),
        ("pictures", str(records.folder.samples)),
        ("checkpoint", str(saved) if saved else "none could be written"),
        ("more pictures", records.sampling),
    ]
    with suppress(OSError):
        rows += _best(records.folder)
    if stop:
        rows.append(("to go on", "give the same command again"))
    console.table(f"stopped by {_signal(stop)}" if stop else "finished", rows)
    if records.upload:  # not in the table, which would break the line
        console.say(f"to upload all of it to W&B: {records.upload}")


def _best(folder: RunFolder) -> list[tuple[str, str]]:
    """The row about the checkpoint that `save.best` keeps, if there is one."""
    found = best_first(folder.path, checkpoints_in(folder.checkpoints))
    if not found:
        return []
    key, images = best_key(folder.path), images_of(found[0])
    value = read_scores(folder.path)[images][key]
    return [("best", f"{key.split('/')[0]} {value:.4g} at {images:,} images: which=best")]
