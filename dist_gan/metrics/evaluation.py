"""Several metrics at once: each image is made once and seen once by each feature network, on all processes."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from dist_gan.data.source import Dataset
from dist_gan.distributed.processes import Processes
from dist_gan.distributed.traffic import purpose
from dist_gan.errors import FeaturesMissing
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
            for task in tasks:
                own = fakes[task.weights][task.metric.images]
                reals = self._reals(task)
                values = self._on_rank_0(partial(task.metric.compute, own, reals))
                found |= {task.protocol.key(value): number for value, number in values.items()}
        return found

    def _fakes(self, network: FeatureNetwork, tasks: Sequence[_Task], source: Source) -> dict[int, Summary]:
        wanted: dict[int, set[Need]] = {}
        for task in tasks:
            wanted.setdefault(task.metric.images, set()).update(task.needs[0])
        return self._summaries("judging images", network, source, wanted)

    def _reals(self, task: _Task) -> Summary:
        if not task.of_reals:
            return Summary(0)
        assert task.reals is not None
        protocol = {
            "features": task.features.identity(),
            "sha256": task.network.sha256,
            "resizing": task.features.resizing,
            "reals": task.of_reals,
            "data": task.reals.dataset.fingerprint,
            "shape": list(task.reals.dataset.shape),
        }
        name = f"{protocol} {sorted(task.needs[1])}"
        known = self._known.get(name)
        if known is None and self.processes.is_first:
            known = self.cache.load(protocol, task.of_reals, task.needs[1])
        if self.processes.broadcast(known is not None):
            found = known or Summary(task.of_reals)
        else:
            source = self.order_of(task.reals).source
            wanted = {task.of_reals: task.needs[1]}
            found = self._summaries("measuring real images", task.network, source, wanted)[task.of_reals]
            if self.processes.is_first:
                self.cache.store(protocol, task.needs[1], found)
        self._known[name] = found
        return found

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


def open_networks(
    wanted: Iterable[Features], processes: Processes, missing: Callable[[str], None] | None = None
) -> dict[Features, FeatureNetwork]:
    """The networks of `wanted`, in eval mode on this process's device; on all ranks with the weights of rank 0.

    Rank 0 opens each first: what it downloads or trains is there for the others.

    Args:
        wanted: the same on all ranks.
        processes: this process among the others.
        missing: called with the message where there are no weights on some rank, and the network is left out on all;
            None: that is an error.

    Raises:
        FeaturesMissing, ConfigError: on all ranks alike.
    """
    found: dict[Features, FeatureNetwork] = {}
    for features in dict.fromkeys(wanted):
        try:
            first = processes.on_all_ranks(partial(features.open, processes.device) if processes.is_first else _nothing)
            network = processes.on_all_ranks(partial(_opened, features, processes, first))
        except FeaturesMissing as error:
            if missing is None:
                raise
            missing(str(error))
            continue
        found[features] = _alike(network, processes).requires_grad_(False).eval()
    return found


def _nothing() -> None:
    pass


def _opened(features: Features, processes: Processes, already: FeatureNetwork | None) -> FeatureNetwork:
    return already or features.open(processes.device)


def _alike(network: FeatureNetwork, processes: Processes) -> FeatureNetwork:
    """With rank 0's weights, where others have some of their own: a network that was trained on another kind of CPU."""
    digests = processes.gather(network.sha256)
    if len(set(digests)) > 1:
        state = {name: tensor.cpu() for name, tensor in network.state_dict().items()}
        network.load_state_dict(processes.broadcast(state))
        network.sha256 = digests[0]
    return network
