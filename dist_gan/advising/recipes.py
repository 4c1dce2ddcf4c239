"""What is advised for each kind of networks: their keys, the objective, optimizers, batch, average, augmentation."""

from dataclasses import dataclass

from dist_gan.advising.draft import Choice
from dist_gan.advising.machine import Machine
from dist_gan.advising.pictures import Pictures

FEW_IMAGES = 50_000
"""Below this many images, D sees augmented ones. ADA's authors saw no more use of it between 70,000 and 140,000."""


@dataclass(frozen=True)
class Task:
    """What is known when a recipe is written down."""

    distinct: int
    """Images, each copy counted once."""
    usable: int
    pictures: Pictures
    machine: Machine


def fitting(batch: int, usable: int, multiple: int) -> int:
    """`batch`, halved until there are as many images, but no less than `multiple`."""
    while batch > usable and batch > multiple:
        batch //= 2
    return batch


def dcgan(task: Task) -> list[Choice]:
    """DCGAN with the settings of the shipped configs (Radford et al. 2016; one-sided label smoothing)."""
    batch = fitting(64, task.usable, 16)
    few = task.distinct < FEW_IMAGES
    augment = [
        Choice(
            "augment.name",
            "diffaugment",
            f"{task.distinct:,} different images are few: D would learn them by heart. It sees them moved, recolored "
            f"and cut instead (Zhao et al. 2020). Below {FEW_IMAGES:,} images.",
        )
    ]
    adam = {"learning_rate": 2e-4, "beta1": 0.5}
    return [
        Choice("batch_size", batch, "The shipped DCGANs' batch." if batch == 64 else "As many as the images allow."),
        Choice("networks.name", "dcgan", "No GPU: the only convolutional networks here that a CPU trains in hours."),
        Choice("networks.width", 64),
        *([Choice("networks.start", task.pictures.start)] if task.pictures.start != "4x4" else []),
        *([Choice("networks.conditional", True, "Each class on demand.")] if task.pictures.labels else []),
        Choice(
            "objective.loss",
            {"name": "non_saturating", "real_target": 0.9},
            "No gradient penalty, and so no gamma: this D's batch statistics mix samples.",
        ),
        *(
            Choice(f"{player}_optimizer.{key}", value)
            for player in ("generator", "discriminator")
            for key, value in adam.items()
        ),
        Choice("ema.half_life_images", 10_000, "As StyleGAN2-ADA at this batch: batch * 10 / 32 thousand, or less."),
        *(augment if few else []),
    ]
