"""Images from a run or a model: `python -m dist_gan.sample RUN_OR_MODEL [key=value ...]` (see `--help`)."""

import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__" and not __package__:
    # `python dist_gan/sample.py` puts dist_gan/ itself first: its modules would hide others of the same name
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
from torch import Tensor

from dist_gan.arguments import Flag, Number, Text, Whole, read_options, run_command
from dist_gan.errors import ConfigError
from dist_gan.networks import Generator
from dist_gan.run.restore import class_names, find_model, load_generator
from dist_gan.sampling.asked import asked_classes
from dist_gan.sampling.generate import FORWARD, chunks, sample_classes, sample_latents, slerp
from dist_gan.sampling.pictures import FORMATS, save_array, save_grid, save_image
from dist_gan.sampling.samples import samples
from dist_gan.sampling.video import check_video, save_video
from dist_gan.sampling.walk import walk

USAGE = """usage: python -m dist_gan.sample RUN_OR_MODEL [key=value ...]

  RUN_OR_MODEL       a run's folder (its newest valid checkpoint is used), one of its checkpoints, or a folder with
                     ema.safetensors and config.yaml of one; a folder that dist_gan.export wrote, or user/name of such
                     a model on the Hugging Face Hub
  count=64           how many images; image i of a seed is the same for every count
  seed=0             which images
  out=samples.png    a file ending in .png, .jpg, .jpeg or .webp: one grid; in .npy: an array uint8 [N, H, W, C];
                     a name without an ending, or with a / at its end: a folder of single files 000000.png, ...
  classes=all        of a conditional run: which classes, by number or name, such as 3,7 or cat,dog; a column each, or
                     one class as a grid
  per_class=8        of a conditional run: how many images of each class, in place of count
  interpolate=0      with K > 1: `count` strips of K images each, from image i to image i + 1, one strip a row; in a
                     conditional run all of one class, the first one or that of classes=
  truncation=1       of networks with styles: below 1, more typical and less varied images; 0, one image for all
  which=last         of a run: its newest checkpoint; best, the best one; or the one with this many images
  average=ema        of a run with several averages of G: which one, ema, ema_2, ...
  video=walk.mp4     in place of out: a walk from latent to latent that ends where it began, count=16 at once; a name
                     ending in .mp4 or .gif. Of a conditional run each column is a class, with per_class=4 rows
  seconds=8 fps=25   of the video: its length, and frames a second
  stops=4            of the video: from how many images to the next, and back to the first
  trust_code=false   true: execute the code of the networks, where these are a class of somebody's own
"""
VIDEO = {"seconds": 8, "fps": 25, "stops": 4}
"""Options of a video alone, and their values where they are not given."""
OPTIONS = {
    "count": Whole(None, least=1, most=10**12, example="64"),
    "seed": Whole(0),
    "per_class": Whole(None, least=1, most=10**9, example="8"),
    "interpolate": Whole(None, most=10**6, example="0"),
    "out": Text(None, example="samples.png"),
    "classes": Text(None, example="all"),
    "truncation": Number(None, example="0.7"),
    "which": Text("last"),
    "average": Text("ema"),
    "video": Text(None, example="walk.mp4"),
    "seconds": Whole(None, least=1, most=3600, example="8"),
    "fps": Whole(None, least=1, most=120, example="25"),
    "stops": Whole(None, least=2, most=1000, example="4"),
    "trust_code": Flag(),
}
COUNT, PER_CLASS, OUT = 64, 8, "samples.png"
"""Where they are not given."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make images as the command line says; returns the exit code."""
    return run_command("dist_gan.sample", USAGE, _sample, arguments)


def _sample(arguments: Sequence[str]) -> str:
    options = read_options(arguments[1:], OPTIONS)
    trust_code, which, average, truncation = (
        options.pop(key) for key in ("trust_code", "which", "average", "truncation")
    )
    if options["interpolate"] == 1:
        raise ConfigError("interpolate: expected 0, or at least 2 images of a strip, got 1")
    _check_video(options)
    _check_target(options["out"] or OUT)
    passed_over: list[str] = []
    path = find_model(Path(arguments[0]), passed_over, which)
    for line in passed_over:
        print(f"dist_gan.sample: {line}", file=sys.stderr)
    write = _write if options["video"] is None else _write_video
    given = {key: value for key, value in options.items() if value is not None}
    generator = load_generator(path, trust_code=trust_code, average=average)
    if truncation is not None:
        generator = generator.truncated(truncation)
    return f"{write(generator, class_names(path), **given)} (from {path})"


def _write(generator: Generator, names: Sequence[str], *, out: str = OUT, **options: Any) -> str:
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


def _write_video(
    generator: Generator,
    names: Sequence[str],
    *,
    video: str,
    count: int | None = None,
    seed: int = 0,
    classes: str | None = None,
    per_class: int | None = None,
    seconds: int = VIDEO["seconds"],
    fps: int = VIDEO["fps"],
    stops: int = VIDEO["stops"],
) -> str:
    asked = _asked_classes(generator, names, classes, per_class, count)
    frames = walk(generator, seconds * fps, stops=stops, count=count, per_class=per_class, seed=seed, classes=asked)
    target = Path(video)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        save_video(frames, target, fps)
    except OSError as error:
        raise ConfigError(f"video: cannot write {target} ({error.strerror or error}). Choose another place") from None
    return str(target)


def _asked(
    generator: Generator,
    names: Sequence[str],
    *,
    count: int | None = None,
    seed: int = 0,
    classes: str | None = None,
    per_class: int | None = None,
    interpolate: int = 0,
) -> tuple[Iterator[Tensor], int, int | None]:
    """Batches uint8 [n, C, H, W], how many images they are, and the columns of a grid (None: about square)."""
    asked = _asked_classes(generator, names, classes, per_class, count)
    if per_class is not None and interpolate:
        raise ConfigError("per_class: give it or interpolate, not both")
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
    return samples(generator, count, seed, asked), count, len(asked) if asked and len(asked) > 1 else None


def _asked_classes(
    generator: Generator, names: Sequence[str], classes: str | None, per_class: int | None, count: int | None
) -> list[int] | None:
    if not generator.classes:
        for key, given in (("classes", classes), ("per_class", per_class)):
            if given is not None:
                raise ConfigError(f"{key}: this run has no classes (networks.conditional=false). Leave {key} out")
    if per_class is not None and count is not None:
        raise ConfigError("per_class: give it or count, not both")
    return None if classes is None else asked_classes(classes, names)


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


def _check_video(options: Mapping[str, Any]) -> None:
    if options["video"] is None:
        if given := [key for key in VIDEO if options[key] is not None]:
            raise ConfigError(f"{given[0]}: only with video=NAME.mp4 or video=NAME.gif")
        return
    if given := [key for key in ("out", "interpolate") if options[key] is not None]:
        raise ConfigError(f"video: give it or {given[0]}, not both")
    check_video(Path(options["video"]), options["fps"] or VIDEO["fps"])


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
