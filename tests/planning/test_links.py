"""The cost of an all-reduce: known answers, and what of it a backward hides."""

import json
import sys
from pathlib import Path

import pytest

from dist_gan.errors import ConfigError
from dist_gan.planning.buckets import Bucket, buckets_of, exposed
from dist_gan.planning.counting import Arrival
from dist_gan.planning.links import NCCL_BASE, Host, Link, World, bandwidth_of, seconds_of
from tests.support.children import finished
from tests.support.commands import ROOT

MIB = 2**20
FREE = Link(float("inf"), 0.0)


def gloo(nodes: int, per_node: int = 1, *, bandwidth: float = 125e6, latency: float = 0.01, **more: object) -> World:
    return World(nodes, per_node, Link(bandwidth, latency), FREE, "gloo", **more)


def test_one_process_sends_nothing() -> None:
    alone = gloo(1, host=Host(1.0, 1.0))
    assert (alone.all_reduce(MIB), alone.wire_bytes(MIB), alone.host_seconds(MIB)) == (0, 0, 0)


def test_a_ring_between_two_hosts() -> None:
    """Each sends as much as there is; of two segments for each process, each step costs a latency."""
    assert gloo(2).all_reduce(1e6) == pytest.approx(4 * 0.01 + 1e6 / 125e6)
    assert gloo(2).all_reduce(4) == pytest.approx(2 * 0.01, rel=1e-4), "one number is one message"
    assert gloo(2).all_reduce(32 * MIB) == pytest.approx(32 * 0.01 + 32 * MIB / 125e6), "segments of 1 MiB at most"


def test_a_ring_of_more_processes_sends_nearly_twice_as_much_in_more_steps() -> None:
    assert gloo(4).wire_bytes(1e6) == pytest.approx(1.5e6)
    assert gloo(4).all_reduce(1e6) == pytest.approx(2 * 3 * 2 * 0.01 + 1.5e6 / 125e6)
    assert gloo(2, 2).all_reduce(1e6) == gloo(4).all_reduce(1e6), "no process is ahead of the slowest link"
    assert gloo(1, 4).all_reduce(1e6) == 0.0


def test_processors_may_be_slower_than_the_wire() -> None:
    work = Host(1e-3, 1e-8)
    slow = gloo(2, host=work, bandwidth=1e9, latency=0.0)
    assert slow.all_reduce(1e6) == pytest.approx(4 * 1e-3 + 1e-8 * 1e6)
    assert gloo(2, host=work, bandwidth=1e9, latency=0.0, shared=2.0).all_reduce(1e6) == pytest.approx(0.028)
    assert gloo(2, host=work, bandwidth=1e7, latency=0.0).all_reduce(1e6) == pytest.approx(0.1)


def test_nccl_takes_the_faster_of_a_ring_and_trees() -> None:
    """By hand from tuning.cc. Of eight nodes of eight, 14 of the ring's 126 steps are between nodes."""
    inside, network = Link(450e9, 3.4e-6), Link(50e9, 14e-6)
    one = World(1, 8, network, inside, "nccl")
    assert one.all_reduce(1e9) == pytest.approx(NCCL_BASE + 14 * 3.4e-6 + 14 / 8 * 1e9 / 450e9)
    many = World(8, 8, network, inside, "nccl")
    ring = 1.4 * (NCCL_BASE + 112 * 3.4e-6 + 14 * 14e-6)
    assert many.all_reduce(1e9) == pytest.approx(ring + 126 / 64 * 1e9 / 50e9), "what is inside goes on meanwhile"
    tree = NCCL_BASE + 2 * (7 * 4e-6 + 3 * 14e-6)
    assert many.all_reduce(8) == pytest.approx(tree, rel=1e-4)
    assert many.all_reduce(2**20) == pytest.approx(tree + 2 * 2**20 / (0.92 * 0.5 * 50e9)), "2^14 times 64 bytes"
    slow = World(2, 8, Link(1e12, 14e-6), inside, "nccl")
    assert slow.all_reduce(1e11) == pytest.approx(30 / 16 * 1e11 / 450e9, rel=0.01), "the links inside are slower"
    single = World(2, 1, network, Link(1e9, 0.0), "nccl")
    assert single.all_reduce(1e11) == pytest.approx(1e11 / 50e9, rel=0.01), "nothing passes inside a node"
    assert many.host_seconds(1e9) == 0.0


def test_what_is_behind_the_backward() -> None:
    world = gloo(2, latency=0.0)
    tenth = Bucket(12.5e6, 0.0)
    assert exposed([tenth], world) == pytest.approx(0.1), "the last bucket is never hidden"
    assert exposed([Bucket(12.5e6, 0.3), tenth], world) == pytest.approx(0.1), "0.1 s of 0.3 s"
    assert exposed([Bucket(12.5e6, 0.04), tenth], world) == pytest.approx(0.16), "one reduction after the other"
    busy = gloo(2, latency=0.0, host=Host(0.0, 8e-9), busy=True)
    assert exposed([Bucket(12.5e6, 0.3), tenth], busy) == pytest.approx(0.2), "no core is left for the first"
    assert exposed([], world) == 0.0


def test_buckets_are_closed_by_the_gradient_that_fills_them() -> None:
    arrivals = [Arrival(MIB // 8, 0.5), Arrival(MIB // 4, 0.4), Arrival(10, 0.2), Arrival(7, 0.0)]
    assert buckets_of(arrivals, 2.0, 4) == [Bucket(4 * (MIB // 8 + MIB // 4), 0.8), Bucket(68, 0.0)]
    assert buckets_of(arrivals, 2.0, 1)[0].size == MIB // 8 + MIB // 4, "compressed numbers fill the same buckets"


DDP = """
import json, sys, torch
from torch.nn.parallel import DistributedDataParallel
from dist_gan.distributed.traffic import Traffic
torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
network = torch.nn.Sequential(*(torch.nn.Linear(*n) for n in json.loads(sys.argv[1])))
wrapped = DistributedDataParallel(network, gradient_as_bucket_view=True)
for _ in range(3):
    noted, x = [], torch.zeros(1, 8)
    for p in network.parameters():
        p.grad = None
    handles = [p.register_post_accumulate_grad_hook(lambda p: noted.append(p.numel())) for p in network.parameters()]
    with Traffic() as traffic:
        wrapped(x).sum().backward()
    [handle.remove() for handle in handles]
print(json.dumps([noted, [c.elements for c in traffic.calls if c.operation.endswith("allreduce_")]]))
"""


@pytest.mark.slow
def test_the_buckets_are_those_of_ddp(tmp_path: Path) -> None:
    script = tmp_path / "ddp.py"
    script.write_text(DDP)
    sizes = [[8, 600], [600, 700], [700, 900], [900, 3000], [3000, 2500], [2500, 300], [300, 4]]
    done = finished([sys.executable, str(script), json.dumps(sizes)], cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    noted, reduced = json.loads(done.stdout)
    arrivals = [Arrival(numbers, 0.0) for numbers in noted]
    assert len(reduced) > 2
    assert [bucket.size / 4 for bucket in buckets_of(arrivals, 1.0, 4)] == reduced


def test_units() -> None:
    assert [bandwidth_of(text) for text in ("400gbit", "100Mbit", "2.5gbit")] == [50e9, 12.5e6, 312.5e6]
    assert [seconds_of("latency", text) for text in ("5us", "0.1ms", "0s")] == pytest.approx([5e-6, 1e-4, 0.0])


@pytest.mark.parametrize(
    "text", ["400", "400GB", "-1gbit", "0gbit", "fast", "", "0.0000001kbit", "1001tbit", f"{'9' * 400}gbit"]
)
def test_a_bandwidth_that_is_none(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^network: expected the bits per second of a node, such as network=400gbit"):
        bandwidth_of(text)


@pytest.mark.parametrize("text", ["5", "5 m", "-1us", "us", "", "11s", f"{'9' * 400}s"])
def test_a_latency_that_is_none(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^latency: expected a time with its unit, such as latency=5us"):
        seconds_of("latency", text)
