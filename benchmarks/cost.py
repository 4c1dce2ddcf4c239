"""What an update of each config costs, counted and not timed: parameters, FLOPs, bytes moved, memory. Penalties that
are due now and then are not in it.

python benchmarks/cost.py [CONFIG.yaml ...] [--images 4] [--out FILE.json]
"""

import argparse
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from show import console
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import flop_registry

from dist_gan.config.command_line import load
from dist_gan.config.schema import Config
from dist_gan.data import Generated
from dist_gan.distributed.processes import Processes
from dist_gan.game.game import Game
from dist_gan.game.player import Player
from dist_gan.objective.objective import Terms
from dist_gan.run.build import game_of, stream_of

CONFIGS = Path(__file__).parent.parent / "configs"
COLUMNS = ("G", "D", "GFLOP an image", "MB moved an image", "fixed MiB", "MiB an image")


class Counted(TorchDispatchMode):
    """Counts FLOPs (of products and convolutions), and the bytes that operators read and write. What only looks at
    memory in another way moves nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
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
        return out


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


def made(config: Config, images: int) -> tuple[Game, Any]:
    """The game of a config on made-up data of the same shape, with a batch of about this many images."""
    images = config.batch_multiple * -(-images // config.batch_multiple)
    shape = config.data.shape
    data = Generated(size=shape.height, channels=shape.channels, count=max(256, images))
    small = config.model_copy(update={"data": data, "batch_size": images, "microbatch": 0, "evaluate": ()})
    processes = Processes("fp32")
    dataset = data.open(processes.device)
    return game_of(small, processes, dataset), stream_of(small, processes, dataset).batches(0)


def cost(config: Config, images: int) -> dict[str, float]:
    """Of one update: work by image that D sees; memory of all that is as large as the players, and what the turn that
    needs most keeps for its backward, by image of the batch."""
    game, batches = made(config, images)
    game.update(batches)  # sets everything up
    with Counted() as counted:
        game.update(batches)
    seen = game.images_per_update
    sizes = {name: sum(p.numel() for p in player.network.parameters()) for name, player in game.players.items()}
    state = sum(t.numel() * t.element_size() for own in game.state().values() for t in own.values())
    state += 4 * max(sizes.values())  # the gradients of the player that moves
    turns = [0]
    with kept(p for player in game.players.values() for p in player.network.parameters()) as memory:

        def end_of_turn(turn: str, player: Player[Any], terms: Terms) -> None:
            turns.append(sum(memory.values()))
            memory.clear()

        game.watch = end_of_turn
        game.update(batches)
    values = (
        sizes["G"],
        sizes["D"],
        counted.flops / seen / 1e9,
        counted.bytes / seen / 1e6,
        state / 2**20,
        max(turns) / game.batch_size / 2**20,
    )
    return dict(zip(COLUMNS, values, strict=True))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="*", type=Path)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = {}
    console.print("config | " + " | ".join(COLUMNS))
    for path in options.configs or sorted(CONFIGS.glob("*.yaml")):
        found[path.stem] = cost(load(path), options.images)
        console.print(f"{path.stem} | " + " | ".join(f"{value:,.3g}" for value in found[path.stem].values()))
    if options.out:
        options.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
