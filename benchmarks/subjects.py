"""What bench.py compares: dist_gan as train.py sets it up, and how every candidate is made from the same weights."""

import copy
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from lightning_loop import LightningLoop, installed
from loops import LEARNING_RATE, Best, BestDDP, BestGraph, Candidate, Classic, Setup, Way, shuffled
from plain import Pair, build
from torch import Tensor, nn

from dist_gan.config.schema import Config
from dist_gan.data import MNIST, Dataset, Generated
from dist_gan.data.source import Resident
from dist_gan.distributed.processes import Processes
from dist_gan.game.cuda_graphs import CudaCapture
from dist_gan.game.game import Game
from dist_gan.game.speed import Capture, Repeated
from dist_gan.networks import DCGAN, MLP
from dist_gan.optim.optimizers import Adam
from dist_gan.randomness import Purpose, draw, normal
from dist_gan.run.build import game_of, stream_of
from dist_gan.shapes import DataShape

OURS, EAGER, STAND_IN, COMPILED, FREE, GROUPS, EXACT, BEST, BEST_GRAPH, CLASSIC, DDP, LIGHTNING = (
    "dist_gan",
    "dist_gan, eager",
    "dist_gan, stand-in for a graph",
    "dist_gan, compiled",
    "dist_gan, any kernels",
    "dist_gan, groups of 16",
    "dist_gan, exact",
    "best",
    "best, as a graph",
    "classic",
    "best + raw DDP",
    "lightning",
)
YARDSTICK = f"{CLASSIC} - {BEST}"
UPDATES_OF_GATE = 10


def config_of(kind: str, batch: int) -> Config:
    """What is trained; batch normalization's group is the whole batch, as in hand-written loops."""
    adam = Adam(learning_rate=LEARNING_RATE)
    shared: dict[str, Any] = {"batch_size": batch, "generator_optimizer": adam, "discriminator_optimizer": adam}
    if kind == "mlp":
        return Config(networks=MLP(), data=MNIST(size=28), **shared)
    data = MNIST(size=32) if kind == "dcgan32" else Generated(size=64, channels=3, count=4096)
    return Config(networks=DCGAN(group=batch), data=data, **shared)


class Ours:
    """dist_gan: Game and Stream, with the default meter and average."""

    def __init__(self, config: Config, processes: Processes, dataset: Dataset) -> None:
        self.game = game_of(config, processes, dataset)
        self.stream = stream_of(config, processes, dataset)
        self._batches = self.stream.batches(0)

    @property
    def pair(self) -> Pair:
        return Pair(self.game.generator.network, self.game.discriminator.network)

    @property
    def average(self) -> nn.Module:
        return self.game.average.network

    def run(self, updates: int) -> None:
        for _ in range(updates):
            self.game.update(self._batches)

    def close(self) -> None:
        """Nothing is held."""


@dataclass(frozen=True)
class Bench:
    """Makes candidates, all from the same weights."""

    config: Config
    processes: Processes
    dataset: Resident
    bf16: bool

    def ours(self, config: Config | None = None) -> Ours:
        return Ours(config or self.config, self.processes, self.dataset)

    def exact(self, config: Config) -> Ours:
        """With the threads and kernels of all the others: what microbatches and sums of integers cost."""
        processes = copy.copy(self.processes)
        processes.exact = True
        return Ours(config.model_copy(update={"exact": True}), processes, self.dataset)

    def stand_in(self) -> Ours:
        """What a graph would repeat, recorded on a CPU and repeated operator by operator: no speed to expect, but the
        whole way is gone."""
        ours = self.ours()
        ours.game.runner = Repeated(recorder(), self.processes, warnings.warn)
        return ours

    def other_way(self) -> Ours:
        """As graphs where the usual way is eager, and the other way round."""
        if self.processes.device.type == "cuda":
            return self.ours(self.config.model_copy(update={"speed": "eager"}))
        return self.stand_in()

    def best_graph(self, way: Way, given: "Given | None" = None) -> BestGraph:
        """On a CPU by the stand-in."""
        if self.processes.device.type != "cuda":
            return BestGraph(self._setup(given, channels_last=True), way, recorder())
        capture = CudaCapture(self.processes.device)
        best = BestGraph(self._setup(given, channels_last=True), way, capture)
        capture.optimizers = [best.optimizer_G, best.optimizer_D]
        return best

    def classic(self, given: "Given | None" = None) -> Classic:
        return Classic(self._setup(given, channels_last=False))

    def best(self, way: Way, given: "Given | None" = None) -> Best:
        return Best(self._setup(given, channels_last=True), way)

    def ddp(self, way: Way, given: "Given | None" = None) -> BestDDP:
        return BestDDP(self._setup(given, channels_last=True), way)

    def lightning(self, way: Way, given: "Given | None" = None) -> LightningLoop:
        return LightningLoop(self._setup(given, channels_last=True), way)

    def makers(self, way: Way, ddp_missing: str) -> tuple[dict[str, Callable[[], Candidate]], dict[str, str]]:
        """Candidates by name, and those that cannot be had here with the reason."""
        makers: dict[str, Callable[[], Candidate]] = {CLASSIC: self.classic, BEST: lambda: self.best(way)}
        missing = {}
        if ddp_missing:
            missing[DDP] = ddp_missing
        else:
            makers[DDP] = lambda: self.ddp(way)
        if installed():
            makers[LIGHTNING] = lambda: self.lightning(way)
        else:
            missing[LIGHTNING] = "the package lightning is not installed"
        makers[OURS] = self.ours
        eager, compiled = (self.config.model_copy(update={"speed": speed}) for speed in ("eager", "compile"))
        if self.processes.device.type == "cuda":
            makers[BEST_GRAPH] = lambda: self.best_graph(way)
            makers[EAGER] = lambda: self.ours(eager)
            makers[COMPILED] = lambda: self.ours(compiled)
            makers[FREE] = self.ours
        else:
            makers[STAND_IN] = self.stand_in
        recipe = self.config.networks
        small = self.config
        if isinstance(recipe, DCGAN):
            small = self.config.model_copy(update={"networks": recipe.model_copy(update={"group": 16})})
            makers[GROUPS] = lambda: self.ours(small)
        makers[EXACT] = lambda: self.exact(small)
        return makers, missing

    def _setup(self, given: "Given | None", *, channels_last: bool) -> Setup:
        networks = self.config.networks.build(DataShape(self.dataset.shape), self.config.seed)
        for network in networks:
            network.to(self.processes.device, self.processes.dtype)
        pair = build(self.config, self.dataset.shape, networks, channels_last=channels_last)
        batch, latent = self.config.batch_size, networks.generator.latent
        if given is not None:
            latents = iter(given.latents)
            return Setup(pair, iter(given.images), lambda: next(latents), batch, self.bf16)
        images = shuffled(self.dataset.images, batch, channels_last=channels_last)
        device = self.processes.device
        return Setup(pair, images, lambda: torch.randn(batch, latent, device=device), batch, self.bf16)


@dataclass(frozen=True)
class Given:
    """What the gate gives to the hand-written loops: real batches, and latents in the order of use."""

    images: list[Tensor]
    latents: list[Tensor]


def gate(bench: Bench, way: Way, ddp_missing: str) -> dict[str, dict[str, float]]:
    """The largest difference of a parameter between two candidates after a few updates, by their names and network.

    To be called with a configuration without dropout. Every hand-written candidate is compared to dist_gan, and, as a
    yardstick of what rounding does, the classic loop to the best one.
    """
    ours = bench.ours()
    given = _given(bench, ours)
    candidates: dict[str, Candidate] = {
        CLASSIC: bench.classic(given),
        BEST: bench.best(way, given),
        BEST_GRAPH: bench.best_graph(way, given),
        EAGER if bench.processes.device.type == "cuda" else STAND_IN: bench.other_way(),
    }
    if not ddp_missing:
        candidates[DDP] = bench.ddp(way, given)
    if installed():
        candidates[LIGHTNING] = bench.lightning(way, given)
    for candidate in (ours, *candidates.values()):
        candidate.run(UPDATES_OF_GATE)
        candidate.close()
    found = {f"{name} - {OURS}": _differences(candidate, ours) for name, candidate in candidates.items()}
    return found | {YARDSTICK: _differences(candidates[CLASSIC], candidates[BEST])}


def recorder() -> Capture:
    """The tests' stand-in for CUDA graphs."""
    if (root := str(Path(__file__).parent.parent)) not in sys.path:
        sys.path.insert(0, root)
    from tests.support.recorded import Recorded

    return Recorded()


def needs_of(game: Game) -> dict[Purpose, int]:
    """The random numbers of one update with one turn of D."""
    return {purpose: count for turn in game.turns.values() for purpose, count in turn.purposes.items()}


def _given(bench: Bench, ours: Ours) -> Given:
    needs, latent = needs_of(ours.game), ours.game.generator.network.latent
    batches = list(islice(ours.stream.batches(0), UPDATES_OF_GATE))
    latents = []
    for batch in batches:
        bits = draw(bench.config.seed, needs, batch.ordinals, bench.processes.device)
        for purpose in (Purpose.D_TURN_GENERATE, Purpose.G_TURN_GENERATE):
            latents.append(normal(bits[purpose][:, :latent], bench.processes.dtype))
    return Given([batch.images for batch in batches], latents)


@torch.no_grad()
def _differences(a: Candidate, b: Candidate) -> dict[str, float]:
    networks = {"G": [x.pair.generator for x in (a, b)], "D": [x.pair.discriminator for x in (a, b)]}
    networks["average"] = [a.average, b.average]
    return {
        name: max(float((p.cpu() - q.cpu()).abs().max()) for p, q in zip(x.parameters(), y.parameters(), strict=True))
        for name, (x, y) in networks.items()
    }
