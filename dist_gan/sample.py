"""Images from a run: `python -m dist_gan.sample RUN_OR_CHECKPOINT [count=64] [seed=0] [out=...] [interpolate=0]`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__" and not __package__:
    # `python dist_gan/sample.py` puts dist_gan/ itself first: its modules would hide others of the same name
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import itertools

import torch

from dist_gan.errors import ConfigError, RunError
from dist_gan.networks import Generator
from dist_gan.run.restore import find_checkpoint, load_generator
from dist_gan.sampling.generate import generate, sample_latents, slerp
from dist_gan.sampling.pictures import save_grid, save_image

USAGE = """usage: python -m dist_gan.sample RUN_OR_CHECKPOINT [count=64] [seed=0] [out=...] [interpolate=0]

  RUN_OR_CHECKPOINT  a run's folder (its newest valid checkpoint is used), or one of its checkpoints
  count=64           how many images; image i of a seed is the same for every count
  seed=0             which images
  out=samples.png    a file ending in .png: one grid; a folder: single files 000000.png, 000001.png, ...
  interpolate=0      with K > 1: `count` strips of K images each, from image i to image i + 1, one strip a row
"""
DEFAULTS: dict[str, Any] = {"count": 64, "seed": 0, "out": "samples.png", "interpolate": 0}


def main(arguments: Sequence[str] | None = None) -> int:
    """Make images as the command line says; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or {"-h", "--help"} & set(arguments):
        print(USAGE, end="", file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    try:
        options = _options(arguments[1:])
        passed_over: list[str] = []
        path = find_checkpoint(Path(arguments[0]), passed_over)
        for line in passed_over:
            print(f"dist_gan.sample: {line}", file=sys.stderr)
        written = _write(load_generator(path), **options)
    except RunError as error:
        print(f"dist_gan.sample: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{written} (from {path})")
    return 0


def _write(generator: Generator, *, count: int, seed: int, out: str, interpolate: int) -> str:
    weight = next(generator.parameters())
    wanted = count + 1 if interpolate else count
    latents = sample_latents(seed, range(wanted), generator.latent, weight.device, weight.dtype)
    if interpolate:
        strips = [slerp(a, b, interpolate) for a, b in itertools.pairwise(latents)]
        latents = torch.cat(strips).to(weight)
    images = generate(generator, latents)
    target = Path(out)
    try:
        if target.suffix.lower() == ".png":
            target.parent.mkdir(parents=True, exist_ok=True)
            save_grid(images, target, columns=interpolate or None)
            return str(target)
        target.mkdir(parents=True, exist_ok=True)
        for i, image in enumerate(images):
            save_image(image, target / f"{i:06d}.png")
    except OSError as error:
        raise ConfigError(f"out: cannot write {target} ({error.strerror}). Choose another place") from None
    return f"{len(images)} images in {target}"


def _options(arguments: Sequence[str]) -> dict[str, Any]:
    options = dict(DEFAULTS)
    for argument in arguments:
        key, _, text = argument.partition("=")
        if key not in options:
            raise ConfigError(f"{argument!r}: expected one of {', '.join(f'{k}={v}' for k, v in DEFAULTS.items())}")
        if key == "out" and text:
            options[key] = text
        elif key != "out" and text.isdecimal():
            options[key] = int(text)
        else:
            raise ConfigError(f"{key}: expected something like {DEFAULTS[key]}, got {text!r}")
    if options["count"] < 1 or options["interpolate"] == 1:
        raise ConfigError("count must be at least 1, and interpolate 0 or at least 2")
    return options


if __name__ == "__main__":
    sys.exit(main())
