"""One run from its start (or resume) to its end."""

import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from dist_gan import __version__
from dist_gan.config.command_line import dump
from dist_gan.config.schema import Config
from dist_gan.console import Console
from dist_gan.data import Dataset, given
from dist_gan.data.source import Reading
from dist_gan.distributed.launch import check_launch, world
from dist_gan.distributed.numerics import preserved
from dist_gan.distributed.processes import Processes, accelerate_preserved
from dist_gan.distributed.stopping import Stopping
from dist_gan.distributed.timing import SLACK, patience_with_data
from dist_gan.distributed.watchdog import Watchdog
from dist_gan.errors import ConfigError
from dist_gan.formatting import duration
from dist_gan.game.game import Game
from dist_gan.game.meter import Scalar
from dist_gan.own_parts import code_of, reference_of
from dist_gan.run import checkpoint, debug
from dist_gan.run.agenda import events_of
from dist_gan.run.begin import Parent, begin, check_beginning
from dist_gan.run.build import game_of, shape_of, stream_of
from dist_gan.run.contracts import check_own_parts
from dist_gan.run.evaluate import open_evaluations
from dist_gan.run.events import Event, Metrics
from dist_gan.run.failures import (
    Attempt,
    end_hung_run,
    name_own_part,
    raise_in_hung_run,
    record_failure,
    record_interrupt,
)
from dist_gan.run.folder import RunFolder
from dist_gan.run.health import Notes
from dist_gan.run.records import Records, RunRecords
from dist_gan.run.resume import ResumePoint, open_run, restore
from dist_gan.run.summary import parameter_counts, show_start, stop_notice
from dist_gan.run.tracker import Tracker, noted_wandb_id, wandb_note
from dist_gan.run.trainer import Trainer


@dataclass(frozen=True)
class Result:
    """The result of a run, on every rank."""

    run: Path
    """Its folder."""
    images_seen: int
    """How many real images D has seen in all."""
    stopped_by: int
    """The number of the signal that stopped it, or 0 where all images were seen."""
    metrics: Mapping[str, float]
    """The last ones by name; empty where nothing was left to train."""


@dataclass(frozen=True)
class _Around:
    """What a run has besides its config."""

    events: Sequence[Event]
    scalars: Sequence[Scalar]
    owns_process: bool
    watch: debug.Checks | None = None
    silent: bool = False
    """Whether nothing is printed, because it was before."""


def train(
    config: Config,
    *,
    data: Any = None,
    labels: Any = None,
    class_names: Sequence[str] | None = None,
    events: Sequence[Event] = (),
    scalars: Sequence[Scalar] = (),
    owns_process: bool = False,
) -> Result:
    """Train, on this process among those that the launcher started; in a script, a notebook's cell, or a thread.

    What the process had set (signal handlers, threads, deterministic kernels, TF32, torch's default type, Accelerate's
    state) is as before when it returns or raises. A run that hangs (`timeout`) raises PeerFailed as soon as its thread
    comes back to Python; one of several processes is ended, since its peers wait for it.

    Args:
        config: the run.
        data: images in memory instead of `config.data`: what `dist_gan.given` takes. A run that goes on must be given
            the same again.
        labels: their classes, likewise.
        class_names: the names of the classes, likewise.
        events: those in addition to metrics, pictures and checkpoints.
        scalars: what is logged in addition to the usual.
        owns_process: whether a run that hangs may end this process (the command sets it).

    Returns:
        The result.

    Raises:
        RunError, OSError: what ended it; status.json says the same.
    """
    if data is not None:
        config = config.model_copy(update={"data": given(data, labels, class_names, flip=config.data.flip)})
    if mistakes := config.mistakes(world()[1]) + check_launch(config.precision, config.speed):
        raise ConfigError("\n".join(mistakes))
    around = _Around(events, scalars, owns_process)
    with preserved(), accelerate_preserved():
        return _debug(config, around) if config.debug else _attempt(config, around)


def _debug(config: Config, around: _Around) -> Result:
    """A few updates, a checkpoint, a resume from it, and a few more: everything once, everything checked."""
    begun = time.perf_counter()
    debug.watch_everything()
    half, full = (debug.shortened(config, updates) for updates in (debug.UPDATES // 2, debug.UPDATES))
    debug.clear(Path(half.run))
    if config.evaluate:
        print("debug: evaluate is left out; python -m dist_gan.score computes its metrics of any run")
    checks = debug.Checks()
    checks.passed += check_own_parts(config)
    around = replace(around, watch=checks)
    result = _attempt(half, around)
    if not result.stopped_by:
        print(f"debug: going on from {result.images_seen:,} images")
        result = _attempt(full, replace(around, silent=True))
    if result.stopped_by:
        return result
    seconds = time.perf_counter() - begun
    print(f"debug: {checks.passed:,} checks passed, everything written and read once, in {duration(seconds)}")
    return result


def _attempt(config: Config, around: _Around) -> Result:
    attempt = Attempt(Path(config.run), world()[0])
    try:
        return _run(config, around, attempt)
    except Exception as error:
        name_own_part(error, config)
        ours = record_failure(error, attempt)
        if ours is error:
            raise
        raise ours from error


def _run(config: Config, around: _Around, attempt: Attempt) -> Result:
    processes = Processes(config.precision, exact=config.exact, timeout_seconds=config.timeout + SLACK)
    console = Console(speaks=processes.is_first and not around.silent, style=config.console)
    stopping = Stopping(processes, lambda number: console.urgent(stop_notice(number)))
    folder = RunFolder(Path(config.run))
    with stopping.listening():
        for warning in config.unwise() + processes.unwise(config.precision):
            console.warn(warning)
        console.say("reading images")
        reading = Reading(patience_with_data(config.timeout), console.reading)
        dataset = processes.on_all_ranks(lambda: config.data.open(processes.device, reading))
        stream = processes.on_all_ranks(lambda: stream_of(config, processes, dataset))
        parent = processes.on_all_ranks(lambda: check_beginning(config, folder, shape_of(config, dataset)))
        opened = open_evaluations(config, processes, dataset, reading, stopping, console)
        try:
            found = processes.on_all_ranks(
                lambda: (
                    open_run(config, folder, dataset.fingerprint, console.warn, attempt) if processes.is_first else None
                )
            )
            start = processes.broadcast(found)
            assert start is not None
            attempt.folder = folder
            watchdog = Watchdog(
                processes,
                config.timeout,
                _when_hung(folder, attempt, around.owns_process or processes.count > 1),
                folder.lock_file if processes.is_first else None,
            )
            with watchdog.watching():
                if start.images_seen >= config.images and opened.keys() <= start.scored:
                    console.say(f"{config.run} has seen all of its {config.images:,} images. Set more with images=...")
                    processes.close(stays=not around.owns_process)
                    return Result(folder.path, start.images_seen, 0, {})
                game, start = _begun(config, processes, dataset, around, start, parent, console)
                records = _records(config, folder, dataset, game, console, start)
                show_start(console, config, processes, game, dataset, start, records.services)
                metrics = Metrics(config.track.every, config.images, console)
                notes = Notes(config, folder, start) if config.track.health and processes.is_first else None
                batches = notes.watching(stream.batches) if notes else stream.batches
                happening = events_of(config, game, opened, start, metrics, notes, console, around.events)
                with records:
                    trainer = Trainer(
                        game,
                        batches,
                        processes,
                        stopping,
                        config.images,
                        metrics,
                        happening,
                        records,
                        console,
                    )
                    stop = trainer.run()
                    processes.close(stays=not around.owns_process)  # before the records: nobody waits for a service
                    return Result(folder.path, game.images_seen, stop, metrics.last)
        except KeyboardInterrupt:
            console.stop()
            record_interrupt(attempt)
            saved = [path.name for path in checkpoint.existing(folder.checkpoints)[-1:]]
            console.say(f"ended at once; the last checkpoint: {saved[0] if saved else 'none'}")
            raise
        finally:
            console.stop()
            folder.release()


def _begun(
    config: Config,
    processes: Processes,
    dataset: Dataset,
    around: _Around,
    start: ResumePoint,
    parent: Parent | None,
    console: Console,
) -> tuple[Game, ResumePoint]:
    """The game as it is where the run goes on or begins, and that point."""
    game = game_of(config, processes, dataset, around.scalars, around.watch, console.warn)
    if start.checkpoint is not None:
        read = restore(game, start.checkpoint, processes)
        if around.watch:
            debug.check_restored(game, read)
    elif parent is not None:
        begin(game, parent, optimizers=config.begin_from_optimizers)
        start = replace(start, parent=parent.record)
        if parent.misfits:
            console.warn(f"begin_from: these layers start from initial weights: {', '.join(parent.misfits)}")
    return game, start


def _when_hung(folder: RunFolder, attempt: Attempt, ends: bool) -> Callable[[str, bool], None]:
    """What the watchdog calls. `ends`: whether it may end this process; else it makes this training thread raise."""
    thread = threading.get_ident()

    def hung(reason: str, reports: bool) -> None:
        if ends:
            end_hung_run(folder, attempt, reason, reports)
        raise_in_hung_run(folder, attempt, reason, thread)

    return hung


def _records(
    config: Config, folder: RunFolder, dataset: Dataset, game: Game, console: Console, start: ResumePoint
) -> Records:
    processes = game.processes
    if not processes.is_first:
        return Records()
    text = dump(config)
    if (written := folder.write_config(text)) != folder.config:
        console.say(f"{folder.config} is your own and stays as it is; the resolved one is {written.name}")
    if dataset.classes:
        folder.write_classes(dataset.classes)
    facts = {
        "processes": processes.count,
        "device": processes.describe(),
        "parameters": parameter_counts(game),
        "data": dataset.fingerprint,
        "data_images": len(dataset),
        "image_shape": list(dataset.shape),
        "classes": list(dataset.classes),
        "code": {key: sha for key, (_, sha) in code_of(config).items()},
        "parent": start.parent,
        "versions": {"dist_gan": __version__, "torch": torch.__version__, "python": sys.version.split()[0]},
    }
    tracker = Tracker(
        config.track,
        folder,
        {**config.model_dump(mode="json"), "facts": facts},
        noted_wandb_id(folder),
        console.warn,
        console.say,
        start.images_seen,
    )
    folder.status("starting", data_images=len(dataset), wandb=wandb_note(folder, tracker.wandb_id))
    writer = checkpoint.Writer(
        folder.checkpoints,
        keep=config.save.keep,
        keep_every=config.save.keep_every,
        keep_best=bool(config.save.best),
        warn=console.warn,
    )
    writer.last = start.checkpoint
    own_networks = reference_of(type(config.networks)) is not None
    return RunRecords(folder, writer, tracker, console, text, {**facts, "wandb": tracker.wandb_id}, own_networks)
