"""The events of a run, in the order in which they happen."""

from collections.abc import Sequence
from pathlib import Path

from dist_gan.config.schema import Config
from dist_gan.console import Console
from dist_gan.game.game import Game
from dist_gan.run.evaluate import Opened, evaluations
from dist_gan.run.events import Checkpoints, Event, Metrics, Pictures
from dist_gan.run.folder import RunFolder
from dist_gan.run.health import Notes, Symptoms, note_events
from dist_gan.run.resume import ResumePoint
from dist_gan.sampling.generate import sample_classes, sample_latents


def events_of(
    config: Config,
    game: Game,
    opened: Opened,
    start: ResumePoint,
    metrics: Metrics,
    notes: Notes | None,
    console: Console,
    more: Sequence[Event],
) -> list[Event]:
    """In the order in which they happen: an evaluation may ask for a checkpoint, or find that the run is to stop."""
    checkpoints = Checkpoints(config.save.every)
    folder = RunFolder(Path(config.run))
    judged = evaluations(
        opened,
        config,
        start.scored,
        metrics,
        checkpoints,
        console,
        lambda: Symptoms(notes, folder) if notes else None,
        folder if game.processes.is_first else None,
    )
    pictures = _pictures(config, game)
    noting = note_events(metrics, pictures, notes) if config.track.health else []
    return [*judged, metrics, pictures, *noting, checkpoints, *more]


def _pictures(config: Config, game: Game) -> Pictures:
    network, processes = game.average.network, game.processes
    count, columns = config.sample.count, None
    condition = None
    if network.classes:
        condition, columns = sample_classes(network.classes, count)
        condition = condition.to(processes.device)
    latents = sample_latents(game.seed, range(count), network.latent, processes.device, processes.dtype)
    return Pictures(config.sample.every, latents, condition, columns)
