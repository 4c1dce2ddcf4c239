"""What is advised for few images: StyleGAN2 with adaptive augmentation, as the authors' `--cfg=auto` has it."""

from typing import Any

from dist_gan.advising.draft import Choice
from dist_gan.advising.task import Task, optimizers, power_of_two

BATCH = 64
TINY = 32
"""Up to this size, the authors' settings for CIFAR-10."""
FEWER, FEWEST = 5000, 1000
"""Images below which gamma is twice and four times as large."""


def gamma(size: int, batch: int, distinct: int) -> tuple[float, str]:
    """The weight of R1, and why."""
    if size <= TINY:
        base, why = 0.01, "the authors' for CIFAR-10"
    else:
        base, why = 0.0002 * size**2 / batch, "0.0002 * size^2 / batch, the authors' rule"
    factor = 4 if distinct < FEWEST else 2 if distinct < FEWER else 1
    more = f", {factor} times as much for {distinct:,} images" if factor > 1 else ""
    return float(f"{base * factor:.3g}"), (
        f"Gamma: {why}{more}. Try others of this number first: 2 and 4 times as much, half and a quarter, and keep the "
        "one with the lowest FID (StyleGAN3's documentation). More is more stable and less diverse (stylegan3#71)."
    )


def stylegan2(task: Task) -> list[Choice]:
    """For images of the size that was advised."""
    size, machine = task.pictures.shape.height, task.machine
    tiny = size <= TINY
    group = 32 if tiny else 4
    group = task.batch(group, 4)
    batch = task.batch(BATCH, group)
    at_once = power_of_two(4096 / size * machine.memory / 8)
    weight, why = gamma(size, batch, task.distinct)
    penalties: list[dict[str, Any]] = [{"name": "r1", "weight": weight, "every": 16 * batch, "alone": True}]
    if not tiny:
        penalties.append({"name": "path_length", "weight": 2, "every": 4 * batch, "alone": True})
        why += " Every 16th update, and path length every 4th."
    networks = (
        {"mapping_layers": 2, "discriminator_architecture": "orig", "style_mixing": 0, "group": group}
        if tiny
        else {"mapping_layers": 2, "channel_base": 16_384, "group": group}
    )
    adam = {"learning_rate": 0.0025, "beta1": 0, "beta2": 0.99, "rescaled": True}
    # Theirs is rescaled for a path length penalty that the settings for CIFAR-10 do not have: 0.0025 * 4/5, 0.99^(4/5).
    own = {"learning_rate": 0.002, "beta1": 0, "beta2": 0.991992} if tiny else adam
    half_life = 500_000 if tiny else batch * 10_000 // 32
    return [
        Choice(
            "images",
            25_000_000,
            "The authors'; they find results quite reasonable around 5 million. With few images the best come early.",
        ),
        *task.batches(
            BATCH,
            group,
            "The authors' for several GPUs.",
            at_once,
            f"For {machine.what}: the authors need 8 GB for 4096 / size images at once. 0 where there is room.",
        ),
        task.precision("bf16", "Styles, the smallest maps and images stay in float32."),
        Choice("networks.name", "stylegan2", f"For {task.distinct:,} images: with ADA it is made for few."),
        *(Choice(f"networks.{key}", value) for key, value in networks.items()),
        *task.conditional(),
        Choice("objective.loss", {"name": "non_saturating", "real_target": 1}),
        Choice("objective.penalties", penalties, why),
        *optimizers(own, adam, "As the authors'."),
        Choice(
            "ema.half_life_images",
            half_life,
            "The authors' for CIFAR-10." if tiny else "batch * 10 / 32 thousand, the authors' rule.",
        ),
        Choice("ema.ramp", 0.05),
        *_augment(task, batch),
    ]


def _augment(task: Task, batch: int) -> list[Choice]:
    return [
        Choice(
            "augment.name",
            "ada",
            f"D sees augmented images, the more the better it knows {task.distinct:,} images by heart (Karras et al. "
            "2020). Where its strength goes beyond 0.8, augmentations show in the samples, turned or recolored "
            "(stylegan2-ada#95, stylegan2-ada-pytorch#232): a smaller pipe (bg, blit) or more images help.",
        ),
        Choice("augment.pipe", "bgc"),
        Choice("augment.target", 0.6),
        Choice("augment.every", 4 * batch),
        *task.unmirrored(),
    ]
