"""Convolutions whose second derivative is as fast as the first, for networks with gradient penalties.

torch differentiates the backward of a convolution group by group, each as a convolution with kernels as large as the
map. Here the gradient by the input is itself an ordinary convolution, so all that follows from it is one, too. With
R1 and R2, an update of R3GAN takes two thirds of the time on a CPU.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional as F


class Convolution(nn.Conv2d):
    """A convolution that keeps the size of the map: stride 1, an odd kernel, zeros around."""

    def __init__(self, before: int, after: int, kernel: int = 1, groups: int = 1, *, bias: bool = True) -> None:
        super().__init__(before, after, kernel, padding=kernel // 2, groups=groups, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C', H, W]."""
        if not (torch.is_grad_enabled() and x.requires_grad and self.weight.requires_grad) or _is_dual(x):
            return super().forward(x)
        weight, bias = self.weight, self.bias
        if torch.is_autocast_enabled(x.device.type):
            dtype = torch.get_autocast_dtype(x.device.type)
            x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
        by_input: Tensor = _ByInput.apply(x, weight)
        by_weight: Tensor = _ByWeight.apply(weight, bias, [x], by_input.shape)
        return by_input + by_weight


class _ByInput(torch.autograd.Function):
    """The convolution, with the gradient by its input only: that by the weight is another function's, because a
    function of one's own cannot know which of its gradients is asked for, and would always compute both."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.groups = x.shape[1] // weight.shape[1]
        return F.conv2d(x, weight, padding=weight.shape[2] // 2, groups=ctx.groups)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (weight,) = ctx.saved_tensors
        after, before, kernel, _ = weight.shape
        reversed_ = weight.flip(2, 3).view(ctx.groups, after // ctx.groups, before, kernel, kernel).transpose(1, 2)
        return F.conv2d(gradient, reversed_.flatten(0, 1), padding=kernel // 2, groups=ctx.groups), None


class _ByWeight(torch.autograd.Function):
    """The bias for each pixel (0 without one), with the convolution's gradient by its weight."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor | None, convolved: list[Tensor], shape: torch.Size) -> Tensor:
        """convolved: the input, in a list, so that for its gradient torch does not come this way."""
        ctx.save_for_backward(weight, *convolved)
        ctx.has_bias = bias is not None
        return (weight.new_zeros(len(weight)) if bias is None else bias)[:, None, None].expand(shape)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        weight, x = ctx.saved_tensors
        pad = [weight.shape[2] // 2] * 2
        asked = [False, True, ctx.has_bias]
        _, by_weight, by_bias = torch.ops.aten.convolution_backward(
            gradient, x, weight, [len(weight)], [1, 1], pad, [1, 1], False, [0, 0], x.shape[1] // weight.shape[1], asked
        )
        return by_weight, by_bias, None, None


def _is_dual(x: Tensor) -> bool:
    """Whether forward-mode differentiation goes on, which needs no second backward."""
    return forward_ad.unpack_dual(x).tangent is not None
