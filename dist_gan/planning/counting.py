"""What one update costs, counted and not timed: parameters, FLOPs, bytes moved, operators, memory."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import flop_registry

from dist_gan.config.schema import Config
from dist_gan.data import Generated
from dist_gan.data.source import Batch
from dist_gan.distributed.processes import Processes
from dist_gan.game.game import Game
from dist_gan.game.player import Player
from dist_gan.game.turn import MOVERS, Mover
from dist_gan.objective.objective import Terms
from dist_gan.run.build import game_of, stream_of

T = TypeVar("T")
LONGEST_PERIOD = 4096
"""Updates in which penalties that are due now and then are looked for."""


@dataclass(frozen=True)
class Work:
    """What operators do: FLOPs of products and convolutions, bytes that are read and written, and their number."""

    flops: float = 0.0
    bytes: float = 0.0
    operators: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(self.flops + other.flops, self.bytes + other.bytes, self.operators + other.operators)

    def __sub__(self, other: "Work") -> "Work":
        return self + -1 * other

    def __rmul__(self, factor: float) -> "Work":
        return Work(factor * self.flops, factor * self.bytes, factor * self.operators)


class Counted(TorchDispatchMode):
    """Counts FLOPs (of products and convolutions), and the bytes that operators read and write. What only looks at
    memory in another way moves nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0
        self.flops = 0
        self.operators = 0
        """Those that move something."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count one operator; pass everything on."""
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.convolution_backward.default:
            self.flops += _of_a_backward(*args)
        elif count := flop_registry.get(func._overloadpacket):
            self.flops += count(*args, **(kwargs or {}), out_val=out)
        aliased = any(
            result.alias_info is not None and not result.alias_info.is_write for result in func._schema.returns
        )
        if not aliased:
            tensors = [t for t in tree_iter((args, kwargs, out)) if isinstance(t, Tensor)]
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
            self.operators += 1
        return out

    @property
    def work(self) -> Work:
        """All of it until now."""
        return Work(self.flops, self.bytes, self.operators)


def _of_a_backward(change: Tensor, x: Tensor, weight: Tensor, *others: Any) -> int:
    """FLOPs of a convolution's backward. torch counts one with groups as if it had none."""
    is_transposed, wanted = others[4], others[7]
    places = x if is_transposed else change
    return int(2 * places.numel() * weight[0].numel() * sum(wanted[:2]))


@contextmanager
def kept(apart_from: Iterable[Tensor]) -> Iterator[dict[int, int]]:
    """The memory that is kept for backward passes: address -> bytes, each memory once, but for that of some tensors."""
    found: dict[int, int] = {}
    known = {tensor.untyped_storage().data_ptr() for tensor in apart_from}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        yield found


def on_made_up(config: Config, images: int, microbatch: int = 0) -> Config:
    """The same on made-up data of the same shape, with batches of `images` images."""
    shape = config.data.shape
    size = shape.height if shape.height == shape.width else f"{shape.height}x{shape.width}"
    data = Generated(size=size, channels=shape.channels, count=max(256, images))
    return config.model_copy(update={"data": data, "batch_size": images, "microbatch": microbatch, "evaluate": ()})


def made(config: Config, processes: Processes) -> tuple[Game, Iterator[Batch]]:
    """The game of a config on its data, played by this process alone, and its batches."""
    alone = processes.alone()
    dataset = config.data.open(alone.device)
    return game_of(config, alone, dataset), stream_of(config, alone, dataset).batches(0)


Due = tuple[int, ...]
"""In how many turns of an update each penalty is due, in the order of the config."""


def due(config: Config, batch: int, seen: int) -> Due:
    """What is due in the update that begins at `seen` images, with batches of `batch` images."""
    turns = config.discriminator_turns
    places = {"D": [(seen + number * batch, batch) for number in range(turns)], "G": [(seen, turns * batch)]}
    return tuple(
        sum(bool(penalty.strength(*place)) for place in places[penalty.of]) for penalty in config.objective.penalties
    )


def kinds(config: Config) -> dict[Due, float]:
    """The kinds of updates, by what is due in them -> the share of all updates; the most frequent comes first."""
    per_update = config.discriminator_turns * config.batch_size
    every = [penalty.every for penalty in config.objective.penalties if penalty.every]
    period = min(LONGEST_PERIOD, math.lcm(per_update, *every) // per_update)
    found = Counter(due(config, config.batch_size, update * per_update) for update in range(period))
    return {kind: number / period for kind, number in found.most_common()}


def example(config: Config, batch: int, kind: Due) -> int:
    """The images seen before an update of this kind, with another size of the batch; where there is none, 0."""
    per_update = config.discriminator_turns * batch
    places = (update * per_update for update in range(LONGEST_PERIOD))
    return next((seen for seen in places if due(config, batch, seen) == kind), 0)


def moves(config: Config) -> dict[Mover, float]:
    """How often each player moves in an update: each time its gradients are reduced. Penalties may move alone."""
    found: dict[Mover, float] = {"D": config.discriminator_turns, "G": 1}
    for kind, share in kinds(config).items():
        for name in MOVERS:
            alone = [n for n, p in zip(kind, config.objective.penalties, strict=True) if p.alone and p.of == name]
            found[name] += share * max(alone, default=0)
    return found


@dataclass(frozen=True)
class Arrival:
    """A gradient that is ready, in the last backward of its player's turn."""

    numbers: int
    """How many numbers it has."""
    left: float
    """What part of the update's work is still to come until the last gradient of that turn: 0 to 1."""


@dataclass(frozen=True)
class Costs:
    """What an update costs."""

    parameters: dict[Mover, int]
    """That move, by player."""
    fixed: Work
    """Of an update with one microbatch, however many images it has."""
    per_image: Work
    """For each image of the batch, in all turns of the update."""
    per_microbatch: Work
    """For each further microbatch. Counted only where the config has microbatches."""
    state_bytes: int
    """All that a checkpoint holds."""
    kept_bytes: float
    """What the turn that needs most keeps for its backward, for each image of a microbatch."""
    arrivals: dict[Mover, tuple[Arrival, ...]]
    """By player, in the order in which the gradients are ready."""

    def work(self, images: int, microbatches: int = 1) -> Work:
        """Of one update of a process that sees `images` images of each batch."""
        return self.fixed + images * self.per_image + (microbatches - 1) * self.per_microbatch


def count(config: Config, processes: Processes) -> Costs:
    """Counts updates with one and with two of the smallest batch. All kinds of updates count by how often they come.

    They are counted as they are written (`speed=eager`), without the integers of exact runs.
    """
    config = config.model_copy(update={"speed": "eager", "microbatch": config.used_microbatch, "exact": False})
    least = config.batch_multiple
    shares = kinds(config)
    usual = next(iter(shares))
    game, batches = made(on_made_up(config, least), processes)
    game.update(batches)  # sets everything up
    seen = {kind: example(config, least, kind) for kind in shares}
    memory = _Kept(game)
    of_kinds = {}
    for kind in shares:
        game.images_seen = seen[kind]
        counted = Counted()
        with counted, memory, arriving(game, partial(getattr, counted, "bytes")) as found:
            game.update(batches)
        of_kinds[kind] = counted.work
        if kind == usual:
            arrivals = {name: of_last_backward(game, name, noted, counted.bytes) for name, noted in found.items()}

    def more(times: int, microbatch: int) -> Work:
        """Of the same game on a larger batch."""
        game.gradients.microbatch, game.images_seen = microbatch, seen[usual]
        larger = on_made_up(config, times * least)
        stream = stream_of(larger, game.processes, larger.data.open(game.processes.device))
        with Counted() as counted:
            game.update(stream.batches(0))
        return counted.work

    less, twice = of_kinds[usual], more(2, 2 * least)
    per_image = (1 / least) * (twice - less)
    if per_image.operators:  # layers that work in groups do less where there is only one
        per_image = (1 / least) * (more(3, 3 * least) - twice)
    fixed = twice - 2 * least * per_image
    # What a penalty adds grows with the images, but for the number of its operators.
    added = sum((share * (of_kinds[kind] - less) for kind, share in shares.items()), Work())
    per_image += Work(added.flops / least, added.bytes / least)
    fixed += Work(operators=added.operators)
    again = more(2, least) - twice if config.used_microbatch else Work()
    state = sum(tensor.nbytes for own in game.state().values() for tensor in own.values())
    sizes: dict[Mover, int] = {name: sum(p.numel() for p in game.players[name].parameters) for name in MOVERS}
    return Costs(sizes, fixed, per_image, Work(operators=again.operators), state, memory.most / least, arrivals)


class _Kept:
    """Inside, notes how much the turn that needs most keeps for its backward."""

    def __init__(self, game: Game) -> None:
        self.game = game
        self.most = 0
        """Bytes, of all updates inside."""

    def __enter__(self) -> None:
        players = self.game.players.values()
        self._noting = kept(parameter for player in players for parameter in player.network.parameters())
        memory = self._noting.__enter__()

        def end_of_turn(turn: str, player: Player[Any], terms: Terms) -> None:
            self.most = max(self.most, sum(memory.values()))
            memory.clear()

        self.game.watch = end_of_turn

    def __exit__(self, *error: Any) -> None:
        self.game.watch = None
        self._noting.__exit__(*error)


@contextmanager
def arriving(game: Game, clock: Callable[[], T]) -> Iterator[dict[Mover, list[tuple[int, T]]]]:
    """Inside, notes by player the numbers of each gradient and what `clock` says when it is ready."""
    found: dict[Mover, list[tuple[int, T]]] = {name: [] for name in MOVERS}
    handles = []
    for name in MOVERS:
        for parameter in game.players[name].parameters:

            def ready(parameter: Tensor, name: Mover = name) -> None:
                found[name].append((parameter.numel(), clock()))

            parameter.requires_grad_(True)  # torch allows the hook on nothing else
            handles.append(parameter.register_post_accumulate_grad_hook(ready))
            parameter.requires_grad_(False)
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def of_last_backward(game: Game, name: Mover, seen: Sequence[tuple[int, float]], total: float) -> tuple[Arrival, ...]:
    """What was noted of the last backward of a player, as parts of `total`, which the update has in all.

    Of counts it is the share of bytes moved: backward passes of GANs are bound by memory more often than by arithmetic.
    """
    last = seen[-len(game.players[name].parameters) :]
    end = last[-1][1]
    return tuple(Arrival(numbers, (end - now) / total) for numbers, now in last)
