"""Images from a run or a model: `python -m dist_gan.sample RUN_OR_MODEL [key=value ...]` (see `--help`)."""

import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__" and not __package__:
    # `python dist_gan/sample.py` puts dist_gan/ itself first: its modules would hide others of the same name
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
from torch import Tensor

from dist_gan.arguments import Flag, Text, Whole, read_options, run_command
from dist_gan.errors import ConfigError
from dist_gan.networks import Generator
from dist_gan.run.restore import class_names, find_model, load_generator
from dist_gan.sampling.asked import asked_classes
from dist_gan.sampling.generate import FORWARD, chunks, sample_classes, sample_latents, slerp
from dist_gan.sampling.pictures import FORMATS, save_array, save_grid, save_image
from dist_gan.sampling.samples import samples

USAGE = """usage: python -m dist_gan.sample RUN_OR_MODEL [key=value ...]

  RUN_OR_MODEL       a run's folder (its newest valid checkpoint is used), one of its checkpoints, or a folder with
                     ema.safetensors and config.yaml of one; a folder that dist_gan.export wrote, or user/name of such
                     a model on the Hugging Face Hub
  count=64           how many images; image i of a seed is the same for every count
  seed=0             which images
  out=samples.png    a file ending in .png, .jpg, .jpeg or .webp: one grid; in .npy: an array uint8 [N, H, W, C];
                     a name without an ending, or with a / at its end: a folder of single files 000000.png, ...
  classes=all        of a conditional run: which classes, by number or name, such as 3,7 or cat,dog; a column each
  per_class=8        of a conditional run: how many images of each class, in place of count
  interpolate=0      with K > 1: `count` strips of K images each, from image i to image i + 1, one strip a row; in a
                     conditional run all of one class, the first one or that of classes=
  trust_code=false   true: execute the code of the networks, where these are a class of somebody's own
"""
OPTIONS = {
    "count": Whole(None, least=1, most=10**12, example="64"),
    "seed": Whole(0),
    "per_class": Whole(None, least=1, most=10**9, example="8"),
    "interpolate": Whole(0, most=10**6),
    "out": Text("samples.png"),
    "classes": Text(None, example="all"),
    "trust_code": Flag(),
}
COUNT, PER_CLASS = 64, 8
"""Where they are not given."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make images as the command line says; returns the exit code."""
    return run_command("dist_gan.sample", USAGE, _sample, arguments)


def _sample(arguments: Sequence[str]) -> str:
    options = read_options(arguments[1:], OPTIONS)
    trust_code = options.pop("trust_code")
    if options["interpolate"] == 1:
        raise ConfigError("interpolate: expected 0, or at least 2 images of a strip, got 1")
    _check_target(options["out"])
    passed_over: list[str] = []
    path = find_model(Path(arguments[0]), passed_over)
    for line in passed_over:
        print(f"dist_gan.sample: {line}", file=sys.stderr)
    written = _write(load_generator(path, trust_code=trust_code), class_names(path), **options)
    return f"{written} (from {path})"


def _write(generator: Generator, names: Sequence[str], *, out: str, **options: Any) -> str:
    batches, count, columns = _asked(generator, names, **options)
    target = Path(out)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if _is_folder(out):
            target.mkdir(exist_ok=True)
            digits = max(6, len(str(count - 1)))
            for i, image in enumerate(itertools.chain.from_iterable(batches)):
                save_image(image, target / f"{i:0{digits}d}.png")
            return f"{count:,} images in {target}"
        if target.suffix.lower() == ".npy":
            save_array(batches, count, target)
            return f"{count:,} images in {target}"
        save_grid(torch.cat(list(batches)), target, columns)
        return str(target)
    except OSError as error:
        raise ConfigError(f"out: cannot write {target} ({error.strerror or error}). Choose another place") from None


def _asked(
    generator: Generator,
    names: Sequence[str],
    *,
    count: int | None,
    seed: int,
    classes: str | None,
    per_class: int | None,
    interpolate: int,
) -> tuple[Iterator[Tensor], int, int | None]:
    """Batches uint8 [n, C, H, W], how many images they are, and the columns of a grid (None: about square)."""
    if not generator.classes:
        for key, given in (("classes", classes), ("per_class", per_class)):
            if given is not None:
                raise ConfigError(f"{key}: this run has no classes (networks.conditional=false). Leave {key} out")
    asked = None if classes is None else asked_classes(classes, names)
    if per_class is not None and (count is not None or interpolate):
        raise ConfigError(f"per_class: give it or {'interpolate' if interpolate else 'count'}, not both")
    if interpolate:
        if asked is not None and len(asked) != 1:
            raise ConfigError(f"classes: one class for interpolate, got {len(asked)}")
        strips = COUNT if count is None else count
        own = (asked or [0])[0] if generator.classes else None
        return _strips(generator, strips, seed, interpolate, own), strips * interpolate, interpolate
    if generator.classes and count is None and (asked is not None or per_class is not None):
        asked = asked or list(range(generator.classes))
        count = len(asked) * (per_class or PER_CLASS)
    count = COUNT if count is None else count
    if generator.classes and asked is None:
        numbers, columns = sample_classes(generator.classes, count)
        asked = numbers[:columns].tolist()
    return samples(generator, count, seed, asked), count, len(asked) if asked else None


def _strips(generator: Generator, count: int, seed: int, steps: int, own: int | None) -> Iterator[Tensor]:
    """Batches of `count` strips of `steps` images each, all of the class `own`."""
    weight = next(generator.parameters())
    for start in range(0, count, FORWARD):
        ends = range(start, min(start + FORWARD, count) + 1)
        latents = sample_latents(seed, ends, generator.latent, weight.device, weight.dtype)
        between = torch.cat([slerp(a, b, steps) for a, b in itertools.pairwise(latents)]).to(weight)
        yield from chunks(generator, between, None if own is None else torch.full((len(between),), own))


def _is_folder(out: str) -> bool:
    return out.endswith("/") or not Path(out).suffix


def _check_target(out: str) -> None:
    target = Path(out)
    if _is_folder(out):
        if target.exists() and not target.is_dir():
            raise ConfigError(f"out: {target} is a file. Give a folder, or a name that ends in .png")
        return
    if target.suffix.lower() not in (*FORMATS, ".npy"):
        raise ConfigError(
            f"out: cannot write a file ending in {target.suffix}. Expected {', '.join(FORMATS)} (a grid), .npy (an "
            f"array), or a folder: a name without an ending, or {out}/"
        )
    if target.is_dir():
        raise ConfigError(f"out: {target} is a folder. Give the name of a file, or {out}/ for single files in it")


if __name__ == "__main__":
    sys.exit(main())
