"""DINOv2 (Oquab et al. 2023): features that agree with people's judgment better than Inception's (Stein et al. 2023).

The network is written here, because the authors' way, torch.hub, downloads code and executes it.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dist_gan.metrics.features import FeatureNetwork, Features, Seen, colored, plain_float32
from dist_gan.metrics.weight_files import Published, fill, own_or_published
from dist_gan.part import PathText

SIZE = 224
"""Height and width that the network sees."""
PATCH = 14
TRAINED = 518 // PATCH
"""Patches in a row when the network was trained: it learnt a position for each."""
MEAN = (255 * 0.485, 255 * 0.456, 255 * 0.406)
DEVIATION = (255 * 0.229, 255 * 0.224, 255 * 0.225)
SIZES = {"small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16)}
"""Width, blocks, heads."""
SHA256 = {
    "small": "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9",
    "base": "0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73",
    "large": "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428",
}


class DINOv2(Features):
    """DINOv2, a vision transformer that was trained without labels: the normalized class token, no logits.

    Protocol `tfbilinear224`, torch-fidelity's: TensorFlow 1's bilinear filter to 224x224, without antialiasing; gray is
    repeated; ImageNet's mean and deviation. The weights are downloaded once: 88 MB (small), 346 MB (base), 1.2 GB
    (large).
    """

    name: Literal["dinov2"] = "dinov2"
    """A large network trained without labels; slow on a CPU."""
    size: Literal["small", "base", "large"] = "large"
    """Of the network: 384, 768 or 1024 features. Published numbers are of large."""
    weights: PathText = ""
    """A file of weights; empty: dinov2_vitl14_pretrain.pth (or vits, vitb), which is downloaded once."""

    @property
    def resizing(self) -> str:
        return f"tfbilinear{SIZE}"

    def open(self, device: torch.device) -> FeatureNetwork:
        weights = own_or_published(self.weights, _published(self.size), self.name)
        with torch.device("meta"):
            network = _Network(*SIZES[self.size])
        fill(network.transformer, weights, f"{self.name}, size {self.size}")
        network.sha256 = weights.sha256
        return network.eval().requires_grad_(False).to(device)


def _published(size: str) -> Published:
    model = f"dinov2_vit{size[0]}14"
    file = f"{model}_pretrain.pth"
    return Published(file, SHA256[size], f"https://dl.fbaipublicfiles.com/dinov2/{model}/{file}")


class _Network(FeatureNetwork):
    def __init__(self, width: int, blocks: int, heads: int) -> None:
        super().__init__()
        self.size = width
        self.transformer = Transformer(width, blocks, heads)

    def forward(self, images: Tensor) -> Seen:
        with plain_float32(images.device):
            x = tensorflow_bilinear(colored(images).float(), SIZE)
            mean, deviation = (x.new_tensor(values).view(3, 1, 1) for values in (MEAN, DEVIATION))
            return Seen(self.transformer((x - mean) / deviation))


class Transformer(nn.Module):
    """[N, 3, H, W], normalized -> [N, width]. The names are those of the authors' files."""

    def __init__(self, width: int, blocks: int, heads: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + TRAINED**2, width))
        self.mask_token = nn.Parameter(torch.empty(1, width))  # of training; it is in the files
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, PATCH, PATCH)})
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(blocks))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patch_embed["proj"](x)
        positions = self._positions(*patches.shape[2:])
        x = torch.cat((self.cls_token.expand(len(x), -1, -1), patches.flatten(2).transpose(1, 2)), 1) + positions
        for block in self.blocks:
            x = block(x)
        return self.norm(x)[:, 0]

    def _positions(self, rows: int, columns: int) -> Tensor:
        """[1, 1 + rows * columns, width]: the learnt ones, resized as the authors do (their scale has 0.1 too much)."""
        grid = self.pos_embed[:, 1:].view(1, TRAINED, TRAINED, -1).permute(0, 3, 1, 2)
        scale = ((rows + 0.1) / TRAINED, (columns + 0.1) / TRAINED)
        resized = F.interpolate(grid, scale_factor=scale, mode="bicubic")
        return torch.cat((self.pos_embed[:, :1], resized.flatten(2).transpose(1, 2)), 1)


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.ls1 = nn.ParameterDict({"gamma": nn.Parameter(torch.empty(width))})
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})
        self.ls2 = nn.ParameterDict({"gamma": nn.Parameter(torch.empty(width))})

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        qkv = self.attn["qkv"](self.norm1(x)).view(n, tokens, 3, self.heads, width // self.heads)
        q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, tokens, width)
        x = x + self.attn["proj"](seen) * self.ls1["gamma"]
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x)))) * self.ls2["gamma"]


def tensorflow_bilinear(images: Tensor, size: int) -> Tensor:
    """[N, C, H, W], float32 -> [N, C, size, size], as tf.image.resize_bilinear of TensorFlow 1 does: pixel i of the
    result lies at i * old size / size, and nothing is averaged where the image becomes smaller."""

    def neighbors(old: int) -> tuple[Tensor, Tensor, Tensor]:
        place = torch.arange(size, dtype=torch.float32, device=images.device) * torch.tensor(
            old / size, dtype=torch.float32
        )
        low = place.long()
        return low, (low + 1).clamp_max(old - 1), place - low

    top, bottom, down = neighbors(images.shape[2])
    left, right, across = neighbors(images.shape[3])
    upper, lower = ((row[..., left], row[..., right]) for row in (images[:, :, top], images[:, :, bottom]))
    above = upper[0] + (upper[1] - upper[0]) * across
    below = lower[0] + (lower[1] - lower[0]) * across
    return above + (below - above) * down[:, None]
