"""Images from a run: `python -m dist_gan.sample RUN_OR_CHECKPOINT [key=value ...]` (see `--help`)."""

import difflib
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

from dist_gan.errors import ConfigError, RunError
from dist_gan.networks import Generator
from dist_gan.run.restore import class_names, find_model, load_generator
from dist_gan.sampling.asked import asked_classes
from dist_gan.sampling.generate import FORWARD, chunks, sample_classes, sample_latents, slerp
from dist_gan.sampling.pictures import FORMATS, save_array, save_grid, save_image
from dist_gan.sampling.samples import samples
from dist_gan.sampling.video import check_video, save_video
from dist_gan.sampling.walk import walk

USAGE = """usage: python -m dist_gan.sample RUN_OR_CHECKPOINT [key=value ...]

  RUN_OR_CHECKPOINT  a run's folder (its newest valid checkpoint is used), one of its checkpoints, or a folder with
                     ema.safetensors and config.yaml of one
  count=64           how many images; image i of a seed is the same for every count
  seed=0             which images
  out=samples.png    a file ending in .png, .jpg, .jpeg or .webp: one grid; in .npy: an array uint8 [N, H, W, C];
                     a name without an ending, or with a / at its end: a folder of single files 000000.png, ...
  classes=all        of a conditional run: which classes, by number or name, such as 3,7 or cat,dog; a column each, or
                     one class as a grid
  per_class=8        of a conditional run: how many images of each class, in place of count
  interpolate=0      with K > 1: `count` strips of K images each, from image i to image i + 1, one strip a row; in a
                     conditional run all of one class, the first one or that of classes=
  which=last         of a run: its newest checkpoint; best, the best one; or the one with this many images
  video=walk.mp4     in place of out: a walk from latent to latent that ends where it began, count=16 at once; a name
                     ending in .mp4 or .gif. Of a conditional run each column is a class, with per_class=4 rows
  seconds=8 fps=25   of the video: its length, and frames a second
  stops=4            of the video: from how many images to the next, and back to the first
  trust_code=false   true: execute the code of the networks, where these are a class of somebody's own
"""
TRUST = "trust_code"
VIDEO = {"seconds": 8, "fps": 25, "stops": 4}
NUMBERS = {"count": 64, "seed": 0, "per_class": 8, "interpolate": 0, **VIDEO}
TEXTS = {"out": "samples.png", "classes": "all", "which": "last", "video": "walk.mp4"}
LARGEST = {"count": 10**12, "seed": 2**63 - 1, "per_class": 10**9, "interpolate": 10**6}
LEAST = {"seconds": 1, "fps": 1, "stops": 2}
LARGEST |= {"seconds": 3600, "fps": 120, "stops": 1000}


def main(arguments: Sequence[str] | None = None) -> int:
    """Make images as the command line says; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or {"-h", "--help"} & set(arguments):
        print(USAGE, end="", file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    try:
        options = _options([a for a in arguments[1:] if not a.startswith(f"{TRUST}=")])
        trust_code = _trusts(arguments[1:])
        _check_video(options)
        _check_target(options.get("out", TEXTS["out"]))
        passed_over: list[str] = []
        path = find_model(Path(arguments[0]), passed_over, options.pop("which", "last"))
        for line in passed_over:
            print(f"dist_gan.sample: {line}", file=sys.stderr)
        write = _write_video if "video" in options else _write
        written = write(load_generator(path, trust_code=trust_code), class_names(path), **options)
    except RunError as error:
        print(f"dist_gan.sample: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{written} (from {path})")
    return 0


def _write(generator: Generator, names: Sequence[str], *, out: str = TEXTS["out"], **options: Any) -> str:
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
        strips = NUMBERS["count"] if count is None else count
        own = (asked or [0])[0] if generator.classes else None
        return _strips(generator, strips, seed, interpolate, own), strips * interpolate, interpolate
    if generator.classes and count is None and (asked is not None or per_class is not None):
        asked = asked or list(range(generator.classes))
        count = len(asked) * (per_class or NUMBERS["per_class"])
    count = NUMBERS["count"] if count is None else count
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
    if "video" not in options:
        if given := [key for key in VIDEO if key in options]:
            raise ConfigError(f"{given[0]}: only with video=NAME.mp4 or video=NAME.gif")
        return
    if given := [key for key in ("out", "interpolate") if key in options]:
        raise ConfigError(f"video: give it or {given[0]}, not both")
    if too_small := [f"{key} at least {least}" for key, least in LEAST.items() if options.get(key, least) < least]:
        raise ConfigError(f"video: {', '.join(too_small)}")
    check_video(Path(options["video"]), options.get("fps", VIDEO["fps"]))


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


def _trusts(arguments: Sequence[str]) -> bool:
    given = [argument.partition("=")[2] for argument in arguments if argument.startswith(f"{TRUST}=")]
    if wrong := [text for text in given if text not in ("true", "false")]:
        raise ConfigError(f"{TRUST}: expected true or false, got {wrong[0]!r}")
    return given[-1:] == ["true"]


def _options(arguments: Sequence[str]) -> dict[str, Any]:
    known: dict[str, Any] = {**NUMBERS, **TEXTS, TRUST: "false"}
    options: dict[str, Any] = {}
    for argument in arguments:
        key, _, text = argument.partition("=")
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(f"{argument!r}: expected one of {', '.join(f'{k}={v}' for k, v in known.items())}{hint}")
        if key in TEXTS and text:
            options[key] = text
        elif key in NUMBERS and text.isdecimal():
            options[key] = int(text)
            if options[key] > LARGEST[key]:
                raise ConfigError(f"{key}: at most {LARGEST[key]:,}, got {text}")
        else:
            raise ConfigError(f"{key}: expected something like {key}={known[key]}, got {argument!r}")
    if 0 in (options.get("count"), options.get("per_class")) or options.get("interpolate") == 1:
        raise ConfigError("count and per_class must be at least 1, and interpolate 0 or at least 2")
    return options


if __name__ == "__main__":
    sys.exit(main())
