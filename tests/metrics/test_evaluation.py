"""Metrics of a generator's images: the same bits on any number of processes and threads; statistics that are kept."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from dist_gan.data import Folder
from dist_gan.distributed.processes import Processes
from dist_gan.errors import ConfigError
from dist_gan.metrics.distances import FID, KID, MIND
from dist_gan.metrics.fakes import Fakes
from dist_gan.metrics.health_images import less_apart
from dist_gan.metrics.metric import Summary
from dist_gan.metrics.moments import moments
from dist_gan.metrics.protocol import Protocol, parsed
from dist_gan.metrics.reference import RealOrder
from dist_gan.metrics.symptoms import symptoms
from dist_gan.metrics.tasks import Reals
from dist_gan.sampling.pictures import save_image
from tests.support import judged

pytestmark = pytest.mark.usefixtures("own_statistics")


def test_the_numbers_are_those_of_all_images_at_once(double: Processes) -> None:
    """Whatever is cut into chunks and computed in threads."""
    from dist_gan.metrics.frechet import frechet_distance

    found = judged.numbers(double)
    network, order = judged.SEES.open(double.device), RealOrder(judged.DATA.open(double.device))
    fakes, labels = Fakes(judged.generator(double), 3, order)._made(range(100))
    reals = next(order.source([range(150)]))()[0]
    assert sorted(order.order(range(150)).tolist()) == list(range(150))
    assert torch.equal(labels, order.labels_of(range(100)))
    expected = frechet_distance(moments(network(fakes).features), moments(network(reals).features))
    key = next(key for key in found if key.startswith("fid/") and "/100-ema-vs-150" in key)
    assert found[key] == expected
    assert len(found) == 9
    assert all(torch.tensor(list(found.values())).isfinite())


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_the_same_bits_on_any_number_of_processes(count: int, double: Processes, ranks: Callable[..., Any]) -> None:
    assert ranks("evaluated", count) == judged.numbers(double)


def test_the_same_bits_on_any_number_of_threads(double: Processes) -> None:
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(judged.numbers(double))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1]


def test_reals_are_measured_once(double: Processes, own_statistics: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[range] = []
    source = RealOrder.source

    def noted(ranges: Iterable[range]) -> Iterator[range]:
        for each in ranges:
            read.append(each)
            yield each

    monkeypatch.setattr(RealOrder, "source", lambda self, ranges: source(self, noted(ranges)))
    first = judged.numbers(double)
    assert sum(map(len, read)) == 150  # one pass for all metrics
    read.clear()
    assert judged.numbers(double) == first
    assert not read

    warnings: list[str] = []
    files = sorted(own_statistics.glob("*.safetensors"))
    damaged = bytearray(files[0].read_bytes())
    damaged[-5] ^= 1
    files[0].write_bytes(damaged)
    files[1].write_bytes(b"no such file")
    assert judged.numbers(double, warn=warnings.append) == first
    assert len(warnings) == 2
    assert all("damaged" in line for line in warnings)
    assert sum(map(len, read)) == 150
    warnings.clear()
    assert judged.numbers(double, warn=warnings.append) == first
    assert not warnings


def test_a_pause_may_end_it_anywhere(double: Processes) -> None:
    """Whatever was under way has ended when it raises, and the next evaluation finds the same."""
    first = judged.numbers(double)

    class Stop(Exception):
        pass

    calls: list[str] = []

    def stop_at(last: int) -> Callable[[str, int, int], None]:
        def pause(what: str, done: int, total: int) -> None:
            calls.append(what)
            if len(calls) == last:
                raise Stop

        return pause

    judged.numbers(double, pause=stop_at(-1))
    every = len(calls)
    assert every > 3
    for last in range(1, every + 1, 3):
        calls.clear()
        with pytest.raises(Stop):
            judged.numbers(double, pause=stop_at(last))
    assert judged.numbers(double) == first


def test_it_may_end_while_rank_0_computes(double: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The work notices it at its next tick, and its thread is gone."""

    class Stop(Exception):
        pass

    def endless(fakes: Any, reals: Any, projections: int, tick: Callable[[], None]) -> float:
        while True:
            time.sleep(0.001)
            tick()

    def pause(what: str, done: int, total: int) -> None:
        if not what:
            raise Stop

    monkeypatch.setattr("dist_gan.metrics.distances.sliced_distance", endless)
    monkeypatch.setattr("dist_gan.metrics.evaluation.WAIT_SECONDS", 0.05)
    with pytest.raises(Stop):
        judged.numbers(double, metrics=[MIND(features=judged.SEES, images=50)], pause=pause)
    assert not [thread for thread in threading.enumerate() if thread.name == "metric"]


@pytest.mark.parametrize(
    ("metric", "says"),
    [
        (KID(features=judged.SEES, images=50), "evaluate kid: 50 images are too few: subset_size=1000"),
        (FID(features=judged.SEES, images=5, reals=1), "1 images are too few: a covariance needs at least 2"),
    ],
)
def test_too_few_images_are_refused_before_anything_is_made(metric: Any, says: str, double: Processes) -> None:
    with pytest.raises(ConfigError, match=says):
        judged.evaluation(double, [metric])


def test_a_number_of_few_images_is_called_biased(double: Processes) -> None:
    few, many = (judged.evaluation(double, [FID(features=judged.SEES, images=n)]).unwise() for n in (40, 60))
    assert "biased" in few[0]
    assert not many


def test_numbers_of_different_protocols_have_different_names(double: Processes) -> None:
    metrics = [
        FID(features=judged.SEES, images=50),
        FID(features=judged.SEES, images=51),
        FID(features=judged.SEES, images=50, reals=100),
        FID(features=judged.SEES, images=50, weights="newest"),
        FID(features={"name": "pixels", "side": 5}, images=50),
        *(KID(features=judged.SEES, images=50, subsets=n, subset_size=20) for n in (2, 3)),
    ]
    names = [set(judged.evaluation(double, [metric]).names()) for metric in metrics]
    assert sum(map(len, names)) == len(set.union(*names))
    for key in set.union(*names):
        value, protocol = parsed(key)  # type: ignore[misc]
        assert protocol.key(value) == key
    assert parsed("communication/gradients of D/bytes") is None
    assert parsed("D/loss") is None


def test_a_name_says_everything() -> None:
    protocol = Protocol("my.py:Mine", "0123abcd", "none", 10, "ema", 20, "test", "89abcdef", ",k=4")
    key = "precision,k=4/my.py:Mine-0123abcd-none/10-ema-vs-20-test-89abcdef"
    assert protocol.key("precision") == key
    assert parsed(key) == ("precision", protocol)
    assert protocol.text() == (
        "10 images of the average of G against 20 real ones (test, data 89abcdef); features my.py:Mine 0123abcd, k=4"
    )


def test_how_images_are_made_of_files_is_part_of_the_protocol(tmp_path: Path) -> None:
    """The same files, cut or stretched, give other pixels: neither a name nor a cached statistic is shared."""
    save_image(torch.arange(3 * 8 * 16, dtype=torch.uint8).view(3, 8, 16), tmp_path / "a.png")
    save_image(torch.zeros(3, 8, 16, dtype=torch.uint8), tmp_path / "b.png")
    sources = [Folder(path=str(tmp_path), size=8, fit=fit) for fit in ("crop", "stretch")]  # type: ignore[arg-type]
    sources.append(Folder(path=str(tmp_path), size=16))
    found = [Reals(source.open(torch.device("cpu")), source) for source in sources]
    assert found[0].dataset.fingerprint == found[1].dataset.fingerprint
    assert len({reals.data for reals in found}) == 3
    again = Folder(path=str(tmp_path), size=8, workers=0, flip=True)
    assert Reals(again.open(torch.device("cpu")), again).data == found[0].data


def test_fakes_that_are_all_alike() -> None:
    """The sum of their variances may be a little below 0."""
    assert less_apart(-1e-16, 1.0) is not None
    features = torch.full((100, 5), 0.1) + torch.zeros(100, 5)
    summary = Summary(100, moments(features))
    assert [finding.kind for finding in symptoms(summary, Summary(100, moments(torch.randn(100, 5))))] == [
        "low_diversity"
    ]
