"""Metrics of images as events of a run: which are asked for, when they happen, and where their numbers go."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dist_gan.config.schema import Config
from dist_gan.console import Console
from dist_gan.data import Dataset
from dist_gan.data.source import Reading
from dist_gan.distributed.processes import Processes
from dist_gan.distributed.stopping import Stopping
from dist_gan.errors import EvaluationFailed
from dist_gan.game.game import Game
from dist_gan.metrics.evaluation import Evaluation, Pause
from dist_gan.metrics.extract import Source
from dist_gan.metrics.fakes import Fakes
from dist_gan.metrics.features import Features
from dist_gan.metrics.metric import Metric, Summary
from dist_gan.metrics.opening import open_networks
from dist_gan.metrics.protocol import rows_of
from dist_gan.metrics.reference import Cache
from dist_gan.metrics.tasks import Reals
from dist_gan.run.events import Checkpoints, Event, Metrics
from dist_gan.run.folder import RunFolder
from dist_gan.run.health import Symptoms
from dist_gan.run.records import Records

Best = tuple[str, bool]
"""The full name of the number by which checkpoints are compared, and whether a higher one is better."""


class Interrupted(Exception):
    """All processes have agreed to stop while an evaluation was under way."""


class Evaluate(Event):
    """Metrics that happen at the same time."""

    name = "the evaluation"

    def __init__(
        self,
        evaluation: Evaluation,
        reals: Reals,
        every: int,
        images: int,
        scored: frozenset[str],
        best: Best | None,
        metrics: Metrics,
        checkpoints: Checkpoints,
        console: Console,
        symptoms: Symptoms | None,
    ) -> None:
        """Nothing is computed yet.

        Args:
            evaluation: what is computed.
            reals: what the run learns from; fakes have their classes.
            every: images between two evaluations.
            images: after which the run ends, with an evaluation.
            scored: the numbers that are known already where the run goes on.
            best: by which checkpoints are compared; None: by none.
            metrics: whose speed does not count the time of an evaluation.
            checkpoints: asked for one where the game is better than every checkpoint.
            console: where numbers are shown.
            symptoms: judges the run's health by what is seen; None: it is not judged.
        """
        self.symptoms = symptoms
        self.evaluation = evaluation
        self.reals = evaluation.order_of(reals)
        self.every = every
        self.images = images
        self.owed = not evaluation.names().keys() <= scored
        self.best = best
        self.metrics = metrics
        self.checkpoints = checkpoints
        self.console = console

    def was_missed(self, game: Game) -> bool:
        """Where a signal came before it was over, or it was added to the config later."""
        seen = game.images_seen
        return self.owed and seen > 0 and (self.is_due(game) or seen >= self.images)

    def happen(self, game: Game, records: Records) -> None:
        """Computed by all ranks. Where a signal stops it, it happens again when the run goes on."""
        begun, better = time.perf_counter(), False
        records.status("running", images_seen=game.images_seen, images=self.images)
        try:
            look = self.symptoms.look if self.symptoms else None
            numbers = self.evaluation.run(self._sources(game), look, self._failed)
        except Interrupted:
            self.console.say("the evaluation ends before its time; it is made when the run goes on")
            return
        finally:
            self.metrics.leave_out(time.perf_counter() - begun)
        if numbers:  # on rank 0
            better = self._record(game, records, numbers)
        self.checkpoints.wanted |= game.processes.broadcast(better)

    def _record(self, game: Game, records: Records, numbers: dict[str, float]) -> bool:
        """Returns whether the game is better than every checkpoint."""
        self.console.columns((f"at {game.images_seen:,} images", "value", "computed of"), rows_of(numbers))
        better = records.scores(game.images_seen, numbers, self.best)
        if self.symptoms:
            self.symptoms.note(game.images_seen, self.evaluation.names(), numbers, records)
        return better

    def _failed(self, error: EvaluationFailed) -> None:
        self.console.warn(f"{error}. Training goes on without it")

    def _sources(self, game: Game) -> dict[str, Source]:
        found: dict[str, Source] = {}
        for weights in self.evaluation.weights():
            if weights == "newest":
                network = game.average.with_weights(game.generator.network.state_dict())
            else:
                network = game.averages[weights].ready()
            found[weights] = Fakes(network, game.seed, self.reals).source
        return found


@dataclass(frozen=True)
class Opened:
    """What the metrics of a config need, found before anything of the run is written."""

    metrics: Sequence[Metric]
    reals_of: Callable[[str], Reals]
    evaluation_of: Callable[[Sequence[Metric]], Evaluation]

    def keys(self) -> frozenset[str]:
        """The full names of all numbers."""
        return frozenset(self.evaluation_of(self.metrics).names())


def open_evaluations(
    config: Config,
    processes: Processes,
    dataset: Dataset,
    reading: Reading,
    stopping: Stopping,
    console: Console,
) -> Opened:
    """Find the networks and images that `evaluate` needs. Metrics whose networks are not there are left out, and said.

    Raises:
        ConfigError: on all ranks, where a metric cannot be computed.
    """

    def missing(message: str) -> None:
        console.warn(f"evaluate: {message}. Training goes on without it")

    wanted: list[Features] = [metric.features for metric in config.evaluate]
    if wanted:
        console.say("opening what evaluates images")
    networks = open_networks(wanted, processes, missing, reading.progress)
    reals: dict[str, Reals] = {}

    def reals_of(split: str) -> Reals:
        if split not in reals:
            if split in ("", str(getattr(config.data, "split", "train"))):
                reals[split] = Reals(dataset, config.data)
            else:
                source = config.data.model_copy(update={"split": split})
                reals[split] = Reals(processes.on_all_ranks(lambda: source.open(processes.device, reading)), source)
        return reals[split]

    cache, known = Cache(console.warn), dict[str, Summary]()

    def evaluation_of(metrics: Sequence[Metric]) -> Evaluation:
        pause = _pause(processes, stopping, console)
        return Evaluation(metrics, reals_of, networks, processes, pause, cache, known=known)

    kept = [metric for metric in config.judged if metric.features in networks]  # type: ignore[attr-defined]
    for line in evaluation_of(kept).unwise():
        console.warn(line)
    return Opened(kept, reals_of, evaluation_of)


def evaluations(
    opened: Opened,
    config: Config,
    scored: frozenset[str],
    metrics: Metrics,
    checkpoints: Checkpoints,
    console: Console,
    symptoms: Callable[[], Symptoms | None],
    folder: RunFolder | None,
) -> list[Evaluate]:
    """The events: one for all metrics with the same `every`. `scored`: what is known where the run goes on; `symptoms`
    makes what judges the health of each; `folder`: the run's, on rank 0."""
    best = _best_key(opened, config, console)
    if folder is not None:
        folder.compare_by(best)
    events = []
    for every in dict.fromkeys(metric.every for metric in opened.metrics):
        evaluation = opened.evaluation_of([metric for metric in opened.metrics if metric.every == every])
        events.append(
            Evaluate(
                evaluation,
                opened.reals_of(""),
                every,
                config.images,
                scored,
                best if best and best[0] in evaluation.names() else None,
                metrics,
                checkpoints,
                console,
                symptoms(),
            )
        )
    return events


def _best_key(opened: Opened, config: Config, console: Console) -> Best | None:
    chosen = config.best_metric()
    if chosen is None:
        return None
    metric, name = chosen
    if metric not in opened.metrics:
        console.warn(f"save.best: no checkpoint is kept by {config.save.best}, which is left out")
        return None
    names = opened.evaluation_of([metric]).names()
    found = next(((key, higher) for key, (value, higher) in names.items() if value == name), None)
    if found is None:
        console.warn(f"save.best: no checkpoint is kept by {config.save.best}, which is not known for this data")
    return found


def _pause(processes: Processes, stopping: Stopping, console: Console) -> Pause:
    def pause(what: str, done: int, total: int) -> None:
        processes.pulse.enter(Evaluate.name)
        console.working(what, done, total)
        if stopping.ask_now():
            raise Interrupted

    return pause
