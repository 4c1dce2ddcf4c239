"""What is advised for many images: R3GAN, by its authors' presets."""

import math
from typing import Any

from dist_gan.advising.draft import Choice
from dist_gan.advising.task import Task, optimizers, power_of_two

END = 20_000_000
"""Images seen when all schedules end, in the presets of one GPU server."""
SMALL = 32
"""Up to this size, what the presets for CIFAR-10 have in common with it."""


def gamma(size: int, *, labels: bool) -> tuple[float, str]:
    """The weight of R1 and R2 at the start (a tenth at the end), and why.

    Between the presets along straight lines in logarithms. From 64 on the exponent is that between FFHQ-64 (2) and
    FFHQ-256 (150); at 32 it is the geometric mean of CIFAR-10 (0.05) and ImageNet-32 (0.5), and goes with the square
    of the size below.
    """
    exponent = math.log(150 / 2) / math.log(256 / 64)
    at_32, at_64 = math.sqrt(0.05 * 0.5), 1.0 if labels else 2.0
    if size >= 64:
        value, between = at_64 * (size / 64) ** exponent, "FFHQ-64 (2) and FFHQ-256 (150)"
        if labels:
            between = f"ImageNet-64 (1), growing as {between}"
    else:
        value, between = at_32 * (size / 32) ** 2, "CIFAR-10 (0.05) and ImageNet-32 (0.5)"
    return float(f"{value:.2g}"), (
        f"Gamma, for both penalties; a tenth at the end. From the presets: {between}. They follow no simple rule "
        "(R3GAN#5): try 2 and 4 times as much, half and a quarter."
    )


def r3gan(task: Task) -> list[Choice]:
    """For images of the size that was advised."""
    size, machine = task.pictures.shape.height, task.machine
    small = size <= SMALL
    batch, strength, half_life = (512, 0.55, 5_000_000) if small else (256, 0.3, 500_000)
    weight, why = gamma(size, labels=task.pictures.labels)
    at_once = power_of_two(8192 / size * machine.memory / 48)
    penalties: list[dict[str, Any]] = [
        {"name": name, "weight": weight, "schedule": _cosine(1, 0.1), "precision": "mixed"} for name in ("r1", "r2")
    ]
    adam = {
        "learning_rate": 2e-4,
        "beta1": 0,
        "beta2": 0.9,
        "beta2_schedule": _cosine(1, 0.1),
        "schedule": _cosine(1, 0.25),
    }
    preset = "CIFAR-10" if small else "FFHQ"
    return [
        Choice(
            "images",
            25_000_000,
            "Schedules end at 20 million; more images go on improving it (CIFAR-10: 250 million; R3GAN#18).",
        ),
        *task.batches(
            batch,
            1,
            f"The preset for {preset}.",
            at_once,
            f"For {machine.what}: the presets have 8192 / size images on 48 GB. 0, where the doctor finds room.",
        ),
        task.precision("bf16", "As the authors', in penalties too; the smallest maps stay in float32."),
        Choice(
            "networks.name",
            "r3gan",
            f"For {task.distinct:,} images: the simplest of the strong ones. It has no setting for few.",
        ),
        *([Choice("networks.full_precision_up_to", size // 16)] if size > 64 else []),  # all but the four largest maps
        *task.conditional(),
        Choice("objective.loss.name", "relativistic"),
        Choice("objective.fresh_reals", True),
        Choice("objective.penalties", penalties, why),
        *optimizers(adam, adam, "As the presets: learning rate 2e-4 to 5e-5, beta2 0.9 to 0.99."),
        Choice("ema.half_life_images", half_life, f"The preset for {preset}, reached along its schedule."),
        Choice("ema.ramp", 0),
        Choice("ema.schedule", _cosine(0, 1)),
        *_augment(task, strength, preset),
    ]


def _augment(task: Task, strength: float, preset: str) -> list[Choice]:
    factors = {"brightness": 0.5, "contrast": 0.5, "lumaflip": 0.5, "hue": 0.5, "saturation": 0.5, "cutout": 1}
    return [
        Choice(
            "augment.name",
            "ada",
            f"The preset for {preset}: a strength that rises to {strength} along a schedule, without feedback.",
        ),
        Choice("augment.pipe", "bg"),
        Choice("augment.target", None),
        Choice("augment.strength", strength),
        Choice("augment.schedule", _cosine(0, 1)),
        *(Choice(f"augment.{key}", value) for key, value in factors.items()),
        *task.unmirrored(),
    ]


def _cosine(start: float, final: float) -> dict[str, Any]:
    return {"name": "cosine", "end": END, "start": start, "final": final}
