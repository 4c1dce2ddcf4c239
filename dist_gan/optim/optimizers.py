"""How a player moves, as configuration."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from dist_gan.part import Part
from dist_gan.optim.schedules import AnySchedule, Constant


class Adam(Part):
    """Adam (Kingma and Ba 2015)."""

    name: Literal["adam"] = "adam"
    learning_rate: float = Field(2e-4, gt=0)
    """Step size, before the schedule's factor."""
    beta1: float = Field(0.5, ge=0, lt=1)
    """Decay of the first moment."""
    beta2: float = Field(0.999, ge=0, lt=1)
    """Decay of the second moment."""
    eps: float = Field(1e-8, gt=0)
    """Added to the root of the second moment."""
    clip: float = Field(0.0, ge=0)
    """Largest norm of the whole gradient; longer ones are scaled down. 0 is off."""
    schedule: AnySchedule = Constant()
    """Factor of the learning rate, by images seen."""

    def build(self, parameters: list[Tensor]) -> torch.optim.Adam:
        """Fused: one kernel for all parameters, which also knows how to skip a step without asking the host."""
        return torch.optim.Adam(
            parameters, lr=self.learning_rate, betas=(self.beta1, self.beta2), eps=self.eps, fused=True
        )
