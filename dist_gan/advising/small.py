"""What is advised where there is no GPU, or a small one: DCGAN's layers with R3GAN's objective, and SNGAN."""

from typing import Any

from dist_gan.advising.draft import Choice
from dist_gan.advising.task import Task, optimizers

TURNS = 5
"""Of D, for each of G's, in SNGAN."""


def dcgan(task: Task) -> list[Choice]:
    """Small networks of DCGAN, trained as R3GAN is (configs/stacked_mnist_small.yaml)."""
    images = _rounded(min(3_000_000, max(500_000, 100 * task.distinct)))
    adam = {"learning_rate": 4e-3, "schedule": _cosine(images, 0.05)}
    adam |= {"beta1": 0, "beta2": 0.9, "beta2_schedule": _cosine(images, 0.1)}
    return [
        Choice(
            "images",
            images,
            "Half an hour to some hours on a CPU: the doctor says how long. Schedules end here: to train longer, set "
            "them too.",
        ),
        *task.batches(64, 16, "That of the shipped DCGANs."),
        task.precision("fp32", ""),
        Choice(
            "networks.name",
            "dcgan",
            "There is no GPU: of what was tried a CPU trains these networks best (docs/recipes.md).",
        ),
        Choice("networks.width", 32, "A fourth of the work of the usual 64."),
        *([Choice("networks.start", task.pictures.start)] if task.pictures.start != "4x4" else []),
        Choice("networks.discriminator_norm", False, "So that the penalties are those of each sample."),
        *task.conditional(),
        Choice(
            "objective.loss.name",
            "relativistic",
            "Loss, penalties and schedules as in R3GAN (Huang et al. 2024). On a CPU better than DCGAN's own in the "
            "same time, for all images that were tried (docs/own_data.md).",
        ),
        Choice(
            "objective.penalties",
            [{"name": name, "weight": 0.3, "schedule": _cosine(images, 0.1)} for name in ("r1", "r2")],
            "Gamma, a tenth at the end: that of configs/stacked_mnist_small.yaml. Try twice as much, and half.",
        ),
        *optimizers(
            adam,
            adam,
            "Twenty times that of Radford et al. 2016: the best that was tried (docs/recipes.md).",
        ),
        Choice("ema.half_life_images", 5_000, "Eighty updates. Longer is smoother, and later."),
        *task.diffaugment(),
    ]


def sngan(task: Task) -> list[Choice]:
    """SNGAN as mimicry trains it (Miyato et al. 2018; Lee and Town 2020)."""
    images = 32_000_000
    decay = {"name": "linear", "end": images}
    adam = {"learning_rate": 2e-4, "beta1": 0, "beta2": 0.9, "schedule": decay}
    return [
        Choice("images", images, "100,000 turns of G, as mimicry. Learning rates reach 0 there: set their ends too."),
        *task.batches(64, 16, "That of SNGAN (mimicry)."),
        Choice("discriminator_turns", TURNS),
        task.precision("tf32", "Faster than fp32, and near to it."),
        Choice(
            "networks.name",
            "sngan",
            f"Small networks for {task.machine.what}: StyleGAN2 and R3GAN need more memory and time.",
        ),
        *task.conditional(),
        Choice("objective.loss.name", "hinge", "Spectral normalization in place of a penalty: there is no gamma."),
        *optimizers(adam, adam, "As SNGAN (mimicry)."),
        Choice("ema.half_life_images", 10_000, "mimicry has none. Some hundred updates are few, and samples calmer."),
        *task.diffaugment(),
    ]


def _cosine(end: int, final: float) -> dict[str, Any]:
    return {"name": "cosine", "end": end, "final": final}


def _rounded(number: int) -> int:
    """To two digits."""
    power = 10 ** (len(str(number)) - 2)
    return number // power * power
