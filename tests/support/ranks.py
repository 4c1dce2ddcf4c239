"""What several ranks do in tests: `python -m tests.support.ranks SCENARIO OUT` under torchrun; rank 0 writes OUT."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from dist_gan.data.stream import Stream
from dist_gan.distributed.launch import leave
from dist_gan.distributed.processes import Processes
from dist_gan.distributed.reduction import Averaged
from dist_gan.distributed.traffic import Traffic
from dist_gan.game import gradients as gradients_module
from dist_gan.game.game import Game, Turn
from dist_gan.game.speed import Eager, Repeated
from dist_gan.objective.objective import Objective
from dist_gan.optim.factors import LayerFactor
from dist_gan.optim.optimizers import Adam
from dist_gan.randomness import draw
from tests.support import judged, own_parts, tiny
from tests.support.commands import train
from tests.support.recorded import Recorded
from tests.support.runs import SMALL


def equal_everywhere(processes: Processes, game: Game) -> bool:
    return len(set(processes.accelerator.gather_for_metrics([tiny.digest(tiny.state(game))], True))) == 1


def traffic(processes: Processes) -> dict[str, Any]:
    """The calls of one update, after a warm-up, by microbatches and penalties; and how many parameters there are."""
    found: dict[str, Any] = {}
    for kind, recipe, data in (
        ("mlp", tiny.MLP_DROPOUT, tiny.DATA),
        ("dcgan", tiny.DCGAN_TINY, tiny.DATA_16),
    ):
        for penalties, objective in (("off", None), ("on", tiny.PENALISED), ("lazy", tiny.LAZY)):
            for parts in (1, 2, 4):
                game = tiny.game(processes, recipe, objective, data, microbatch=tiny.BATCH // processes.count // parts)
                game.warm_up_reduction(tiny.batches(processes, 0, data))
                calls = []
                for _ in range(3):  # with a lazy penalty: one update with it and two without
                    source = tiny.batches(processes, game.images_seen, data)
                    with Traffic() as counted:
                        game.update(source)
                    calls.append([tuple(call) for call in counted.calls])
                with Traffic() as counted:
                    game.meter.read()
                D, G = (sum(p.numel() for p in player.parameters) for player in (game.discriminator, game.generator))
                found[f"{kind}, penalties {penalties}, {parts} microbatches"] = {
                    "updates": calls,
                    "reading": [tuple(call) for call in counted.calls],
                    "D": D,
                    "G": G,
                    "equal": equal_everywhere(processes, game),
                }
    return found


def evaluated(processes: Processes) -> dict[str, float]:
    """All metrics of a conditional generator's images against some reals, on each number of threads."""
    return judged.numbers(processes)


def accounted(processes: Processes) -> dict[str, Any]:
    """Every collective of a whole run, from its start to its end."""
    with Traffic() as traffic:
        assert train.main([*SMALL, "images=1280", "track.every=320", f"run={sys.argv[2]}.run"]) == 0
    return {"calls": [tuple(call) for call in traffic.calls]}


def same(processes: Processes) -> dict[str, Any]:
    """States in float64 after some updates, in one microbatch and in two; and whether all ranks have the same."""
    found = {}
    for kind, recipe, data in (
        ("mlp", tiny.MLP_PLAIN, tiny.DATA),
        ("dropout", tiny.MLP_DROPOUT, tiny.DATA),
        ("dcgan", tiny.DCGAN_TINY, tiny.DATA_16),
    ):
        for parts in (1, 2):
            game = tiny.game(processes, recipe, tiny.PENALISED, data, microbatch=tiny.BATCH // processes.count // parts)
            game.warm_up_reduction(tiny.batches(processes, 0, data))
            tiny.play(game, 6, data)
            found[f"{kind}/{parts}"] = {"state": tiny.state(game), "equal": equal_everywhere(processes, game)}
    return found


def resumed(processes: Processes) -> dict[str, Any]:
    """Six updates in one go, and three and three with everything made anew between: the same bits?"""
    whole = tiny.game(processes, tiny.MLP_DROPOUT, tiny.PENALISED)
    whole.warm_up_reduction(tiny.batches(processes))
    tiny.play(whole, 6)
    first = tiny.game(processes, tiny.MLP_DROPOUT, tiny.PENALISED)
    first.warm_up_reduction(tiny.batches(processes))
    tiny.play(first, 3)
    saved = {file: {k: v.clone() for k, v in own.items()} for file, own in first.state().items()}
    second = tiny.game(processes, tiny.MLP_DROPOUT, tiny.PENALISED)
    second.load(saved, first.images_seen)
    second.warm_up_reduction(tiny.batches(processes, second.images_seen))
    tiny.play(second, 3)
    return {"whole": tiny.digest(tiny.state(whole)), "resumed": tiny.digest(tiny.state(second))}


def repeated(processes: Processes) -> dict[str, Any]:
    """Turns that were captured: states after six updates, resumed in the middle or not, and what an update sends."""
    found: dict[str, Any] = {}
    for name, options in REPEATED.items():
        for exact in (False, True):
            own = Processes("fp64", exact=exact)
            reports: list[str] = []

            def made(own: Processes = own, options: Any = options, reports: list[str] = reports) -> Game:
                return tiny.game(own, **options, microbatch=8, runner=Repeated(Recorded(), own, reports.append))

            whole = tiny.play(made(), 5)
            with Traffic() as counted:
                tiny.play(whole, 1)
            first = tiny.play(made(), 3)
            saved = {file: {k: v.clone() for k, v in state.items()} for file, state in first.state().items()}
            second = made()
            second.load(saved, first.images_seen)
            tiny.play(second, 3)
            found[f"{name}, exact" if exact else name] = {
                "state": tiny.state(whole),
                "resumed": tiny.digest(tiny.state(second)) == tiny.digest(tiny.state(whole)),
                "equal": equal_everywhere(own, whole),
                "calls": [tuple(call) for call in counted.calls],
                "reports": reports,
            }
    return found


def sharded(processes: Processes) -> dict[str, Any]:
    """What each process keeps a part of, beside the same with everything everywhere; and gradients rounded to bf16."""
    found: dict[str, Any] = {}
    processes = Processes("fp32")
    for name, options in SHARDED.items():
        data = options.get("data", tiny.DATA)

        def begun(options: Any = options, **more: Any) -> Game:
            return tiny.game(processes, **options, microbatch=16, **more)

        def played(game: Game, updates: int = 4, data: Any = data) -> Game:
            game.warm_up_reduction(tiny.batches(processes, game.images_seen, data))
            return tiny.play(game, updates, data)

        def repeated() -> Repeated:
            return Repeated(Recorded(), processes, print)

        whole, flat = played(begun()), played(begun(runner=Eager(flat=True)))
        looked_at = begun(shard=True, runner=repeated())
        for _ in range(4):  # a checkpoint after each update
            tiny.state(tiny.play(looked_at, 1, data))
        half = played(begun(shard=True), 2)
        resumed = begun(shard=True)
        resumed.load(processes.broadcast({file: dict(own) for file, own in half.state().items()}), half.images_seen)
        parts = {
            "eager": (played(begun(shard=True)), whole),
            "repeated": (played(begun(shard=True, runner=repeated())), flat),
            "looked at": (looked_at, flat),
            "resumed": (played(resumed, 2), whole),
        }
        rounded = played(begun(wire="bf16"))
        found[name] = {
            # All of it is on the first process.
            "same": {
                how: tiny.digest(tiny.state(game)) == tiny.digest(tiny.state(other))
                for how, (game, other) in parts.items()
            },
            "kept": processes.gather(_kept(parts["eager"][0])),
            "all": _kept(whole),
            "bf16": tiny.difference(tiny.state(rounded), tiny.state(whole)),
            "bf16 equal": equal_everywhere(processes, rounded),
        }
    return found


def _kept(game: Game) -> int:
    """Numbers in the optimizers' states and the average, as they are between two events."""
    game.average.release()
    states = [t for p in game.players.values() for own in p.optimizer.state.values() for t in own.values()]
    return sum(t.numel() for t in [*states, *game.average.network.parameters()])


def mutated(processes: Processes) -> dict[str, Any]:
    """Each mutation of the update: its state after six updates and the calls of the last one."""
    found = {}
    for name, (apply, undo) in MUTATIONS.items():
        apply()
        try:
            game = tiny.game(processes, objective=tiny.LAZY, microbatch=tiny.BATCH // processes.count // 2)
            game.warm_up_reduction(tiny.batches(processes))
            tiny.play(game, 5)
            source = tiny.batches(processes, game.images_seen)
            with Traffic() as counted:
                game.update(source)
            found[name] = {
                "state": tiny.state(game),
                "calls": [tuple(call) for call in counted.calls],
                "equal": equal_everywhere(processes, game),
                "error": "",
            }
        except RuntimeError as error:  # DDP's own complaint, the same on both ranks
            found[name] = {"state": {}, "calls": [], "equal": False, "error": str(error)}
        finally:
            undo()
    return found


def _patch(owner: Any, name: str, new: Any) -> tuple[Callable[[], None], Callable[[], None]]:
    old = getattr(owner, name)
    return lambda: setattr(owner, name, new), lambda: setattr(owner, name, old)


def _wrapped_in_the_others_turn(self: Game, turn: Turn, *rest: Any) -> None:
    D = self.discriminator
    bare = D.network
    if turn.player == "G":
        D.network = D.reduction.wrapped
    try:
        _play(self, turn, *rest)
    finally:
        D.network = bare


def _no_sync_on(half: str) -> Callable[..., Any]:
    """Around one half of a microbatch only: the forward (of every one), or the backward (of every one but the last)."""

    @contextmanager
    def around(self: Averaged, *, last: bool) -> Iterator[None]:
        def switch(reduces: bool) -> Callable[..., None]:
            return lambda module, *_: setattr(module, "require_backward_grad_sync", reduces)

        forward = half == "forward"
        handles = []
        if forward or not last:
            handles = [
                self.wrapped.register_forward_pre_hook(switch(not forward)),
                self.wrapped.register_forward_hook(switch(forward)),
            ]
        yield
        for handle in handles:
            handle.remove()
        switch(True)(self.wrapped)

    return around


def _by_rank(seed: int, purposes: Any, ordinals: range, device: Any) -> Any:
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    return draw(seed, purposes, range(1000 * rank, 1000 * rank + len(ordinals)), device)


def _default_sampler(self: Stream, epoch: int) -> torch.Tensor:
    """torch's RandomSampler: an order from a generator that every process has seeded for itself."""
    generator = torch.Generator().manual_seed(self.first + epoch)
    return torch.randperm(len(self.dataset), generator=generator)


def _bare_mover(self: Processes, network: Any, *, reduced: bool) -> Any:
    _wrap(self, network, reduced=reduced)
    network.no_sync = nullcontext
    return network


def _static_graph(self: Processes, network: Any, *, reduced: bool) -> Any:
    wrapped = _wrap(self, network, reduced=reduced)
    if reduced:
        wrapped._set_static_graph()
    return wrapped


REPEATED: dict[str, dict[str, Any]] = {
    "lazy penalties": {"recipe": tiny.MLP_DROPOUT, "objective": tiny.LAZY},
    "followers": {
        "objective": Objective.model_construct(penalties=(own_parts.PathLength(every=2 * tiny.BATCH),)),
        "augment": own_parts.Controlled(),
    },
}
SHARDED: dict[str, dict[str, Any]] = {
    **REPEATED,
    "dcgan": {"recipe": tiny.DCGAN_TINY, "data": tiny.DATA_16, "objective": tiny.PENALISED},
    "spectral": {"recipe": own_parts.Spectral()},
    "factors": {"optimizer": Adam(factors=(LayerFactor(pattern="*.bias", factor=0.5),), clip=0.1)},
    "rmsprop": {"optimizer": own_parts.RMSProp()},
    "fewer parameters than processes": {"recipe": tiny.DCGAN_TINY},
    "few, rmsprop": {"recipe": tiny.DCGAN_TINY, "optimizer": own_parts.RMSProp()},
}
_play = Game.play
_wrap = Processes.wrap
MUTATIONS = {
    "none": (lambda: None, lambda: None),
    "wrapped D in G's turn": _patch(Game, "play", _wrapped_in_the_others_turn),
    "training through a bare mover": _patch(Processes, "wrap", _bare_mover),
    "no_sync on the forward only": _patch(Averaged, "around", _no_sync_on("forward")),
    "no_sync on the backward only": _patch(Averaged, "around", _no_sync_on("backward")),
    "static_graph with a lazy penalty": _patch(Processes, "wrap", _static_graph),
    "the default sampler": _patch(Stream, "_permute", _default_sampler),
    "noise by rank": _patch(gradients_module, "draw", _by_rank),
}

if __name__ == "__main__":
    scenario, out = sys.argv[1:]
    joined = Processes("fp32" if scenario in ("traffic", "resumed") else "fp64")
    results = globals()[scenario](joined)
    if joined.is_first:
        torch.save(results, out)
    if torch.distributed.is_initialized():  # a whole run has closed it
        joined.close()
    leave(0)
