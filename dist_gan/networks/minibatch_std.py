"""The minibatch standard deviation (Karras et al. 2018, "Progressive growing of GANs", section 3)."""

import torch
from torch import Tensor, nn

EPS = 1e-8


class MinibatchStd(nn.Module):
    """Adds one channel that says how different the samples of a group are, so that D sees a lack of variety.

    A group is `group` consecutive samples, so the result does not depend on how a global batch is cut into processes
    and microbatches, as long as each holds full groups. (NVlabs' code takes each (N / group)-th sample of what one GPU
    has at a time: there, the model depends on it.)
    """

    def __init__(self, group: int) -> None:
        super().__init__()
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C + 1, H, W]; N is a multiple of `group`."""
        n, _, height, width = x.shape
        assert n % self.group == 0, f"{n} samples are not full groups of {self.group}"
        apart = x.unflatten(0, (-1, self.group))
        apart = apart - apart.mean(1, keepdim=True)
        std = (apart.square().mean(1) + EPS).sqrt().mean((1, 2, 3))  # [N / group]
        added = std[:, None].expand(-1, self.group).reshape(n, 1, 1, 1).expand(n, 1, height, width)
        return torch.cat([x, added], dim=1)
