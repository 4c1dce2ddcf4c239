"""`python -m dist_gan COMMAND ...` and `dist-gan COMMAND ...`: all commands. Only the chosen one is imported."""

import difflib
import runpy
import sys
from collections.abc import Sequence

COMMANDS = {
    "advise": "a config for a folder of your own images, with the reason for each choice",
    "train": "train a GAN, or go on: [CONFIG.yaml] [dotted.key=value ...]",
    "sample": "images from a run or a checkpoint",
    "status": "what runs are doing, how far they are, when they end",
    "score": "metrics of a run, or of two folders of images",
    "report": "a page about one run or several: samples, charts, differences",
    "doctor": "whether a run would work here, and how fast",
    "data": "before a run: download data sets, pack images for the fastest training, check packs",
    "export": "a trained model to hand on: weights, a model card, ONNX, the Hugging Face Hub",
}
"""The name of a module of this package, or of a package with a __main__ -> a line about it."""
USAGE = (
    "usage: dist-gan COMMAND [ARGUMENTS ...]     or     python -m dist_gan COMMAND [ARGUMENTS ...]\n\n"
    + "".join(f"  {name:<8} {line}\n" for name, line in COMMANDS.items())
    + "\nEach of them explains itself with --help. Training on several processes is started by a launcher:\n"
    "accelerate launch dist_gan/train.py ..., launch/local.sh or launch/multi_node.sh.\n"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that is named first; returns 0 or 2 where none was run."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE, end="", file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    name = arguments[0]
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(COMMANDS)}"
        print(f"dist_gan: there is no command {name!r}; {hint}", file=sys.stderr)
        return 2
    sys.argv = [f"dist-gan {name}", *arguments[1:]]
    runpy.run_module(f"dist_gan.{name}", run_name="__main__", alter_sys=True)  # a package's __main__ where it is one
    return 0


if __name__ == "__main__":
    sys.exit(main())
