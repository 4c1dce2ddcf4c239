"""Bilinear reading of images at given points, as a linear map: differentiable any number of times, forwards and
backwards, and deterministic on every device.

`torch.nn.functional.grid_sample` is neither: its gradient cannot be differentiated, and on a GPU it adds with atomic
operations, in an order that changes. Here the map and its adjoint are two functions, each the derivative of the other.
The adjoint adds what several points have read from one pixel: on a CPU one after the other, on a GPU by `index_put_`
with `accumulate`, which sorts the indices (stably) and adds in that order.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Points(NamedTuple):
    """P points for each of N images [C, A, B]. Each lies between four pixels, which must exist."""

    first: Tensor
    """int64 [N, P]: a * B + b of the pixel with the smallest indices."""
    down: Tensor
    """[N, P] in [0, 1]: how far it is on the way from a to a + 1."""
    right: Tensor
    """[N, P] in [0, 1]: how far it is on the way from b to b + 1."""


def points(a: Tensor, b: Tensor, shape: tuple[int, int]) -> Points:
    """a, b: [N, P] indices that need not be integers -> the points. Those outside of `shape` move to its edge."""
    height, width = shape
    a, b = a.clamp(0, height - 1), b.clamp(0, width - 1)
    top, left = a.floor().clamp_(max=height - 2), b.floor().clamp_(max=width - 2)
    return Points(top.mul(width).add_(left).long(), a - top, b - left)


def gather(images: Tensor, where: Points) -> Tensor:
    """images [N, C, A, B] -> [N, C, P]. Gradients flow to the images, not to the points."""
    found: Tensor = _Gather.apply(images, *where)
    return found


def read(images: Tensor, first: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """What `gather` computes."""
    n, channels, _, width = images.shape
    flat = images.flatten(2)
    index = first[:, None].expand(n, channels, -1)
    top, bottom = (
        torch.lerp(flat[:, :, at:].gather(2, index), flat[:, :, at + 1 :].gather(2, index), right[:, None])
        for at in (0, width)
    )
    return torch.lerp(top, bottom, down[:, None])


def spread(values: Tensor, first: Tensor, down: Tensor, right: Tensor, shape: torch.Size) -> Tensor:
    """The adjoint of `read`: values [N, C, P] -> [N, C, A, B] of `shape`."""
    bottom = values * down[:, None]
    shares = []
    for at, row in ((0, values - bottom), (shape[-1], bottom)):
        beside = row * right[:, None]
        shares += [(at, row - beside), (at + 1, beside)]
    add = add_in_turn if values.device.type == "cpu" else add_sorted
    return add(shares, first, shape)


def add_in_turn(shares: list[tuple[int, Tensor]], first: Tensor, shape: torch.Size) -> Tensor:
    """Add [N, C, P] at `first` + offset, for each (offset, [N, C, P]): one after the other, on a CPU."""
    n, channels, height, width = shape
    total = shares[0][1].new_zeros(n, channels, height * width)
    index = first[:, None].expand(n, channels, -1)
    for at, values in shares:
        total[:, :, at:].scatter_add_(2, index, values)
    return total.view(shape)


def add_sorted(shares: list[tuple[int, Tensor]], first: Tensor, shape: torch.Size) -> Tensor:
    """The same, where many threads add at once. A pixel's channels are one row, so that fewer indices are sorted."""
    n, channels, height, width = shape
    total = shares[0][1].new_zeros(n, height * width, channels)
    sample = torch.arange(n, device=first.device)[:, None]
    for at, values in shares:
        total.index_put_((sample, first + at), values.transpose(1, 2), accumulate=True)
    return total.transpose(1, 2).reshape(shape)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(images: Tensor, first: Tensor, down: Tensor, right: Tensor) -> Tensor:
        return read(images, first, down, right)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _: Tensor) -> None:
        images, *where = inputs
        ctx.shape = images.shape
        ctx.save_for_backward(*where)
        ctx.save_for_forward(*where)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return _Spread.apply(gradient, *ctx.saved_tensors, ctx.shape), None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:
        return gather(tangent, Points(*ctx.saved_tensors))


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(values: Tensor, first: Tensor, down: Tensor, right: Tensor, shape: torch.Size) -> Tensor:
        return spread(values, first, down, right, shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _: Tensor) -> None:
        _, *where, shape = inputs
        ctx.shape = shape
        ctx.save_for_backward(*where)
        ctx.save_for_forward(*where)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return gather(gradient, Points(*ctx.saved_tensors)), None, None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:
        spread_out: Tensor = _Spread.apply(tangent, *ctx.saved_tensors, ctx.shape)
        return spread_out
