"""Several metrics at once: each image is made once and seen once by each feature network, on all processes."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dist_gan.data.source import Dataset
from dist_gan.distributed.processes import Processes
from dist_gan.distributed.traffic import purpose
from dist_gan.errors import ConfigError
from dist_gan.metrics.extract import Extraction, Images, Source
from dist_gan.metrics.features import FeatureNetwork, Features
from dist_gan.metrics.metric import Metric, Need, Summary
from dist_gan.metrics.protocol import Protocol
from dist_gan.metrics.reference import Cache, RealOrder
from dist_gan.networks.base import Generator
from dist_gan.randomness import Purpose, draw, normal
from dist_gan.sampling.generate import chunks

WAIT_SECONDS = 1.0
"""While rank 0 computes, all processes agree this often on whether to go on."""
Pause = Callable[[str, int, int], None]
"""(what is being done, how far, of how much): called by all ranks after the same parts of the work. It may raise on all
alike, which ends the work."""


class Fakes:
    """The images of a generator that are judged: fake `i` comes from latent `i` of a purpose of its own; a conditional
    one has the class of real `i`, so that classes are as frequent as in the data."""

    def __init__(self, generator: Generator, seed: int, reals: RealOrder | None) -> None:
        """`generator` in eval mode; `reals`: of the data, where it is conditional."""
        self.generator = generator
        self.seed = seed
        self.reals = reals

    def source(self, ranges: Iterable[range]) -> Iterator[Images]:
        """See `dist_gan.metrics.extract`."""
        for ordinals in ranges:
            yield partial(self._made, ordinals)

    def _made(self, ordinals: range) -> tuple[Tensor, Tensor]:
        weight = next(self.generator.parameters())
        bits = draw(self.seed, {Purpose.EVALUATION: self.generator.latent}, ordinals, weight.device)
        labels = torch.empty(0, dtype=torch.int64)
        if self.generator.classes:
            assert self.reals is not None, "a conditional generator is given classes"
            labels = self.reals.labels_of(ordinals).cpu()
        latents = normal(bits[Purpose.EVALUATION], weight.dtype)
        return torch.cat(list(chunks(self.generator, latents, labels if self.generator.classes else None))), labels


@dataclass(frozen=True)
class Reals:
    """Real images, and what a number's name says of them."""

    dataset: Dataset
    split: str

    @property
    def data(self) -> str:
        """The first 8 digits of the fingerprint."""
        return self.dataset.fingerprint[:8]


@dataclass(frozen=True)
class _Task:
    """A metric with everything that it needs."""

    metric: Metric
    network: FeatureNetwork
    features: Features
    reals: Reals | None
    of_reals: int
    needs: tuple[set[Need], set[Need]]
    weights: str

    @property
    def protocol(self) -> Protocol:
        own, there = self.features, self.reals
        return Protocol(
            str(getattr(own, "name", type(own).__name__)),
            self.network.sha256[:8],
            own.resizing,
            self.metric.images,
            self.weights,
            *((self.of_reals, there.split, there.data) if there and self.of_reals else (0, "", "")),
            options=self.metric.options,
        )

    @property
    def protocol_of_reals(self) -> dict[str, Any]:
        """What is known of reals depends on this, and on what was needed."""
        assert self.reals is not None
        return {
            "features": self.features.identity(),
            "sha256": self.network.sha256,
            "resizing": self.features.resizing,
            "reals": self.of_reals,
            "data": self.reals.dataset.fingerprint,
            "shape": list(self.reals.dataset.shape),
        }

    @property
    def name_of_reals(self) -> str:
        """Equal for tasks that need to know the same of the same reals."""
        return f"{self.protocol_of_reals} {sorted(self.needs[1])}" if self.of_reals else ""


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

        Raises:
            ConfigError: a metric cannot be computed of these features, or of this many images.
        """
        self.processes = processes
        self.pause = pause
        self.cache = cache
        self._orders: dict[int, RealOrder] = {}
        self._known: dict[str, Summary] = {}
        self.tasks = []
        for metric in metrics:
            features: Features = metric.features  # type: ignore[attr-defined]  # every member has the field
            if network := networks.get(features):
                reals = reals_of(metric.split)
                count = metric.reals_of(len(reals.dataset))
                needs = metric.needs(network, metric.images, count)
                if "labels" in needs[0] and len(network.classes) != (there := len(reals.dataset.classes)):
                    raise ConfigError(
                        f"{metric.label}: features={metric.features_name} knows {len(network.classes):,} classes, and "
                        f"the data has {there:,}. Choose a classifier of the data's own classes"
                    )
                self.tasks.append(_Task(metric, network, features, reals, count, needs, weights or metric.weights))

    def unwise(self) -> list[str]:
        """What works, but is most likely not what was meant."""
        return [line for t in self.tasks for line in t.metric.unwise(t.network, t.metric.images, t.of_reals)]

    def names(self) -> dict[str, tuple[str, bool]]:
        """The full name of every number -> (its short name, whether higher is better)."""
        return {
            task.protocol.key(value): (value, higher)
            for task in self.tasks
            for value, higher in task.metric.values.items()
        }

    def weights(self) -> list[str]:
        """Which weights of G its metrics judge."""
        return list(dict.fromkeys(task.weights for task in self.tasks))

    def order_of(self, reals: Reals) -> RealOrder:
        """The fixed order of these reals."""
        return self._orders.setdefault(id(reals.dataset), RealOrder(reals.dataset))

    def run(self, sources: Mapping[str, Source]) -> dict[str, float]:
        """All numbers by their full names, on rank 0; others get none.

        Args:
            sources: where the fakes of each kind of weights come from (`ema`, `newest`).
        """
        found: dict[str, float] = {}
        for network in dict.fromkeys(task.network for task in self.tasks):
            tasks = [task for task in self.tasks if task.network is network]
            fakes = {
                weights: self._fakes(network, [t for t in tasks if t.weights == weights], sources[weights])
                for weights in dict.fromkeys(task.weights for task in tasks)
            }
            self._measure_reals(network, tasks)
            for task in tasks:
                own = fakes[task.weights][task.metric.images]
                counts = task.reals.dataset.class_counts() if task.reals else None
                reals = replace(self._known.get(task.name_of_reals, Summary(0)), class_counts=counts)
                values = self._on_rank_0(partial(task.metric.compute, own, reals))
                found |= {task.protocol.key(value): number for value, number in values.items()}
        return found

    def _fakes(self, network: FeatureNetwork, tasks: Sequence[_Task], source: Source) -> dict[int, Summary]:
        wanted: dict[int, set[Need]] = {}
        for task in tasks:
            wanted.setdefault(task.metric.images, set()).update(task.needs[0])
        return self._summaries("judging images", network, source, wanted)

    def _measure_reals(self, network: FeatureNetwork, tasks: Sequence[_Task]) -> None:
        """What the tasks need to know of reals and is not known yet: cached, or in one pass over each data set."""
        needed = {task.name_of_reals: task for task in tasks if task.of_reals and task.needs[1]}
        missing = {name: task for name, task in needed.items() if name not in self._known}
        if self.processes.is_first:
            cached = {n: self.cache.load(t.protocol_of_reals, t.of_reals, t.needs[1]) for n, t in missing.items()}
            self._known |= {name: summary for name, summary in cached.items() if summary is not None}
        for name in self.processes.broadcast([name for name in missing if name in self._known]):
            self._known.setdefault(name, Summary(missing.pop(name).of_reals))
        for dataset in dict.fromkeys(t.reals.dataset for t in missing.values() if t.reals):
            here = {name: t for name, t in missing.items() if t.reals and t.reals.dataset is dataset}
            wanted: dict[int, set[Need]] = {}
            for task in here.values():
                wanted.setdefault(task.of_reals, set()).update(task.needs[1])
            source = self._orders.setdefault(id(dataset), RealOrder(dataset)).source
            measured = self._summaries("measuring real images", network, source, wanted)
            for name, task in here.items():
                self._known[name] = measured[task.of_reals].only(task.needs[1])
                if self.processes.is_first:
                    self.cache.store(task.protocol_of_reals, task.needs[1], self._known[name])

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
        failure: list[Exception] = []

        def tick() -> None:
            if over.is_set():
                raise InterruptedError

        def compute() -> None:
            torch.set_num_threads(1)  # sums depend on it, and these are to be the same everywhere
            try:
                with torch.inference_mode():
                    found.update(work(tick))
            except Exception as error:
                failure.append(error)
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
                self.pause("", 0, 0)
        finally:
            over.set()
            if self.processes.is_first:
                thread.join()
                torch.set_num_threads(threads)
        if failure:
            raise failure[0]
        return found
