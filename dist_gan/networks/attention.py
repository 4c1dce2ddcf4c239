"""Self-attention over the places of a map (Zhang et al. 2019, "Self-attention generative adversarial networks")."""

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional as F

from dist_gan.networks.layers import SpectralNorm


class SelfAttention(nn.Module):
    """x + gamma * attention(x), gamma 0 at the start. Queries are of each place, keys and values of the maxima of 2x2
    places, as in BigGAN. All four 1x1 convolutions are without bias and spectrally normalized."""

    def __init__(self, channels: int, eps: float = 1e-12) -> None:
        """`eps` of the spectral norms. Queries and keys have an eighth of the channels, values a half."""
        super().__init__()
        few, half = max(1, channels // 8), max(1, channels // 2)
        self.queries = SpectralNorm(nn.Conv2d(channels, few, 1, bias=False), eps)
        self.keys = SpectralNorm(nn.Conv2d(channels, few, 1, bias=False), eps)
        self.values = SpectralNorm(nn.Conv2d(channels, half, 1, bias=False), eps)
        self.last = SpectralNorm(nn.Conv2d(half, channels, 1, bias=False), eps)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W], H and W even -> the same."""
        height, width = x.shape[2:]
        queries = _places(self.queries(x))
        keys, values = (_places(F.max_pool2d(layer(x), 2)) for layer in (self.keys, self.values))
        # Written out: torch's fused attention cannot be differentiated twice.
        seen = _softmax(queries @ keys.transpose(1, 2)) @ values
        seen = seen.unflatten(1, (height, width)).permute(0, 3, 1, 2)
        return torch.addcmul(x, self.gamma[:, None, None], self.last(seen))


def _places(x: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, H * W, C]; a view where the channels are last in memory."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def _softmax(x: Tensor) -> Tensor:
    """Over the last dimension. Written out in forward-mode differentiation, where torch's own has no backward (2.14: it
    multiplies in place what the gradient of its exponential needs)."""
    if forward_ad.unpack_dual(x).tangent is None:
        return x.softmax(-1)
    x = (x - x.detach().amax(-1, keepdim=True)).exp()
    return x / x.sum(-1, keepdim=True)
