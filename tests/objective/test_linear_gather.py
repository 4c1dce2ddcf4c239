"""Reading images at points: torch's own numbers, derivatives of every kind, and two ways to add that agree."""

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from dist_gan.objective.linear_gather import Points, add_in_turn, add_sorted, gather, points, spread
from tests.support.published import numbers

SHAPE = (5, 6)


def some_points(n: int = 2, count: int = 40) -> Points:
    """In the images of `SHAPE`, many in the same places, some outside, some at the edge and on pixels."""
    a, b = (numbers(n, count, seed=seed) * 2 + 2 for seed in (1, 2))
    a[:, 0], b[:, 0] = SHAPE[0] - 1, SHAPE[1] - 1
    a[:, 1], b[:, 1] = 0, 2
    return points(a, b, SHAPE)


def test_torch_reads_the_same() -> None:
    images = numbers(2, 3, *SHAPE, seed=3)
    a, b = (numbers(2, 40, seed=seed) * 2 + 2 for seed in (1, 2))
    grid = torch.stack([2 * b / (SHAPE[1] - 1) - 1, 2 * a / (SHAPE[0] - 1) - 1], 2)[:, :, None]
    theirs = torch.nn.functional.grid_sample(images, grid, padding_mode="border", align_corners=True)[..., 0]
    torch.testing.assert_close(gather(images, points(a, b, SHAPE)), theirs, rtol=1e-12, atol=1e-12)


def test_it_is_differentiable_twice_and_in_both_directions() -> None:
    images = numbers(2, 2, *SHAPE, seed=3).requires_grad_()
    where = some_points(count=9)

    def cubed(images: Tensor) -> Tensor:
        return gather(images**3, where)

    assert torch.autograd.gradcheck(cubed, images, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(cubed, images, check_fwd_over_rev=True, check_rev_over_rev=True)


def test_a_gradient_can_be_taken_of_a_forward_derivative() -> None:
    where, direction = some_points(count=9), numbers(2, 2, *SHAPE, seed=4)
    images = numbers(2, 2, *SHAPE, seed=3).requires_grad_()
    with forward_ad.dual_level():
        out = gather(forward_ad.make_dual(images, direction), where).pow(3)
        tangent = forward_ad.unpack_dual(out).tangent
        assert tangent is not None
        (found,) = torch.autograd.grad(tangent.sum(), images)
    (gradient,) = torch.autograd.grad(gather(images, where).pow(3).sum(), images, create_graph=True)
    (expected,) = torch.autograd.grad((gradient * direction).sum(), images)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_the_two_ways_to_add_agree_and_are_the_adjoint() -> None:
    """One is for CPUs, the other for GPUs, where it adds in a fixed order."""
    where = some_points()
    shape = torch.Size((2, 3, *SHAPE))
    values = numbers(2, 3, 40, seed=5)
    shares = [(at, values * (at + 1)) for at in (0, 1, SHAPE[1], SHAPE[1] + 1)]
    in_turn, by_rows = (add(shares, where.first, shape) for add in (add_in_turn, add_sorted))
    torch.testing.assert_close(in_turn, by_rows, rtol=1e-13, atol=1e-13)
    images = numbers(*shape, seed=6)
    assert (gather(images, where) * values).sum().item() == pytest.approx(
        (spread(values, *where, shape) * images).sum().item(), abs=1e-10
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU (make gpu)")
def test_a_gpu_adds_in_a_fixed_order() -> None:
    first, down, right = some_points(64, 5000)
    there = (first.cuda(), down.float().cuda(), right.float().cuda())
    values, shape = numbers(64, 3, 5000, seed=5), torch.Size((64, 3, *SHAPE))
    on_gpu = spread(values.float().cuda(), *there, shape)
    assert all(torch.equal(on_gpu, spread(values.float().cuda(), *there, shape)) for _ in range(10))
    torch.testing.assert_close(on_gpu.cpu().double(), spread(values, first, down, right, shape), rtol=1e-3, atol=1e-3)
