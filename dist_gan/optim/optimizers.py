"""How a player moves, as configuration. To add an optimizer: write the class and put its name into `AnyOptimizer`.

All have one contract: *a gradient that is not finite leaves the weights as they were*, decided on the device.
"""

from abc import abstractmethod
from collections.abc import Collection, Mapping
from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import Field, PrivateAttr, model_validator
from torch import Tensor

from dist_gan.errors import ConfigError
from dist_gan.optim.factors import LayerFactor, factors_of, regroup
from dist_gan.optim.scheduled_adam import ScheduledAdam
from dist_gan.optim.schedules import AnySchedule, Constant
from dist_gan.own_parts import OwnPart
from dist_gan.part import Part

RATE, NEW_SQUARES = "learning_rate", "1 - beta2"
"""Names of numbers that change during a run."""


class Optimizer(Part):
    """A step size and a rule."""

    skips: ClassVar[bool] = False
    """Whether what `build` returns leaves everything as it was where its attribute `found_inf` is 1, as torch's fused
    Adam does. For others `step` takes care of it, for the price of a copy of the weights; what such an optimizer
    creates in its first step then starts from zero gradients if that step is skipped."""
    separate: ClassVar[bool] = False
    """Whether each parameter is moved by its own gradient and state alone, whatever the others are. `shard` needs it:
    each process then moves some of them."""

    learning_rate: float = Field(2e-4, gt=0)
    """Step size, before the schedule's factor."""
    clip: float = Field(0.0, ge=0)
    """Largest norm of the complete gradient; a longer one is scaled down. 0 is off."""
    schedule: AnySchedule = Constant()
    """Factor of the learning rate, by images seen."""
    factors: tuple[LayerFactor, ...] = ()
    """Factors of the learning rate by the names of parameters: [{pattern: "mapping.*", factor: 0.01}]. Where several
    patterns fit, the first counts."""

    @abstractmethod
    def build(self, parameters: list[Tensor], learning_rate: Tensor) -> torch.optim.Optimizer:
        """torch's optimizer. `learning_rate` is a [] tensor that is refilled before each turn: it must be read on the
        device, as the "lr" of the group of parameters, not copied."""

    def build_with(self, parameters: list[Tensor], numbers: Mapping[str, Tensor]) -> torch.optim.Optimizer:
        """As `build`, with all of `numbers` as [] tensors: for an optimizer that states numbers of its own."""
        return self.build(parameters, numbers[RATE])

    def numbers(self, images_seen: int) -> dict[str, float]:
        """What changes during a run, by name, as it is in the turn that begins at `images_seen`: always the learning
        rate, and the same names at any time. One that overrides it adds to what this returns."""
        rate = self.rate(images_seen)
        return {RATE: rate, **{_scaled(each.factor): rate * each.factor for each in self.factors}}

    def assemble(
        self,
        named: Mapping[str, Tensor],
        numbers: Mapping[str, Tensor],
        key: str = "optimizer",
        own: Collection[str] | None = None,
    ) -> torch.optim.Optimizer:
        """What moves the parameters `named`, in groups by their factors.

        Args:
            named: parameters by name.
            numbers: a [] tensor for each of `self.numbers`, refilled before each turn.
            key: the config's key of this optimizer, for messages.
            own: the names of those that it moves, perhaps none; None: all.

        Raises:
            ConfigError: a pattern of `factors` is never the first that fits, or what is built has several groups.
        """
        moved = {name: parameter for name, parameter in named.items() if own is None or name in own}
        # torch builds nothing that moves nothing, so something else is there until it is built.
        optimizer = self.build_with(list(moved.values()) or [torch.zeros_like(numbers[RATE])], numbers)
        if not moved:
            for group in optimizer.param_groups:
                group["params"] = []
        if self.factors:
            if (groups := len(optimizer.param_groups)) != 1:
                raise ConfigError(
                    f"{key}.factors: {type(optimizer).__name__} has {groups} groups of parameters, each with a rate of "
                    "its own, and factors are for one group. Leave factors out"
                )
            found = factors_of(self.factors, named, f"{key}.factors")
            rates = {factor: numbers[_scaled(factor)] for factor in {each.factor for each in self.factors}}
            regroup(optimizer, {moved[name]: rates.get(found[name], numbers[RATE]) for name in moved})
        return optimizer

    def rescale(self, turns: float) -> Self:
        """This optimizer for a player that moves once more in some of its turns, because of penalties that are `alone`.
        Most optimizers stay as they are.

        Args:
            turns: one such move in how many turns. Of several such penalties only the one that is due most often
                counts, whether the others move in the same turns or not. Infinity: there is none.
        """
        return self

    def rate(self, images_seen: int) -> float:
        """The learning rate of the turn that begins at `images_seen`."""
        return self.learning_rate * self.schedule.factor(images_seen)

    @torch.no_grad()
    def step(self, optimizer: torch.optim.Optimizer, skipped: Tensor) -> None:
        """One step of what `build` returned. skipped: [], 1 where a gradient is not finite (nothing moves), else 0."""
        if self.skips:
            optimizer.found_inf = skipped.float()  # type: ignore[attr-defined]  # how GradScaler asks it too
            optimizer.step()
            return
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        skip = skipped.bool()
        for parameter in parameters:
            parameter.grad = torch.where(skip, 0.0, parameter.grad)
        # What it keeps on the host is left alone, since asking it whether to skip would wait for the device.
        kept = [t for p in parameters for t in optimizer.state.get(p, {}).values() if isinstance(t, Tensor)]
        state = [tensor for tensor in kept if tensor.device == skip.device]
        moved = [*parameters, *state]
        before = [tensor.clone() for tensor in moved]
        optimizer.step()
        for tensor, old in zip(moved, before, strict=True):
            tensor.copy_(torch.where(skip, old, tensor))


class _Moments(Optimizer):
    skips: ClassVar[bool] = True
    separate: ClassVar[bool] = True

    beta1: float = Field(0.5, ge=0, lt=1)
    """Decay of the first moment."""
    beta2: float = Field(0.999, ge=0, lt=1)
    """Decay of the second moment."""
    beta2_schedule: AnySchedule = Constant()
    """Factor of 1 - beta2, by images seen: with beta2 0.9, a factor from 1 to 0.1 moves beta2 from 0.9 to 0.99. Never
    0, where the second moment would not change any more."""
    eps: float = Field(1e-8, gt=0)
    """Added to the root of the second moment."""
    rescaled: bool = False
    """With a penalty that is `alone`, weights move once more in each k-th turn. true: learning_rate times c, and beta1
    and beta2 to the power of c, with c = k / (k + 1), so that moments decay alike in k turns (Karras et al. 2020). Of
    several such penalties the one that is due most often counts."""

    _power: float = PrivateAttr(1.0)
    """c, where it is rescaled and beta2 has a schedule."""

    @model_validator(mode="after")
    def _beta2_stays_between_zero_and_one(self) -> Self:
        factors = {name: getattr(self.beta2_schedule, name, 1.0) for name in ("start", "final")}
        zero = [name for name, factor in factors.items() if not factor]
        largest = max(factors.values())
        if zero:
            raise ValueError(
                f"beta2_schedule.{zero[0]} above 0, not 0: it is a factor of 1 - beta2, and beta2 would be 1 there. "
                "Set it to 0.1, for example"
            )
        if (1 - self.beta2) * largest > 1:
            raise ValueError(
                f"beta2_schedule to be at most {1 / (1 - self.beta2):g}, not {largest:g}: it is a factor of 1 - beta2, "
                f"here {1 - self.beta2:g}, and beta2 would be negative"
            )
        return self

    def numbers(self, images_seen: int) -> dict[str, float]:
        found = super().numbers(images_seen)
        if not isinstance(self.beta2_schedule, Constant):
            new = (1 - self.beta2) * self.beta2_schedule.factor(images_seen)
            found[NEW_SQUARES] = new if self._power == 1 else 1 - max(0.0, 1 - new) ** self._power
        return found

    def build_with(self, parameters: list[Tensor], numbers: Mapping[str, Tensor]) -> torch.optim.Optimizer:
        if NEW_SQUARES not in numbers:
            return self.build(parameters, numbers[RATE])
        decay = getattr(self, "weight_decay", 0.0)
        return ScheduledAdam(parameters, numbers[RATE], self.beta1, numbers[NEW_SQUARES], self.eps, decay)

    def rescale(self, turns: float) -> Self:
        if not self.rescaled:
            return self
        c = 1 / (1 + 1 / turns)  # 1 at infinity
        constant = isinstance(self.beta2_schedule, Constant)
        found = self.model_copy(
            update={
                "learning_rate": self.learning_rate * c,
                "beta1": self.beta1**c,
                "beta2": self.beta2**c if constant else self.beta2,
                "rescaled": False,
            }
        )
        if not constant:  # the power is of beta2 as it is after the schedule's factor
            found._power = c
        return found


class Adam(_Moments):
    """Adam (Kingma and Ba 2015)."""

    name: Literal["adam"] = "adam"

    def build(self, parameters: list[Tensor], learning_rate: Tensor) -> torch.optim.Optimizer:
        """Fused: one kernel for all parameters, which can skip a step without reading anything back; beta2 constant."""
        betas = (self.beta1, self.beta2)
        return torch.optim.Adam(parameters, lr=learning_rate, betas=betas, eps=self.eps, fused=True)


class AdamW(_Moments):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    name: Literal["adamw"] = "adamw"
    weight_decay: float = Field(0.01, ge=0)
    """Part of the weights that a step subtracts, times the learning rate."""

    def build(self, parameters: list[Tensor], learning_rate: Tensor) -> torch.optim.Optimizer:
        betas, decay = (self.beta1, self.beta2), self.weight_decay
        return torch.optim.AdamW(parameters, learning_rate, betas, eps=self.eps, weight_decay=decay, fused=True)


class SGD(Optimizer):
    """Gradient descent with momentum (Polyak 1964; Nesterov 1983)."""

    skips: ClassVar[bool] = True
    separate: ClassVar[bool] = True

    name: Literal["sgd"] = "sgd"
    learning_rate: float = Field(0.01, gt=0)
    """Step size, before the schedule's factor."""
    momentum: float = Field(0.0, ge=0, lt=1)
    """Decay of the velocity. 0 is off."""
    nesterov: bool = False
    """Look ahead by the velocity. Only with momentum."""
    weight_decay: float = Field(0.0, ge=0)
    """Added to the gradient: this times the weights."""

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and not self.momentum:
            raise ValueError("momentum above 0 where nesterov is true, 0.9 for example: it looks ahead by the velocity")
        return self

    def build(self, parameters: list[Tensor], learning_rate: Tensor) -> torch.optim.Optimizer:
        """Fused: torch's other ways read the learning rate back to the host."""
        optimizer = torch.optim.SGD(
            parameters,
            lr=learning_rate,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
            fused=True,
        )
        if self.momentum:  # a first step that is skipped would leave torch's own without values
            for parameter in parameters:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter, requires_grad=False)
        return optimizer


def _scaled(factor: float) -> str:
    return f"{RATE} * {factor!r}"


AnyOptimizer = Annotated[Adam | AdamW | SGD, Field(discriminator="name"), OwnPart(Optimizer)]
