"""Schedules: images seen to a factor. Times are in images, never in fractions of the run, so that setting more images
later does not change what was learnt so far."""

import math
from abc import abstractmethod
from typing import Annotated, Literal

from pydantic import Field, model_validator

from dist_gan.own_parts import OwnPart
from dist_gan.part import Part


class Schedule(Part):
    """A factor (of a learning rate) as a function of the images seen."""

    @abstractmethod
    def factor(self, images_seen: int) -> float:
        """The factor for the update that begins at `images_seen`."""


class Constant(Schedule):
    """Always 1."""

    name: Literal["constant"] = "constant"

    def factor(self, images_seen: int) -> float:
        return 1.0


class _Ramp(Schedule):
    begin: int = Field(0, ge=0)
    """Images seen when the change begins."""
    end: int = Field(gt=0)
    """Images seen when the change is complete."""
    start: float = Field(1.0, ge=0)
    """Factor until `begin`."""
    final: float = Field(0.0, ge=0)
    """Factor from `end` on."""

    @model_validator(mode="after")
    def _ordered(self) -> "_Ramp":
        if self.end <= self.begin:
            raise ValueError(f"end to come after begin ({self.begin}), not {self.end}")
        return self

    def _progress(self, images_seen: int) -> float:
        return min(1.0, max(0.0, (images_seen - self.begin) / (self.end - self.begin)))


class Linear(_Ramp):
    """From `start` to `final` along a straight line: a decay, or with start 0 and final 1 a warm-up."""

    name: Literal["linear"] = "linear"

    def factor(self, images_seen: int) -> float:
        return self.start + (self.final - self.start) * self._progress(images_seen)


class Cosine(_Ramp):
    """From `start` to `final` along half a cosine (Loshchilov and Hutter 2017)."""

    name: Literal["cosine"] = "cosine"

    def factor(self, images_seen: int) -> float:
        return self.final + (self.start - self.final) * (1 + math.cos(math.pi * self._progress(images_seen))) / 2


AnySchedule = Annotated[Constant | Linear | Cosine, Field(discriminator="name"), OwnPart(Schedule)]
