"""From what was seen of a folder of images to a config that is likely to work."""

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from dist_gan.advising.draft import Choice, draft
from dist_gan.advising.machine import Machine
from dist_gan.advising.pictures import Pictures, pictures
from dist_gan.advising.r3gan import r3gan
from dist_gan.advising.small import dcgan, sngan
from dist_gan.advising.stylegan2 import stylegan2
from dist_gan.advising.task import FEW_IMAGES, Task
from dist_gan.config.command_line import complete
from dist_gan.data.examination import Examined
from dist_gan.data.fetch import on_disk_only
from dist_gan.errors import ConfigError, FeaturesMissing
from dist_gan.formatting import plural
from dist_gan.metrics.features import Features
from dist_gan.metrics.inception import Inception
from dist_gan.metrics.lite0 import EfficientNetLite0

FEWEST = 16
"""Images below which nothing is advised."""
SMALL_GPU = 7
"""GB of a GPU below which networks are small."""
VERY_FEW = 1000
"""Images below which a GAN of one's own is likely to fail."""
FEW_FOR_FID = 5000
"""Images below which the kernel distance is computed too: FID is biased where there are few."""


def advise(examined: Examined, path: str, machine: Machine, white: float = 0) -> str:
    """The config as YAML, each choice with its reason.

    Args:
        examined: what was seen of the images.
        path: the folder, as it is to stand in the config.
        machine: what it is meant for.
        white: as `data.white`.

    Raises:
        ConfigError: there are too few images, or such a config would have a mistake.
    """
    if examined.usable < FEWEST:
        raise ConfigError(f"{path}: {plural(examined.usable, 'image')}, and a GAN needs {FEWEST} at the very least")
    seen, recipe = _networks(examined, path, machine, white)
    images = next(choice.value for choice in recipe if choice.key == "images")
    choices = [
        Choice("run", f"runs/{name_of(path)}"),
        *recipe,
        *seen.choices,
        *_cadence(images),
        *_evaluation(examined, machine, images),
    ]
    order = ("run", "images", "batch_size", "microbatch", "discriminator_turns", "precision", "data")
    choices.sort(key=lambda each: order.index(top) if (top := each.key.partition(".")[0]) in order else len(order))
    text = draft(_head(examined, path, machine), choices)
    if mistakes := complete(text).mistakes(1):
        raise ConfigError("\n".join(mistakes))
    return text


def name_of(path: str) -> str:
    """The folder's name, as a file may be called."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", Path(path).expanduser().resolve().name).strip("._-") or "images"


def _networks(examined: Examined, path: str, machine: Machine, white: float) -> tuple[Pictures, list[Choice]]:
    """By the machine, then by the number of images."""
    recipe, most, why = _recipe(examined.distinct, machine)
    seen = pictures(examined, path, most, why, rectangles=recipe is dcgan, white=white)
    return seen, recipe(Task(examined.distinct, examined.usable, seen, machine))


def _recipe(distinct: int, machine: Machine) -> tuple[Callable[[Task], list[Choice]], int, str]:
    """The recipe, and the largest size that is advised, with the reason."""
    if not machine.memory:
        return dcgan, 32, "32 is what a CPU trains in hours"
    if machine.memory < SMALL_GPU:
        return sngan, 64, f"64 is what a GPU of less than {SMALL_GPU} GB trains in days"
    few = distinct < FEW_IMAGES
    most = 128 if machine.memory < (12 if few else 40) else 256
    reason = f"{most} is the most that is advised for {machine.what}; days become weeks with each doubling"
    return (stylegan2 if few else r3gan), most, reason


def _cadence(images: int) -> list[Choice]:
    return [
        Choice(
            "track.every", _round(images / 500), "Curves of 500 points, 100 grids of samples, a checkpoint 50 times."
        ),
        Choice("sample.every", _round(images / 100)),
        Choice("save.every", _round(images / 50)),
    ]


def _evaluation(examined: Examined, machine: Machine, images: int) -> list[Choice]:
    features, missing = features_here(machine)
    if features is None:
        return [Choice("evaluate", [], f"Nothing is evaluated: {missing}")]
    every = _round(images / (25 if machine.memory else 5))
    fakes = 50_000 if machine.memory else 5_000
    common = {"features": features, "every": every}
    metrics = [{"name": "fid", **common, "images": fakes}]
    reason = f"{fakes:,} samples against all images; compare only FIDs of as many, by the same features."
    if examined.usable < FEW_FOR_FID:
        subset = min(1000, examined.usable // 2)
        metrics.append({"name": "kid", **common, "images": min(fakes, 10_000), "subset_size": subset})
        reason += f" KID too: with fewer than {FEW_FOR_FID:,} images FID is biased (Karras et al. 2020)."
    return [
        Choice("evaluate", metrics, reason),
        Choice("save.best", "fid", "The best checkpoint is kept: FID often rises again, with few images above all."),
    ]


def features_here(machine: Machine) -> tuple[str | None, str]:
    """The features whose weights are here, those of the papers first where there is a GPU; else why there are none."""
    choice: tuple[type[Features], ...] = (Inception, EfficientNetLite0) if machine.memory else (EfficientNetLite0,)
    reason = ""
    with on_disk_only():
        for features in choice:
            try:
                features().open(torch.device("cpu"))
                return str(features.model_fields["name"].default), ""
            except FeaturesMissing as error:
                reason = str(error).removeprefix("features: ")
    return None, reason


def _round(number: float) -> int:
    """To 1, 2 or 5 times a power of ten."""
    power = 10 ** math.floor(math.log10(number))
    return round(max(step * power for step in (1, 2, 5) if step * power <= number * 1.001))


def _head(examined: Examined, path: str, machine: Machine) -> Sequence[str]:
    few = []
    if examined.distinct < VERY_FEW:
        few = [
            "",
            f"{examined.distinct:,} different images are very few: expect samples that repeat them, or a collapse "
            "(stylegan2-ada#20, stylegan2-ada-pytorch#199). begin_from a model of similar images helps more than any "
            "number below, with freeze_discriminator_layers.",
        ]
    return [
        f"Written by dist_gan.advise for {plural(examined.usable, 'image')} in {path}, for {machine.what}.",
        "",
        "Rules of thumb, each with its reason and its source (docs/own_data.md): a beginning that is likely to work, "
        "not the best. #N are issues of the repositories that are named.",
        *few,
    ]
