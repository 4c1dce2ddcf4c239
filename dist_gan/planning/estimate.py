"""A prediction: one process's update, and what reductions add to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dist_gan.config.schema import Config
from dist_gan.game.turn import Mover
from dist_gan.planning.buckets import buckets_of, exposed
from dist_gan.planning.counting import Arrival
from dist_gan.planning.devices import MIXED
from dist_gan.planning.links import World


@dataclass(frozen=True)
class Prediction:
    """What an update of all processes is expected to take."""

    alone: float
    """Seconds of one process's update without the others."""
    exposed: float
    """Seconds that the reductions add to it."""
    reductions: float
    """Seconds that the reductions take, whether hidden behind a backward or not."""
    wire_bytes: float
    """What each process sends in an update."""
    images: int
    """That D sees in an update, over all processes."""

    @property
    def seconds(self) -> float:
        """Of an update."""
        return self.alone + self.exposed

    @property
    def images_per_second(self) -> float:
        """Over all processes."""
        return self.images / self.seconds

    @property
    def wire_share(self) -> float:
        """The part of an update in which only reductions go on: 0 to 1."""
        return self.exposed / self.seconds

    @property
    def efficiency(self) -> float:
        """The speed as a part of what as many processes would reach without reductions: 0 to 1."""
        return self.alone / self.seconds


def number_bytes(config: Config) -> float:
    """What a gradient's number takes on the wire. Exact runs send integers of 64 bits."""
    if config.exact or config.precision == "fp64":
        return 8.0
    return 2.0 if config.wire == "bf16" else 4.0


def reduced_at_once(config: Config, *, repeated: bool) -> bool:
    """Whether a turn's gradients are reduced in one piece after its backward. `repeated`: as graphs, or compiled."""
    return repeated or config.exact or config.wire == "bf16"


def predicted(
    config: Config,
    world: World,
    alone: float,
    arrivals: Mapping[Mover, Sequence[Arrival]],
    moves: Mapping[Mover, float],
    *,
    wire: float,
    at_once: bool,
) -> Prediction:
    """What an update takes in a world.

    Args:
        config: whose update it is.
        world: processes and links.
        alone: seconds of one process's update, of its part of the batch.
        arrivals: of the gradients of each player, as parts of that update.
        moves: how often each player's gradients are reduced in an update.
        wire: bytes of a gradient's number on the wire (`number_bytes`).
        at_once: whether nothing of the reductions is hidden (`reduced_at_once`).
    """
    kept = 8.0 if config.precision == "fp64" else 4.0
    added = reductions = sent = 0.0
    for name, seen in arrivals.items():
        if world.count == 1:
            continue
        numbers = sum(arrival.numbers for arrival in seen)
        if at_once:
            maximum = world.all_reduce(8) if config.exact else 0.0  # by which an exact sum scales
            taken = waits = maximum + world.all_reduce(wire * numbers)
        else:
            buckets = buckets_of(seen, alone, wire, kept)
            taken = sum(world.all_reduce(bucket.size) for bucket in buckets)
            waits = exposed(buckets, world)
        if config.shard:  # then all send each other the weights that they have moved: half of an all-reduce
            gathered = world.all_reduce(kept * numbers) / 2
            taken, waits = taken + gathered, waits + gathered
            sent += moves[name] * world.wire_bytes(kept * numbers) / 2
        added += moves[name] * waits
        reductions += moves[name] * taken
        sent += moves[name] * world.wire_bytes(wire * numbers)
    images = config.discriminator_turns * config.batch_size
    return Prediction(alone, added, reductions, sent, images)


def memory(config: Config, state: float, numbers: int, kept: float, images: int) -> float:
    """Bytes of a process, without what the device's own programs take.

    Args:
        config: whose update it is.
        state: bytes of weights, moments and averages that the process has.
        numbers: how many parameters the larger player has.
        kept: bytes that the turn which needs most keeps for its backward, where nothing is in mixed precision. That is
            assumed to keep half of it.
        images: of the process's part of the batch.
    """
    microbatch = config.used_microbatch or images
    each = 8 if config.precision == "fp64" else 4
    gradients = numbers * each
    if config.exact:  # those of all microbatches are kept until they are added, as integers of 64 bits
        gradients += numbers * (each * -(-images // microbatch) + 8)
    narrower = 0.5 if config.precision in MIXED else 1.0
    return state + gradients + narrower * kept
