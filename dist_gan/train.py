"""Train a GAN: `accelerate launch dist_gan/train.py [CONFIG.yaml] [dotted.key=value ...]` (see `--help`)."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__" and not __package__:
    # `python dist_gan/train.py` puts dist_gan/ itself first: its modules would hide others of the same name
    sys.path[0] = str(Path(__file__).resolve().parents[1])
# Peers and launchers that die are reported in a line; torch's own, a stack in C++ for each, comes down to this.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

from dist_gan.console import say_early
from dist_gan.distributed.warning import keep_warning

if __name__ == "__main__":
    keep_warning()
QUIET = {"-h", "--help", "--print-config"}
if __name__ == "__main__" and os.environ.get("RANK", "0") == "0" and not QUIET & set(sys.argv):
    say_early("loading torch")  # it takes seconds, and a person should see that something happens

from dist_gan.config.command_line import configured, dump
from dist_gan.config.explain import help_text
from dist_gan.config.schema import Config
from dist_gan.distributed.launch import leave, world
from dist_gan.errors import INTERRUPTED, ConfigError
from dist_gan.run.checkpoint import finish_save
from dist_gan.run.failures import report_failure
from dist_gan.run.session import train


def main(arguments: Sequence[str] | None = None) -> int:
    """Train as the command line says; returns the exit code (docs/running.md: "Exit codes")."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    rank = world()[0]
    if {"-h", "--help"} & set(arguments):
        if rank == 0:
            print(_help([a for a in arguments if a not in ("-h", "--help", "--print-config")]))
        return 0
    try:
        config = configured([a for a in arguments if a != "--print-config"])
        if "--print-config" in arguments:
            if rank == 0:
                print(dump(config), end="")
            return 0
        train(config, owns_process=True)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        return report_failure(error, rank)
    return 0


def _help(arguments: Sequence[str]) -> str:
    """With a config, its values and its parts of the user's own are shown."""
    try:
        return help_text(configured(arguments))
    except ConfigError as error:
        return f"{help_text(Config())}\n\nThis config has mistakes:\n{error}"


if __name__ == "__main__":
    code = main()
    if code != INTERRUPTED:  # then the run has waited for it, and whoever asks a third time shall not wait again
        finish_save()
    leave(code)
