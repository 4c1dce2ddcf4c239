"""Several metrics at once: each image is made once and seen once by each feature network, on all processes."""

import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch

from dist_gan.distributed.processes import Processes
from dist_gan.distributed.traffic import purpose
from dist_gan.errors import EvaluationFailed
from dist_gan.metrics.extract import Extraction, Source
from dist_gan.metrics.features import FeatureNetwork, Features
from dist_gan.metrics.metric import Metric, Need, Summary
from dist_gan.metrics.reference import Cache, RealOrder
from dist_gan.metrics.tasks import Reals, Task, Wanted, task_of

WAIT_SECONDS = 1.0
"""While rank 0 computes, all processes agree this often on whether to go on."""
PATIENCE_SECONDS = 10.0
"""Work that is to end is waited for so long."""
Pause = Callable[[str, int, int], None]
"""(what is being done, how far, of how much): called by all ranks after the same parts of the work. It may raise on all
alike, which ends the work."""
Look = Callable[[Metric, Summary, Summary], None]
"""Sees what a metric is computed of: fakes, reals."""


class Evaluation:
    """Metrics with their networks and reals, ready to be computed any number of times, by all processes together."""

    def __init__(
        self,
        metrics: Sequence[Metric],
        reals_of: Callable[[str], Reals],
        networks: Mapping[Features, FeatureNetwork],
        processes: Processes,
        pause: Pause,
        cache: Cache,
        weights: str = "",
        known: dict[str, Summary] | None = None,
    ) -> None:
        """Nothing is computed yet.

        Args:
            metrics: those whose features are among `networks`; others are left out.
            reals_of: the reals of a split; empty: those that are learnt from.
            networks: what `open_networks` returned.
            processes: this process among the others.
            pause: called while it works.
            cache: of statistics of reals.
            weights: what made the fakes, where it is not what the metrics say: `images` of a folder, for example.
            known: of reals; what several evaluations share. None: of this one alone.

        Raises:
            ConfigError: a metric cannot be computed of these features, or of this many images.
        """
        self.processes = processes
        self.pause = pause
        self.cache = cache
        self._orders: dict[int, RealOrder] = {}
        self._known = {} if known is None else known
        self.tasks = []
        for metric in metrics:
            features: Features = metric.features  # type: ignore[attr-defined]  # every member has the field
            if network := networks.get(features):
                self.tasks.append(task_of(metric, features, network, reals_of, weights, processes.device.type))

    def unwise(self) -> list[str]:
        """What works, but is most likely not what was meant."""
        return [line for t in self.tasks for line in t.metric.unwise(t.network, t.metric.images, t.reals.count)]

    def names(self) -> dict[str, tuple[str, bool]]:
        """The full name of every number -> (its short name, whether higher is better)."""
        return {
            task.protocol.key(value): (value, higher) for task in self.tasks for value, higher in task.values.items()
        }

    def weights(self) -> list[str]:
        """Which weights of G its metrics judge."""
        return list(dict.fromkeys(task.weights for task in self.tasks))

    def order_of(self, reals: Reals) -> RealOrder:
        """The fixed order of these reals."""
        return self._orders.setdefault(id(reals.dataset), RealOrder(reals.dataset))

    def run(
        self,
        sources: Mapping[str, Source],
        look: Look | None = None,
        failed: Callable[[EvaluationFailed], None] | None = None,
    ) -> dict[str, float]:
        """All numbers by their full names, on rank 0; others get none.

        Args:
            sources: where the fakes of each kind of weights come from (`ema`, `newest`).
            look: called on rank 0, in another thread, with each metric and what is known of fakes and reals.
            failed: called on all ranks where a metric cannot be computed, and it is left out; None: that is an error.

        Raises:
            EvaluationFailed: on all ranks.
        """
        found: dict[str, float] = {}
        for network in dict.fromkeys(task.network for task in self.tasks):
            tasks = [task for task in self.tasks if task.network is network]
            fakes = {
                weights: self._fakes(network, [t for t in tasks if t.weights == weights], sources[weights])
                for weights in dict.fromkeys(task.weights for task in tasks)
            }
            self._measure_reals(network, {wanted.name: wanted for task in tasks for wanted in task.wanted})
            for task in tasks:
                own = fakes[task.weights][task.metric.images]
                try:
                    values = self._on_rank_0(partial(_computed, task.metric, own, self._reals(task), look))
                except EvaluationFailed as error:
                    if failed is None:
                        raise
                    failed(error)
                    continue
                found |= {task.protocol.key(value): number for value, number in values.items()}
        return found

    def _fakes(self, network: FeatureNetwork, tasks: Sequence[Task], source: Source) -> dict[int, Summary]:
        wanted: dict[int, set[Need]] = {}
        for task in tasks:
            wanted.setdefault(task.metric.images, set()).update(task.of_fakes)
        return self._summaries("judging images", network, source, wanted)

    def _reals(self, task: Task) -> Summary:
        known = self._known.get(task.reals.name, Summary(task.reals.count))
        held_out = self._known[task.held_out.name].features if task.held_out else None
        counts = task.reals.reals.dataset.class_counts()
        own = None if counts is None or tuple(counts) != task.network.classes else torch.tensor(list(counts.values()))
        return replace(known, class_counts=own, held_out=held_out)

    def _measure_reals(self, network: FeatureNetwork, wanted: Mapping[str, Wanted]) -> None:
        """What is wanted and not known yet: cached, or in one pass over each data set."""
        missing = {name: each for name, each in wanted.items() if name not in self._known}
        if self.processes.is_first:
            cached = {name: self.cache.load(w.protocol, w.count, set(w.needs)) for name, w in missing.items()}
            self._known |= {name: summary for name, summary in cached.items() if summary is not None}
        for name in self.processes.broadcast([name for name in missing if name in self._known]):
            self._known.setdefault(name, Summary(missing[name].count))
            del missing[name]
        for dataset in dict.fromkeys(each.reals.dataset for each in missing.values()):
            here = {name: each for name, each in missing.items() if each.reals.dataset is dataset}
            counts: dict[int, set[Need]] = {}
            for each in here.values():
                counts.setdefault(each.count, set()).update(each.needs)
            source = self._orders.setdefault(id(dataset), RealOrder(dataset)).source
            measured = self._summaries("measuring real images", network, source, counts)
            for name, each in here.items():
                self._known[name] = measured[each.count].only(set(each.needs))
                if self.processes.is_first:
                    self.cache.store(each.protocol, set(each.needs), self._known[name])

    def _summaries(
        self, what: str, network: FeatureNetwork, source: Source, wanted: Mapping[int, set[Need]]
    ) -> dict[int, Summary]:
        total, done = max(wanted), 0

        def pause(more: int) -> None:
            nonlocal done
            done = min(done + more, total)
            self.pause(what, done, total)

        return Extraction(self.processes, pause).summaries(network, source, wanted, total)

    def _on_rank_0(self, work: Callable[[Callable[[], None]], dict[str, float]]) -> dict[str, float]:
        """Work of one process, while all others wait without seeming to hang, and all answer signals."""
        over, ended = threading.Event(), threading.Event()
        found: dict[str, float] = {}
        failure = ""

        def tick() -> None:
            if over.is_set():
                raise InterruptedError

        def compute() -> None:
            nonlocal failure
            torch.set_num_threads(1)  # sums depend on it, and these are to be the same everywhere
            try:
                with torch.inference_mode():
                    found.update(work(tick))
            except Exception as error:
                failure = _place_of(error)
            finally:
                ended.set()

        threads = torch.get_num_threads()
        thread = threading.Thread(target=compute, name="metric", daemon=True)
        if self.processes.is_first:
            thread.start()
        try:
            done = False
            while not done:
                if self.processes.is_first:
                    ended.wait(WAIT_SECONDS)
                with purpose("evaluation"):
                    flag = torch.tensor([int(ended.is_set())], device=self.processes.device)
                    done = bool(self.processes.max(flag).item())
                if not done:
                    self.pause("", 0, 0)
        finally:
            over.set()
            if self.processes.is_first:
                thread.join(PATIENCE_SECONDS)  # in the middle of a large matrix it does not notice
                torch.set_num_threads(threads)
        if failure := self.processes.broadcast(failure):
            raise EvaluationFailed(failure)
        return found


def _computed(
    metric: Metric, fakes: Summary, reals: Summary, look: Look | None, tick: Callable[[], None]
) -> dict[str, float]:
    try:
        values = metric.compute(fakes, reals, tick)
        if look is not None:
            look(metric, fakes, reals)
    except Exception as error:
        error.add_note(metric.label)
        raise
    return values


def _place_of(error: Exception) -> str:
    """What failed, and where."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    what = "".join(f"{note}: " for note in getattr(error, "__notes__", ()))
    return f"{what}{type(error).__name__}: {error} ({frame.filename}, line {frame.lineno})"
