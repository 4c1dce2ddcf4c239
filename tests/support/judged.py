"""A small evaluation for tests: a conditional generator, discs, pixels as features."""

from collections.abc import Sequence
from typing import Any

from dist_gan.data import Generated
from dist_gan.distributed.processes import Processes
from dist_gan.metrics.distances import FID, KID, MIND, DensityCoverage, PrecisionRecall
from dist_gan.metrics.evaluation import Evaluation, Pause
from dist_gan.metrics.fakes import Fakes
from dist_gan.metrics.metric import Metric
from dist_gan.metrics.opening import open_networks
from dist_gan.metrics.pixels import Pixels
from dist_gan.metrics.reference import Cache
from dist_gan.metrics.tasks import Reals
from dist_gan.networks import MLP, Generator
from tests.support import tiny

DATA = Generated(size=8, count=150, channels=3)
SEES: Any = Pixels(side=4)  # 48 numbers
METRICS: tuple[Metric, ...] = (
    FID(features=SEES, images=100),
    FID(features=SEES, images=30, reals=70),  # fewer than numbers
    KID(features=SEES, images=70, subsets=3, subset_size=20),
    MIND(features=SEES, images=90, projections=10),
    PrecisionRecall(features=SEES, images=100),
    DensityCoverage(features=SEES, images=100),
)


def generator(processes: Processes) -> Generator:
    networks = MLP(latent=6, width=4, dropout=0, conditional=True).build(tiny.shape_of(DATA, conditional=True), 3)
    return networks.generator.to(processes.device, processes.dtype).eval()


def nothing(what: str, done: int, total: int) -> None:
    pass


def evaluation(
    processes: Processes, metrics: Sequence[Metric] = METRICS, pause: Pause = nothing, warn: Any = print
) -> Evaluation:
    reals = Reals(DATA.open(processes.device), DATA)
    networks = open_networks((metric.features for metric in metrics), processes)  # type: ignore[attr-defined]
    return Evaluation(metrics, lambda split: reals, networks, processes, pause, Cache(warn))


def numbers(processes: Processes, **options: Any) -> dict[str, float]:
    found = evaluation(processes, **options)
    fakes = Fakes(generator(processes), 3, found.order_of(found.tasks[0].reals.reals))
    return found.run({"ema": fakes.source})
