"""Resampling against its definition: insert zeros, pad or cut, convolve, keep every n-th pixel."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dist_gan.networks.resampling import BLUR, Resample, fir_downsample, fir_upsample
from tests.support.published import numbers

SIZE = (8, 6)
KINDS = {
    "up": {"up": 2, "padding": (2, 1), "gain": 4.0},
    "down": {"down": 2, "padding": (1, 1)},
    "blur": {"padding": (2, 1)},
    "cut": {"padding": (-1, 0), "gain": 3.0},
    "not symmetric": {"taps": (1.0, 2.0, 5.0), "up": 2, "padding": (1, 2)},
    "up three, down two": {"taps": (1.0, 4.0, 2.0, 1.0, 3.0), "up": 3, "down": 2, "padding": (3, 2)},
}


def by_definition(x: Tensor, taps: tuple[float, ...] = BLUR, up=1, down=1, padding=(0, 0), gain=1.0) -> Tensor:  # type: ignore[no-untyped-def]
    n, c, h, w = x.shape
    spread = x.new_zeros(n, c, h * up, w * up)
    spread[:, :, ::up, ::up] = x
    padded = F.pad(spread, (*padding, *padding)).flatten(0, 1)[:, None]
    flat = torch.tensor(taps, dtype=x.dtype) / sum(taps)
    kernel = torch.outer(flat, flat).flip(0, 1)[None, None] * gain
    return F.conv2d(padded, kernel)[:, :, ::down, ::down].unflatten(0, (n, c)).squeeze(2)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_its_definition(kind: str, layout: torch.memory_format) -> None:
    x = numbers(2, 3, *SIZE, seed=1).contiguous(memory_format=layout).requires_grad_()
    layer = Resample(SIZE, **KINDS[kind]).double()  # type: ignore[arg-type]
    expected = by_definition(x, **KINDS[kind])  # type: ignore[arg-type]
    found = layer(x)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)  # its matrix is kept in float32
    assert found.is_contiguous(memory_format=layout)
    assert torch.autograd.gradcheck(layer, x)
    assert torch.autograd.gradgradcheck(layer, x)


def test_a_constant_stays_except_at_the_border() -> None:
    x = torch.ones(1, 2, 8, 8)
    assert torch.equal(fir_upsample((8, 8))(x)[:, :, 1:-1, 1:-1], torch.ones(1, 2, 14, 14))
    assert torch.equal(fir_downsample((8, 8))(x)[:, :, 1:-1, 1:-1], torch.ones(1, 2, 2, 2))


@pytest.mark.parametrize("taps", [(1, 1), (1, 2, 1), (1, 3, 3, 1), (1, 4, 6, 4, 1)])
def test_the_size_doubles_and_halves(taps: tuple[int, ...]) -> None:
    x = torch.ones(1, 2, 6, 4)
    assert fir_upsample((6, 4), taps)(x).shape == (1, 2, 12, 8)
    assert fir_downsample((6, 4), taps)(x).shape == (1, 2, 3, 2)


def test_it_works_under_autocast_and_adds_nothing_to_checkpoints() -> None:
    layer = fir_upsample(SIZE)
    x = numbers(2, 3, *SIZE, seed=2).float()
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), layer(x), rtol=2e-2, atol=2e-2)
    assert not layer.state_dict()
