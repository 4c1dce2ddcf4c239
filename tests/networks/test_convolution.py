"""A convolution of our own derivatives against torch's."""

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from dist_gan.networks.convolution import Convolution
from tests.support.published import numbers

KINDS = {"1x1": (4, 6, 1, 1), "grouped 3x3": (4, 6, 3, 2), "depthwise 5x5": (4, 4, 5, 4)}


class Calls(TorchDispatchMode):
    """Counts the kernels that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def layer_of(kind: str, *, bias: bool) -> Convolution:
    layer = Convolution(*KINDS[kind], bias=bias).double()
    for number, parameter in enumerate(layer.parameters()):
        parameter.data = numbers(*parameter.shape, seed=number)
    return layer


def penalized(x: Tensor, layer: Convolution, *, torchs: bool) -> tuple[Tensor, ...]:
    """The gradients of a loss with a gradient penalty, by the input, the weight and the bias."""

    def look(x: Tensor) -> Tensor:
        if torchs:
            return F.conv2d(x, layer.weight, layer.bias, padding=layer.padding, groups=layer.groups)
        return layer(x)

    y = look(F.leaky_relu(look(x)[:, : x.shape[1]], 0.2))
    (gradient,) = torch.autograd.grad((y.square() / 2).sum(), x, create_graph=True)
    return torch.autograd.grad(y.sum() + gradient.square().sum(), [x, *layer.parameters()])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_all_derivatives_are_torchs(kind: str, bias: bool) -> None:
    layer = layer_of(kind, bias=bias)
    x = numbers(2, 4, 5, 6, seed=9).requires_grad_()
    for ours, theirs in zip(penalized(x, layer, torchs=False), penalized(x, layer, torchs=True), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    parameters = [p.detach().requires_grad_() for p in layer.parameters()]

    def function(x: Tensor, *parameters: Tensor) -> Tensor:
        names = [name for name, _ in layer.named_parameters()]
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(function, (x, *parameters))
    assert torch.autograd.gradgradcheck(function, (x, *parameters))


def test_a_penalty_costs_no_needless_gradients() -> None:
    """By the image alone it is one convolution; its own gradients are three. torch's are one for each group."""
    layer = layer_of("depthwise 5x5", bias=True)
    x = numbers(2, 4, 5, 6, seed=9).requires_grad_()
    y = layer(x).square().sum()
    with Calls() as calls:
        (gradient,) = torch.autograd.grad(y, x, create_graph=True)
    assert calls.names.count("convolution") == 1
    assert "convolution_backward" not in calls.names
    with Calls() as calls:
        torch.autograd.grad(gradient.square().sum(), [*layer.parameters()])
    assert calls.names.count("convolution_backward") <= 3
    assert calls.names.count("convolution") <= 1


def test_under_autocast_as_torchs() -> None:
    layer = layer_of("grouped 3x3", bias=True).float()
    x = numbers(2, 4, 5, 6, seed=9).float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = layer(x), F.conv2d(x, layer.weight, layer.bias, padding=1, groups=2)
    assert ours.dtype == theirs.dtype == torch.bfloat16
    inputs = (x, *layer.parameters())
    for mine, torchs in zip(
        torch.autograd.grad(ours.sum(), inputs), torch.autograd.grad(theirs.sum(), inputs), strict=True
    ):
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine, torchs, rtol=2e-2, atol=2e-2)


def test_forward_mode_too() -> None:
    layer = layer_of("grouped 3x3", bias=True)
    x, along = numbers(2, 4, 5, 6, seed=9), numbers(2, 4, 5, 6, seed=10)
    with forward_ad.dual_level():
        slope = forward_ad.unpack_dual(layer(forward_ad.make_dual(x.requires_grad_(), along))).tangent
    expected = F.conv2d(along, layer.weight, padding=1, groups=2)
    torch.testing.assert_close(slope, expected)
    (gradient,) = torch.autograd.grad(slope.sum(), layer.weight)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.sum(), layer.weight)[0])
