"""What an all-reduce costs: the alpha-beta model of a ring, between nodes and inside them, as gloo and NCCL do it."""

import math
import re
from dataclasses import dataclass

from dist_gan.errors import ConfigError

BITS = {"kbit": 1e3, "mbit": 1e6, "gbit": 1e9, "tbit": 1e12}
SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}
SLOWEST, FASTEST = 1e3, 1e15
"""Bits per second that a network may have."""
LONGEST = 10
"""Seconds that its latency may take."""
GLOO_SEGMENT = 2**20
"""Bytes of the largest message of gloo's ring (kMaxSegmentSize in pytorch/gloo, gloo/allreduce.h)."""
NCCL_BASE = 8.4e-6
NCCL_STEPS = {"nvlink": 3.4e-6, "pcie": 5.7e-6, "network": 14e-6}
NCCL_TREE_STEP = 4.0e-6
"""Seconds of a call; of a step of a ring over each kind of link (of a tree too, over the network); and of a tree's step
inside a node. These and the constants below are those of NVIDIA/nccl 2.30, src/graph/tuning.cc, for the protocol
Simple: by them NCCL chooses between rings and trees."""
NCCL_PLATEAU = 1.4
"""By how much the steps of a ring over several nodes take longer than that, since the A100 ("plateau effect")."""
NCCL_TREE = 0.92
"""The part of a link's bandwidth that trees reach."""
NCCL_TREE_BY_SIZE = (
    *(0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.8, 0.7, 0.6, 0.6, 0.5),
    *(0.5, 0.5, 0.5, 0.6, 0.7, 0.8, 0.7, 0.7, 0.8, 0.9, 0.9),
)
"""And what part of that with 64 bytes, 128, 256, ...; with more than these are for, all of it."""


@dataclass(frozen=True)
class Link:
    """The alpha and beta of messages: a message of B bytes takes `latency + B / bandwidth` seconds."""

    bandwidth: float
    """Bytes per second in one direction."""
    latency: float
    """Seconds in one direction."""


def bandwidth_of(text: str) -> float:
    """`400gbit` -> bytes per second. Raises ConfigError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kmgt]bit)", text.strip().lower())
    bits = float(found[1]) * BITS[found[2]] if found else 0.0
    if not SLOWEST <= bits <= FASTEST:
        raise ConfigError(
            "network: expected the bits per second of a node, such as network=400gbit or network=100mbit (1kbit to "
            f"1000tbit), got {text[:40]!r}"
        )
    return bits / 8


def seconds_of(key: str, text: str) -> float:
    """`5us` -> seconds. Raises ConfigError, with the key."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ns|us|ms|s)", text.strip().lower())
    seconds = float(found[1]) * SECONDS[found[2]] if found else math.inf
    if seconds > LONGEST:
        raise ConfigError(
            f"{key}: expected a time with its unit, such as {key}=5us or {key}=0.1ms, of {LONGEST} s at most, got "
            f"{text[:40]!r}"
        )
    return seconds


@dataclass(frozen=True)
class Host:
    """What an all-reduce costs the processors of a machine, whatever the link: copies, sums, calls of the system.

    Measured between two processes of one machine (`dist_gan.planning.measuring.host`); zero for NCCL, whose copies are
    the GPUs' work.
    """

    per_step: float = 0.0
    """Seconds of a step of the ring with hardly a byte: threads are woken, and the system is called."""
    per_byte: float = 0.0
    """Seconds for each byte that a process sends."""


@dataclass(frozen=True)
class World:
    """The processes and the links between them."""

    nodes: int
    per_node: int
    """Processes on a node."""
    network: Link
    """Of a node to the others: all its adapters together."""
    inside: Link
    """Of a process to the next on its node."""
    backend: str
    """gloo or nccl."""
    host: Host = Host()
    shared: float = 1.0
    """How many processes want each core of a node, and at least 1: the work of `host` takes that many times as long."""
    busy: bool = False
    """Whether the processes' own threads want all cores of a node, so that the work of `host` is never hidden."""

    @property
    def count(self) -> int:
        """All processes."""
        return self.nodes * self.per_node

    def wire_bytes(self, size: float) -> float:
        """What each process sends in an all-reduce of `size` bytes."""
        return 2 * (self.count - 1) / self.count * size

    def steps(self, size: float) -> int:
        """Of gloo's ring, for `size` bytes.

        Each of n parts is cut into segments, at least two, of 1 MiB at most; a tensor of fewer numbers than segments is
        one message. Two segments are on their way at a time, but the sender of each waits for the receiver's word that
        it is ready. So each pair costs two latencies: as many as segments.
        """
        segments = max(2, math.ceil(size / self.count / GLOO_SEGMENT)) if size >= 8 * self.count else 1
        return 2 * (self.count - 1) * segments

    def host_seconds(self, size: float) -> float:
        """What an all-reduce of `size` bytes costs the processors."""
        if self.count == 1:
            return 0.0
        return self.shared * (self.steps(size) * self.host.per_step + self.wire_bytes(size) * self.host.per_byte)

    def all_reduce(self, size: float) -> float:
        """Seconds of an all-reduce of `size` bytes that nothing else overlaps with; 0 with one process."""
        if self.count == 1:
            return 0.0
        return self._gloo(size) if self.backend == "gloo" else self._nccl(size)

    def _gloo(self, size: float) -> float:
        """One ring through all processes, in which none is ahead of the slowest link."""
        slowest = self.network if self.nodes > 1 else self.inside
        waits = self.steps(size) * slowest.latency
        return waits + max(self.wire_bytes(size) / slowest.bandwidth, self.host_seconds(size))

    def _nccl(self, size: float) -> float:
        """The faster of a ring through all processes and of trees: NCCL's own model of both.

        Bandwidths are those of the data sheets and of the network, and bytes inside a node pass while others are
        between nodes. Without NVLS, and without the protocols for few bytes.
        """
        between = 2 * (self.nodes - 1)
        ring = NCCL_BASE + (2 * (self.count - 1) - between) * self.inside.latency + between * self.network.latency
        tree = NCCL_BASE + 2 * (self.per_node - 1) * NCCL_TREE_STEP
        tree += 2 * math.floor(math.log2(self.nodes)) * self.network.latency
        bandwidth = self.inside.bandwidth
        if self.nodes > 1:
            ring *= NCCL_PLATEAU
            bandwidth = self.network.bandwidth if self.per_node == 1 else min(bandwidth, self.network.bandwidth)
        doublings = int(size / 64).bit_length() - 1
        reached = NCCL_TREE * (NCCL_TREE_BY_SIZE[doublings] if 0 <= doublings < len(NCCL_TREE_BY_SIZE) else 1.0)
        return min(ring + self.wire_bytes(size) / bandwidth, tree + 2 * size / (reached * bandwidth))
