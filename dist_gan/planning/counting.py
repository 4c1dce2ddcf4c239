"""What one update costs, counted and not timed: parameters, FLOPs, bytes moved, operators, memory."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any, Self, TypeVar

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
from dist_gan.planning.cadence import Due, example, kinds, steady
from dist_gan.planning.sharing import of_others
from dist_gan.run.build import game_of, stream_of

T = TypeVar("T")


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
    """The same on made-up data of the same shape, with batches of `images` images. In its n-th update the same
    penalties are due as in the n-th of the config itself."""
    shape = config.data.shape
    size = shape.height if shape.height == shape.width else f"{shape.height}x{shape.width}"
    data = Generated(size=size, channels=shape.channels, count=max(256, images))
    smaller = Fraction(images, config.batch_size)  # exact: whether a penalty is due is decided by a remainder
    penalties = tuple(p.model_copy(update={"every": p.every * smaller}) for p in config.objective.penalties)
    changes = {
        "data": data,
        "batch_size": images,
        "microbatch": microbatch,
        "evaluate": (),
        "objective": config.objective.model_copy(update={"penalties": penalties}),
    }
    return config.model_copy(update=changes)


def made(config: Config, processes: Processes) -> tuple[Game, Iterator[Batch]]:
    """The game of a config on its data, played by this process alone, and its batches."""
    alone = processes.alone()
    dataset = config.data.open(alone.device)
    return game_of(config, alone, dataset), stream_of(config, alone, dataset).batches(0)


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
    own_bytes: int
    """What of it a process has: with `shard`, the one that has most; else all."""
    kept_fixed: float
    """What the turn that needs most keeps for its backward, however many images it has: weights in another form."""
    kept_bytes: float
    """And for each image of a microbatch."""
    arrivals: dict[Mover, tuple[Arrival, ...]]
    """By player, in the order in which the gradients are ready."""

    def work(self, images: int, microbatches: int = 1) -> Work:
        """Of one update of a process that sees `images` images of each batch."""
        return self.fixed + images * self.per_image + (microbatches - 1) * self.per_microbatch

    def kept(self, images: int) -> float:
        """Bytes that the turn which needs most keeps for its backward, with a microbatch of so many images."""
        return self.kept_fixed + images * self.kept_bytes


def count(config: Config, processes: Processes, world: int = 1) -> Costs:
    """Counts updates with one and with two of the smallest batch. All kinds of updates count by how often they come.

    They are counted as they are written (`speed=eager`), without the integers of exact runs.

    Args:
        config: what is played.
        processes: this one, which plays it.
        world: all processes of the run, among which `shard` divides the state.
    """
    config = steady(config)
    config = config.model_copy(update={"speed": "eager", "microbatch": config.used_microbatch, "exact": False})
    least = config.batch_multiple
    shares = kinds(config)
    usual = next(iter(shares))
    game, batches = made(on_made_up(config, least), processes)
    game.update(batches)  # sets everything up
    others = of_others(game, world) if config.shard else 0
    seen = {kind: example(config, least, kind) for kind in shares}
    of_kinds, most = {}, {}
    for kind in shares:
        game.images_seen = seen[kind]
        counted, memory = Counted(), MostKept(game)
        with counted, memory, arriving(game, partial(getattr, counted, "bytes")) as found:
            game.update(batches)
        of_kinds[kind], most[kind] = counted.work, memory.most
        if kind == usual:
            arrivals = {name: of_last_backward(game, name, noted, counted.bytes) for name, noted in found.items()}

    def play(noting: AbstractContextManager[Any], times: int, microbatch: int, kind: Due = usual) -> None:
        """The same game plays a larger batch."""
        game.gradients.microbatch, game.images_seen = microbatch, seen[kind]
        larger = on_made_up(config, times * least)
        stream = stream_of(larger, game.processes, larger.data.open(game.processes.device)).batches(0)
        next(stream)  # the first one draws the order of the pass
        with noting:
            game.update(stream)

    def more(times: int, microbatch: int) -> Work:
        counted = Counted()
        play(counted, times, microbatch)
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
    neediest = max(shares, key=lambda kind: most[kind])
    memory = MostKept(game)
    play(memory, 2, 2 * least, neediest)
    kept_bytes = (memory.most - most[neediest]) / least
    state = sum(tensor.nbytes for own in game.state().values() for tensor in own.values())
    return Costs(
        parameters={name: sum(p.numel() for p in game.players[name].parameters) for name in MOVERS},
        fixed=fixed,
        per_image=per_image,
        per_microbatch=Work(operators=again.operators),
        state_bytes=state,
        own_bytes=state - others,
        kept_fixed=most[neediest] - least * kept_bytes,
        kept_bytes=kept_bytes,
        arrivals=arrivals,
    )


class MostKept:
    """Inside, notes how much the turn that needs most keeps for its backward."""

    def __init__(self, game: Game) -> None:
        self.game = game
        self.most = 0
        """Bytes, of all updates inside."""

    def __enter__(self) -> Self:
        players = self.game.players.values()
        self._noting = kept(parameter for player in players for parameter in player.network.parameters())
        memory = self._noting.__enter__()

        def end_of_turn(turn: str, player: Player[Any], terms: Terms) -> None:
            self.most = max(self.most, sum(memory.values()))
            memory.clear()

        self.game.watch = end_of_turn
        return self

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
