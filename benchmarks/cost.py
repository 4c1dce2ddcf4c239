"""What an update of each config costs, counted and not timed: parameters, FLOPs, bytes moved, memory. Penalties that
are due now and then are not in it.

python benchmarks/cost.py [CONFIG.yaml ...] [--images 4] [--out FILE.json]
"""

import argparse
import json
from pathlib import Path

from show import console

from dist_gan.config.command_line import load
from dist_gan.config.schema import Config
from dist_gan.distributed.processes import Processes
from dist_gan.planning.counting import Counted, MostKept, made, on_made_up

CONFIGS = Path(__file__).parent.parent / "configs"
COLUMNS = ("G", "D", "GFLOP an image", "MB moved an image", "fixed MiB", "MiB an image")


def cost(config: Config, images: int) -> dict[str, float]:
    """Of one update: work by image that D sees; memory that does not grow with the batch, and what the turn that needs
    most keeps for its backward, by image of the batch."""
    images = config.batch_multiple * -(-images // config.batch_multiple)
    game, batches = made(on_made_up(config, images), Processes("fp32"))
    game.update(batches)  # sets everything up
    with Counted() as counted:
        game.update(batches)
    seen = game.images_per_update
    sizes = {name: sum(p.numel() for p in player.network.parameters()) for name, player in game.players.items()}
    state = sum(t.numel() * t.element_size() for own in game.state().values() for t in own.values())
    state += 4 * max(sizes.values())  # the gradients of the player that moves
    less, more = (most_kept(config, times * images) for times in (1, 2))
    each = (more - less) / images
    values = (
        sizes["G"],
        sizes["D"],
        counted.flops / seen / 1e9,
        counted.bytes / seen / 1e6,
        (state + less - images * each) / 2**20,
        each / 2**20,
    )
    return dict(zip(COLUMNS, values, strict=True))


def most_kept(config: Config, images: int) -> int:
    """Bytes, with a batch of so many images."""
    game, batches = made(on_made_up(config, images), Processes("fp32"))
    game.update(batches)
    with MostKept(game) as memory:
        game.update(batches)
    return memory.most


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
