"""What of the reductions is not hidden behind the backward: DDP reduces a bucket of gradients as soon as it is full."""

from collections.abc import Sequence
from typing import NamedTuple

from dist_gan.planning.counting import Arrival
from dist_gan.planning.links import World

FIRST, LATER = 2**20, 25 * 2**20
"""Bytes from which a bucket is full: DDP's defaults (torch.distributed._DEFAULT_FIRST_BUCKET_BYTES, bucket_cap_mb)."""


class Bucket(NamedTuple):
    """Gradients that are reduced together."""

    size: float
    """Bytes on the wire."""
    left: float
    """Seconds of the backward that are left when it is full."""


def buckets_of(arrivals: Sequence[Arrival], seconds: float, number_bytes: float, kept_bytes: float = 4) -> list[Bucket]:
    """DDP's buckets: in the order in which gradients arrive, each closed by the gradient that fills it.

    Args:
        arrivals: of one player's turn.
        seconds: of the whole update, whose parts `Arrival.left` are.
        number_bytes: what a gradient's number takes on the wire.
        kept_bytes: what it takes in memory, by which DDP measures its buckets.
    """
    found: list[Bucket] = []
    numbers = 0
    for place, arrival in enumerate(arrivals):
        numbers += arrival.numbers
        if numbers * kept_bytes >= (LATER if found else FIRST) or place == len(arrivals) - 1:
            found.append(Bucket(numbers * number_bytes, arrival.left * seconds))
            numbers = 0
    return found


def exposed(buckets: Sequence[Bucket], world: World) -> float:
    """Seconds from the end of the backward to the end of the last reduction.

    One reduction after the other, each begins when its bucket is full. What they cost the processors is never hidden
    where the processes want all cores of their node.
    """
    end = -max((bucket.left for bucket in buckets), default=0.0)
    for bucket in buckets:
        end = max(end, -bucket.left) + world.all_reduce(bucket.size)
    work = sum(world.host_seconds(bucket.size) for bucket in buckets) if world.busy else 0.0
    return max(0.0, end, work)
