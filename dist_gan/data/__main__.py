"""Data before a run: downloads data sets, packs images for the fastest training, checks packs.

usage: python -m dist_gan.data NAME...                          download data sets
       python -m dist_gan.data pack IMAGES out=PACK [key=value ...]
       python -m dist_gan.data verify PACK...                   check every byte of packs

NAME is one of mnist, fashion_mnist, cifar10: for example on a login node with internet.
IMAGES is a folder, a .zip, tar shards, Parquet files or a .npy file; keys are those of `data` in a config, such as
size=64 channels=3 labels=true fit=crop workers=4, and name=folder, zip, tar, parquet or npy where that is not clear.
"""

import contextlib
import signal
import sys
from collections.abc import Iterator

import torch
from pydantic import ValidationError

from dist_gan.console import Console
from dist_gan.data import CIFAR10, MNIST, FashionMNIST, Folder, Npy, Parquet, Source, Tar, Zip
from dist_gan.data.fetch import data_root
from dist_gan.data.files import expanded, shown
from dist_gan.data.pack import pack, source_at
from dist_gan.data.packed import verify
from dist_gan.data.source import Reading
from dist_gan.data.streamed import worker_died
from dist_gan.errors import INTERRUPTED, ConfigError, RunError

SETS = {"mnist": MNIST(split="all"), "fashion_mnist": FashionMNIST(split="all"), "cifar10": CIFAR10(split="all")}
KINDS: dict[str, type[Source]] = {"folder": Folder, "zip": Zip, "tar": Tar, "parquet": Parquet, "npy": Npy}
USAGE = str(__doc__).partition("\n\n")[2]


def main(arguments: list[str]) -> int:
    """Do what `arguments` ask for; returns the exit code."""
    if arguments in (["-h"], ["--help"]):
        print(USAGE, end="")
        return 0
    console = Console(speaks=True)
    reading = Reading(progress=console.reading)
    try:
        match arguments:
            case ["pack", *rest]:
                with _ends_like_ctrl_c():
                    _pack(rest, reading, console)
            case ["verify", first, *others]:
                for path in [first, *others]:
                    count = verify(expanded(path), reading)
                    console.say(f"{path}: all bytes of its {count:,} images are as they were packed")
            case [first, *others] if {first, *others} <= SETS.keys():
                for name in arguments:
                    count = len(SETS[name].open(torch.device("cpu")))
                    print(f"{name}: {count:,} images are in {data_root()}")
            case _:
                print(USAGE, end="", file=sys.stderr)
                return 2
    except KeyboardInterrupt:
        console.stop()
        return INTERRUPTED
    except (RunError, RuntimeError) as error:
        known = error if isinstance(error, RunError) else worker_died(error)
        console.stop()
        if known is None:
            raise
        print(known, file=sys.stderr)
        return known.exit_code
    return 0


@contextlib.contextmanager
def _ends_like_ctrl_c() -> Iterator[None]:
    """Inside, SIGTERM, which SLURM sends at the time limit, ends the work so that nothing half done is left."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _pack(arguments: list[str], reading: Reading, console: Console) -> None:
    paths = [argument for argument in arguments if "=" not in argument]
    options = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    out = options.pop("out", "")
    if len(paths) != 1 or not out:
        raise ConfigError(f"pack: expected the path of images, and out=PACK\n{USAGE}")
    try:
        source = source_at(paths[0], KINDS, options)
    except ValidationError as error:
        raise ConfigError(
            "\n".join(
                f"{'.'.join(map(str, mistake['loc'])) or 'pack'}: {mistake['msg'].removeprefix('Value error, ')}"
                + ("" if mistake["type"] == "missing" else f", got {mistake['input']!r}")
                for mistake in error.errors()
            )
        ) from None
    path = expanded(out)
    count, notes = pack(source, path, reading)
    console.stop()
    for note in notes:
        print(note)
    channels, *side = source.shape
    size = side[0] if side[0] == side[1] else "x".join(map(str, side))
    labels = " data.labels=true" if source.has_labels else ""
    print(f"{shown(path)}: {count:,} images. Train on them with")
    print(f"  data.name=packed data.path={shown(path)} data.size={size} data.channels={channels}{labels}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
