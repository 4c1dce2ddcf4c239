"""`python -m dist_gan.data NAME...` downloads data sets before a run, for example on a login node with internet."""

import sys

import torch

from dist_gan.data import CIFAR10, MNIST, FashionMNIST
from dist_gan.data.fetch import data_root
from dist_gan.errors import ConfigError

SETS = {"mnist": MNIST(split="all"), "fashion_mnist": FashionMNIST(split="all"), "cifar10": CIFAR10(split="all")}
USAGE = f"usage: python -m dist_gan.data NAME...   (NAME is one of {', '.join(SETS)})"


def main(names: list[str]) -> int:
    """Download each of `names` that is not there; returns the exit code."""
    if names in (["-h"], ["--help"]):
        print(USAGE)
        return 0
    if not names or not set(names) <= set(SETS):
        print(USAGE, file=sys.stderr)
        return 2
    for name in names:
        try:
            count = len(SETS[name].open(torch.device("cpu")))
        except ConfigError as error:
            print(error, file=sys.stderr)
            return 2
        print(f"{name}: {count:,} images are in {data_root()}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
