"""What stands behind `make metrics`: agreement with torch-fidelity and torchmetrics, the same bits on any number of
processes, and speed beside both.

    python benchmarks/judge.py [--images 640] [--processes 1,2,3,64] [--part agreement,processes,speed]
"""

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dist_gan.data import Generated
from dist_gan.data.source import Dataset
from dist_gan.distributed.processes import Processes
from dist_gan.metrics.classes import inception_score
from dist_gan.metrics.distances import FID, KID, MIND, DensityCoverage, PrecisionRecall
from dist_gan.metrics.evaluation import Evaluation
from dist_gan.metrics.features import FeatureNetwork, plain_float32
from dist_gan.metrics.frechet import frechet_distance, frechet_distance_of_few
from dist_gan.metrics.lite0 import EfficientNetLite0
from dist_gan.metrics.moments import moments
from dist_gan.metrics.opening import open_networks
from dist_gan.metrics.pairs import polynomial_mmd, precision_recall
from dist_gan.metrics.pixels import Pixels
from dist_gan.metrics.reference import Cache, RealOrder
from dist_gan.metrics.tasks import Reals

SIZES = ((1000, 1500, 64), (3000, 4000, 256), (4000, 4000, 1280), (300, 4000, 1280))
"""Fakes, reals, numbers of a feature vector."""
CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=640, help="of each set, for the speed")
    parser.add_argument("--processes", default="1,2,3")
    parser.add_argument("--part", default="agreement,processes,speed")
    parser.add_argument("--numbers", help="write the numbers of this process group there, and end")
    asked = parser.parse_args()
    if asked.numbers:
        write_numbers(Path(asked.numbers))
        return
    print(f"{hardware()}, torch {torch.__version__}\n")
    parts: dict[str, Callable[[], None]] = {
        "agreement": agreement,
        "processes": lambda: processes([int(n) for n in asked.processes.split(",")]),
        "speed": lambda: speed(asked.images),
    }
    for part in asked.part.split(","):
        parts[part]()
        print()


def hardware() -> str:
    """The processor, as it calls itself."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


def like_features(n: int, m: int, size: int) -> tuple[Tensor, Tensor]:
    """Two sets, float64 [n, F] and [m, F]: positive, with zeros, correlated, a little different."""
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(size, size, generator=generator, dtype=torch.float64) / size**0.5
    a, b = (torch.randn(k, size, generator=generator, dtype=torch.float64) @ mix for k in (n, m))
    return a.relu(), (1.1 * b + 0.1).relu()


def agreement() -> None:
    """The largest relative difference to each library, on the same float64 features."""
    from torch_fidelity import metric_fid, metric_isc, metric_kid, metric_prc
    from torchmetrics.image import fid, kid

    kernel = {"kid_kernel": "poly", "kid_kernel_poly_degree": 3}
    kernel |= {"kid_kernel_poly_gamma": None, "kid_kernel_poly_coef0": 1}
    print(
        "| metric | features | dist_gan | torch-fidelity differs by | torchmetrics differs by |\n|---|---|---|---|---|"
    )

    def row(metric: str, size: str, own: float, *others: float | None) -> None:
        shown = ("-" if o is None else f"{abs(own - o) / max(abs(o), 1e-12):.1e}" for o in others)
        print(f"| {metric} | {size} | {own:.6g} | {' | '.join(shown)} |", flush=True)

    for n, m, size in SIZES:
        a, b = like_features(n, m, size)
        label, x, y = f"{n:,} and {m:,} of {size:,}", moments(a), moments(b)
        few = n <= size
        own = frechet_distance_of_few(a, y) if few else frechet_distance(x, y)
        first = metric_fid.fid_statistics_to_metric(*map(metric_fid.fid_features_to_statistics, (a, b)), False)
        second = fid._compute_fid(x.mean, x.covariance, y.mean, y.covariance).item()
        row("FID, low rank" if few else "FID", label, own, *first.values(), second)
        k = min(n, m, 1000)
        theirs = float(metric_kid.kernel_mmd(a[:k].numpy(), b[:k].numpy(), **kernel))
        row(
            "KID of a subset",
            label,
            polynomial_mmd(a[:k], b[:k]),
            theirs,
            kid.poly_mmd(a[:k], b[:k], 3, None, 1).item(),
        )
        found = metric_prc.calculate_precision_recall_full(a, b, neighborhood=3)
        for name, mine, other in zip(("precision", "recall"), precision_recall(a, b), found, strict=True):
            row(name, label, mine, other, None)
        scores = metric_isc.isc_features_to_metric(a, splits=10, shuffle=False)
        row("Inception Score", label, inception_score(a)[0], next(iter(scores.values())), None)


def write_numbers(path: Path) -> None:
    """All metrics of made-up images, on all processes of this group."""
    group = Processes()
    sees: Any = Pixels(side=8)
    metrics = [
        FID(features=sees, images=600),
        FID(features=sees, images=100),
        KID(features=sees, images=300, subsets=10, subset_size=100),
        MIND(features=sees, images=500, projections=100),
        PrecisionRecall(features=sees, images=400),
        DensityCoverage(features=sees, images=400),
    ]
    source = Generated(size=32, count=600, channels=3)
    fakes, reals = Generated(size=24, count=600, channels=3).open(group.device), source.open(group.device)
    with tempfile.TemporaryDirectory() as folder:
        cache = Cache(print, Path(folder))
        known = Reals(reals, source)
        networks = open_networks((sees,), group)
        evaluation = Evaluation(metrics, lambda _: known, networks, group, lambda *_: None, cache)
        found = evaluation.run({"ema": RealOrder(fakes).source})
    if group.is_first:
        path.write_text(json.dumps({key: number.hex() for key, number in found.items()}))
    group.close()


def processes(counts: list[int]) -> None:
    """Whether the numbers are the same to the bit on each number of processes."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for count in counts:
            path = Path(folder) / f"{count}.json"
            launch = (
                ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count)] if count > 1 else []
            )
            env = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
            subprocess.run(
                [sys.executable, *launch[: 5 * (count > 1)], __file__, "--numbers", path], check=True, env=env, cwd=ROOT
            )
            found[count] = json.loads(path.read_text())
    first = found[counts[0]]
    print(f"| processes | numbers equal to those of {counts[0]}, bit for bit |\n|---|---|")
    for count, numbers in found.items():
        print(f"| {count} | {sum(numbers[key] == value for key, value in first.items())} of {len(first)} |")


def speed(count: int) -> None:
    """The Fréchet distance of the same images, seen by the same network: seconds, in turn, five times."""
    images = [
        Generated(size=32, count=count, channels=3).open(CPU),
        Generated(size=40, count=count, channels=3).open(CPU),
    ]
    network = EfficientNetLite0().open(CPU).eval()
    candidates = {"dist_gan": ours, "torch-fidelity": fidelitys, "torchmetrics": torchmetricses}
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    values = {}
    for _ in range(5):
        for name, candidate in candidates.items():
            begun = time.perf_counter()
            values[name] = candidate(images, network)
            seconds[name].append(time.perf_counter() - begun)
    print(
        f"FID of {count} images of 32x32 and {count} of 40x40, EfficientNet-Lite0, {torch.get_num_threads()} threads\n"
    )
    print("| | FID | seconds, median of 5 | dist_gan is faster by (median of ratios) |\n|---|---|---|---|")
    for name, own in seconds.items():
        ratio = statistics.median(other / mine for other, mine in zip(own, seconds["dist_gan"], strict=True))
        print(f"| {name} | {values[name]:.6g} | {statistics.median(own):.2f} | {ratio:.2f} |")


def ours(images: list[Dataset], network: FeatureNetwork) -> float:
    group = Processes()
    features = EfficientNetLite0()
    with tempfile.TemporaryDirectory() as folder:
        reals = Reals(images[1], Generated(size=40, count=len(images[1]), channels=3))
        metric = FID(features=features, images=len(images[0]))
        evaluation = Evaluation(
            [metric], lambda _: reals, {features: network}, group, lambda *_: None, Cache(print, Path(folder))
        )
        (value,) = evaluation.run({"ema": RealOrder(images[0]).source}).values()
    return value


def fidelitys(images: list[Dataset], network: FeatureNetwork) -> float:
    """Its own pipeline, with our network as its feature extractor."""
    import torch_fidelity
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase

    class Extractor(FeatureExtractorBase):
        def __init__(self, name: str, features_list: list[str], **_: Any) -> None:
            super().__init__(name, features_list)
            self.network = network

        def forward(self, batch: Tensor) -> tuple[Tensor]:
            with plain_float32(CPU):
                return (self.network(batch).features,)

        @staticmethod
        def get_provided_features_list() -> tuple[str]:
            return ("1280",)

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:  # noqa: ARG004  # its interface
            return "1280"

        @staticmethod
        def can_be_compiled() -> bool:
            return False

        @staticmethod
        def get_dummy_input_for_compile() -> Tensor:
            return torch.zeros(1, 3, 32, 32, dtype=torch.uint8)

    class Listed(torch.utils.data.Dataset[Tensor]):
        def __init__(self, images: Tensor) -> None:
            self.images = images

        def __len__(self) -> int:
            return len(self.images)

        def __getitem__(self, index: int) -> Tensor:
            return self.images[index]

    with contextlib.suppress(ValueError):  # in an earlier round
        torch_fidelity.register_feature_extractor("ours", Extractor)
    found = torch_fidelity.calculate_metrics(
        input1=Listed(images[0].images),  # type: ignore[attr-defined]
        input2=Listed(images[1].images),  # type: ignore[attr-defined]
        feature_extractor="ours",
        fid=True,
        cuda=False,
        verbose=False,
        cache=False,
        batch_size=16,
    )
    return float(found["frechet_inception_distance"])


def torchmetricses(images: list[Dataset], network: FeatureNetwork) -> float:
    """Its metric, with our network as its feature extractor."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    class Sees(torch.nn.Module):
        num_features = 1280

        def forward(self, batch: Tensor) -> Tensor:
            with plain_float32(CPU):
                return network(batch).features

    metric = FrechetInceptionDistance(feature=Sees(), normalize=False, input_img_size=(3, 32, 32))
    for half, real in zip(images, (False, True), strict=True):
        for batch in half.images.split(16):  # type: ignore[attr-defined]
            metric.update(batch, real=real)
    return float(metric.compute())


if __name__ == "__main__":
    main()
