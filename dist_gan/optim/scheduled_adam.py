"""Adam whose decay of the second moment changes during a run. torch's fused Adam takes that as a Python number."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


class ScheduledAdam(torch.optim.Optimizer):
    """Adam and AdamW with 1 - beta2 as a number on the device, read at each step.

    Their state has the names and the meaning of that of `torch.optim.Adam`, and a step is the one that it makes where
    somebody sets `param_groups[...]["betas"]` before each: the bias correction of step t is 1 - beta2_t^t, as if beta2
    had been what it is now all the time. Where the attribute `found_inf` is 1, nothing moves; nothing is read back.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        learning_rate: Tensor,
        beta1: float,
        new_squares: Tensor,
        eps: float,
        weight_decay: float = 0.0,
    ) -> None:
        """What is refilled during a run comes as [] tensors.

        Args:
            parameters: what moves.
            learning_rate: [], the step size.
            beta1: decay of the first moment.
            new_squares: [], 1 - beta2: the weight of the newest squares in the second moment. Not beta2, which in
                float32 would leave four digits of it.
            eps: added to the root of the second moment.
            weight_decay: part of the weights that a step subtracts, times the learning rate; decoupled.
        """
        super().__init__(parameters, {"lr": learning_rate})
        self.beta1 = beta1
        self.new_squares = new_squares
        self.eps = eps
        self.weight_decay = weight_decay
        self.found_inf = torch.zeros_like(new_squares)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]  # of closures
        """One step; no closure."""
        for group in self.param_groups:
            moved: list[Tensor] = group["params"]
            for parameter in moved:
                if not self.state[parameter]:
                    self.state[parameter] = {
                        "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                        "exp_avg": torch.zeros_like(parameter),
                        "exp_avg_sq": torch.zeros_like(parameter),
                    }
            if moved:
                self._move(moved, group["lr"])

    def _move(self, parameters: list[Tensor], rate: Tensor) -> None:
        steps, means, squares = (
            [self.state[parameter][name] for parameter in parameters] for name in ("step", "exp_avg", "exp_avg_sq")
        )
        dtype = parameters[0].dtype
        skip = self.found_inf.bool()
        keep = torch.where(skip, 0.0, 1.0).to(dtype)  # each change is times this, and x + 0 is x
        gradients = [torch.where(skip, 0.0, parameter.grad) for parameter in parameters if parameter.grad is not None]
        rate = rate.to(dtype) * keep
        new_means = torch.full_like(keep, 1 - self.beta1)
        # A schedule of the user's own may leave (0, 1]; at 0 there would be nothing to divide by at the first step.
        new_squares = self.new_squares.to(dtype).clamp(torch.finfo(dtype).eps, 1)

        torch._foreach_add_(steps, [keep.to(steps[0].dtype)] * len(steps))
        if self.weight_decay:
            torch._foreach_mul_(parameters, 1 - rate * self.weight_decay)
        for moments, newest, weight in (
            (means, gradients, new_means * keep),
            (squares, torch._foreach_mul(gradients, gradients), new_squares * keep),
        ):
            torch._foreach_mul_(moments, 1 - weight)
            torch._foreach_add_(moments, torch._foreach_mul(newest, weight))

        # Parameters need not have made the same number of steps: layers may have come from another run.
        counted = torch.stack(steps).to(dtype).clamp(min=1)
        below = torch._foreach_sqrt(squares)
        torch._foreach_div_(below, list(_complement(new_squares, counted).sqrt().unbind()))
        torch._foreach_add_(below, self.eps)
        change = torch._foreach_div(means, below)
        torch._foreach_mul_(change, list((rate / _complement(new_means, counted)).unbind()))
        torch._foreach_sub_(parameters, change)


def _complement(new: Tensor, steps: Tensor) -> Tensor:
    """1 - (1 - new)^steps, without losing the digits of a small `new`. new: []; steps: [P], at least 1."""
    return -torch.expm1(steps * torch.log1p(-new))
