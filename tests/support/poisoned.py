"""dist_gan.train, in which POISON_RANK (1) fails or hangs (POISON=raise or hang) in its hundredth update."""

import os
import sys
import time
from collections.abc import Iterator
from typing import Any

from dist_gan.data import Stream
from dist_gan.distributed.launch import leave
from dist_gan.game.game import Game
from tests.support.commands import train

calls = 0
update, batches = Game.update, Stream.batches


def raising(self: Game, source: Any) -> None:
    global calls  # noqa: PLW0603
    calls += 1
    if calls == 100:
        raise RuntimeError("poison on rank 1")
    update(self, source)


def hanging(self: Stream, images_seen: int) -> Iterator[Any]:
    for number, batch in enumerate(batches(self, images_seen), start=1):
        if number == 100:
            time.sleep(1000)
        yield batch


if __name__ == "__main__":
    if os.environ.get("RANK", "0") == os.environ.get("POISON_RANK", "1"):
        if os.environ["POISON"] == "raise":
            Game.update = raising  # type: ignore[method-assign]
        else:
            Stream.batches = hanging  # type: ignore[method-assign]
    leave(train.main(sys.argv[1:]))
