"""What is known when the settings of a recipe are written down, and what several recipes have in common."""

from dataclasses import dataclass
from typing import Any

from dist_gan.advising.draft import Choice
from dist_gan.advising.machine import Machine
from dist_gan.advising.pictures import Pictures

FEW_IMAGES = 50_000
"""Below this many images, D sees augmented ones. ADA's authors saw it help with 30,000 images and fewer, a little with
70,000, and not with 140,000."""


@dataclass(frozen=True)
class Task:
    """Images and machine."""

    distinct: int
    """Images, each copy counted once."""
    usable: int
    pictures: Pictures
    machine: Machine

    @property
    def is_few(self) -> bool:
        """Whether D would learn them by heart."""
        return self.distinct < FEW_IMAGES

    def batch(self, wanted: int, multiple: int) -> int:
        """`wanted`, halved until there are as many images, but no less than `multiple`."""
        while wanted > self.usable and wanted > multiple:
            wanted //= 2
        return wanted

    def batches(self, wanted: int, multiple: int, reason: str, microbatch: int = 0, why: str = "") -> list[Choice]:
        """The batch, and the microbatch where it is smaller."""
        batch = self.batch(wanted, multiple)
        few = f"{self.usable:,} images allow no more. " if batch < wanted else ""
        found = [Choice("batch_size", batch, few + reason)]
        if 0 < microbatch < batch:
            found.append(Choice("microbatch", max(microbatch, multiple), why))
        return found

    def conditional(self) -> list[Choice]:
        """Networks that are given the class, where there are classes."""
        return [Choice("networks.conditional", True, "Each class on demand.")] if self.pictures.labels else []

    def unmirrored(self) -> list[Choice]:
        """ADA without flips, where images are not mirrored."""
        if self.pictures.flip:
            return []
        return [Choice("augment.xflip", 0, "As data.flip: mirrored images do not belong to this set.")]

    def diffaugment(self) -> list[Choice]:
        """DiffAugment where there are few images."""
        if not self.is_few:
            return []
        return [
            Choice(
                "augment.name",
                "diffaugment",
                f"{self.distinct:,} different images are few: D would learn them by heart. It sees them moved, "
                f"recolored and cut instead (Zhao et al. 2020). Advised below {FEW_IMAGES:,} images.",
            )
        ]

    def precision(self, newer: str, why: str) -> Choice:
        """`newer` on a GPU that computes in bfloat16, else fp32."""
        if self.machine.memory and self.machine.has_bf16:
            return Choice("precision", newer, why)
        return Choice(
            "precision", "fp32", "This GPU has no bfloat16." if self.machine.memory else "A CPU gains by no other."
        )


def power_of_two(number: float) -> int:
    """The largest one that is no larger, at least 1."""
    return 1 << max(0, int(number).bit_length() - 1)


def optimizers(generator: dict[str, Any], discriminator: dict[str, Any], reason: str) -> list[Choice]:
    """The settings of both players' optimizers."""
    settings = {f"generator_optimizer.{key}": value for key, value in generator.items()}
    settings |= {f"discriminator_optimizer.{key}": value for key, value in discriminator.items()}
    first = next(iter(settings))
    return [Choice(key, value, reason if key == first else "") for key, value in settings.items()]
