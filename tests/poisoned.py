"""dist_gan.train, in which rank 1 fails in its hundredth update."""

import os
import sys
from typing import Any

from dist_gan import train
from dist_gan.game import Game
from dist_gan.processes import leave

calls = 0
update = Game.update


def poisoned(self: Game, batches: Any) -> None:
    global calls  # noqa: PLW0603
    calls += 1
    if calls == 100 and os.environ["RANK"] == "1":
        raise RuntimeError("poison on rank 1")
    update(self, batches)


if __name__ == "__main__":
    Game.update = poisoned  # type: ignore[method-assign]
    leave(train.main(sys.argv[1:]))
