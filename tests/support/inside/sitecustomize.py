"""What tests do to the ranks of a job, without a change of what they run: Python imports this file by itself.

DIST_GAN_BRAKE=FILE: while FILE exists every update takes 100 ms longer.
DIST_GAN_SLOW=2: so it is in the job's first two attempts.
DIST_GAN_POISON=3,5: the job's first attempt fails in its third update, the second in its fifth, further ones do not.
"""

import os
import sys
import time
from typing import Any

script = next((argument for argument in sys.orig_argv[1:] if not argument.startswith("-")), "")
if script.endswith("dist_gan/train.py"):
    from dist_gan.game.game import Game

    update = Game.update
    brake = os.environ.get("DIST_GAN_BRAKE", "")
    attempt = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    slow = attempt < int(os.environ.get("DIST_GAN_SLOW", "0"))
    poison = dict(enumerate(os.environ.get("DIST_GAN_POISON", "").split(","))).get(attempt)
    calls = 0

    def treated(self: Game, *arguments: Any) -> Any:
        global calls  # noqa: PLW0603
        calls += 1
        if poison and calls == int(poison):
            raise RuntimeError("poison")
        if slow or os.path.exists(brake):  # noqa: PTH110  # the quick way: it is asked for in each update
            time.sleep(0.1)
        return update(self, *arguments)

    Game.update = treated  # type: ignore[method-assign]
