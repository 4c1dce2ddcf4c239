"""What is advised where there is no GPU, or a small one: DCGAN, SNGAN."""

from dist_gan.advising.draft import Choice
from dist_gan.advising.task import Task, optimizers

TURNS = 5
"""Of D, for each of G's, in SNGAN."""


def dcgan(task: Task) -> list[Choice]:
    """DCGAN with the settings of the shipped configs (Radford et al. 2016; one-sided label smoothing)."""
    images = min(3_000_000, max(500_000, 100 * task.distinct))
    adam = {"learning_rate": 2e-4, "beta1": 0.5}
    return [
        Choice(
            "images",
            _rounded(images),
            "Hours on a CPU: the doctor says how many. More can be set at any time, and the same command goes on.",
        ),
        *task.batches(64, 16, "That of the shipped DCGANs."),
        task.precision("fp32", ""),
        Choice("networks.name", "dcgan", "There is no GPU, and of these networks a CPU trains DCGAN in hours."),
        Choice("networks.width", 64),
        *([Choice("networks.start", task.pictures.start)] if task.pictures.start != "4x4" else []),
        *task.conditional(),
        Choice(
            "objective.loss",
            {"name": "non_saturating", "real_target": 0.9},
            "No gradient penalty, and so no gamma: this D's batch statistics mix samples.",
        ),
        *optimizers(adam, adam, "As Radford et al. 2016."),
        Choice("ema.half_life_images", 10_000, "Some hundred updates. Longer is smoother, and later."),
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


def _rounded(number: int) -> int:
    """To two digits."""
    power = 10 ** (len(str(number)) - 2)
    return number // power * power
