"""A program of a user's own: `python -m tests.support.script RUNS`, alone or under a launcher.

Own classes, images in memory, two precisions, an error in between, a resume; prints a line at the end on every rank.
"""

import sys

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from dist_gan import Config, Result, load_generator, samples, train
from dist_gan.objective.losses import Loss
from dist_gan.optim.schedules import Schedule


class Steep(Loss):
    slope: float = 2.0

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return softplus(-self.slope * real) + softplus(self.slope * fake)

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        return softplus(-self.slope * fake)


class Half(Schedule):
    at: int = 128

    def factor(self, images_seen: int) -> float:
        return 1.0 if images_seen < self.at else 0.5


IMAGES = np.random.default_rng(0).integers(0, 256, (64, 16, 16, 3), dtype=np.uint8)
LABELS = np.arange(64) % 3


def make(run: str, images: int, precision: str = "fp32", data: np.ndarray = IMAGES, **more: object) -> Result:
    config = Config.model_validate(
        {
            "run": run,
            "images": images,
            "batch_size": 8,
            "precision": precision,
            "networks": {"name": "mlp", "width": 4, "conditional": True},
            "objective": {"loss": Steep()},
            "generator_optimizer": {"name": "adam", "schedule": Half()},
            "track": {"wandb": "disabled"},
            "sample": {"count": 9},
            "console": "plain",
            **more,
        }
    )
    return train(config, data=data, labels=LABELS)


def main(runs: str) -> None:
    first = make(f"{runs}/a", 64)
    assert first.stopped_by == 0
    assert first.images_seen == 64
    assert first.metrics["D/loss"] > 0
    make(f"{runs}/a", 128)
    try:
        make(f"{runs}/a", 256, data=IMAGES[::-1].copy())
    except ValueError as error:
        refused = str(error)
    make(f"{runs}/b", 64, "fp64")
    G = load_generator(first.run, "cpu")
    made = torch.cat(list(samples(G, 20, classes=[2, 0])))
    assert made.shape == (20, 3, 16, 16)
    assert next(load_generator(f"{runs}/b", "cpu").parameters()).dtype == torch.float64
    sys.stdout.write(f"done: {'data' in refused}, {made.sum().item()}\n")


if __name__ == "__main__":
    main(sys.argv[1])
