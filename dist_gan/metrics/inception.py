"""The Inception-v3 of the published FID and Inception Score: torch-fidelity's, with TensorFlow's weights of 2015."""

import importlib
import io
import sys
from contextlib import redirect_stdout
from typing import Any, Literal

import torch
from torch import Tensor

from dist_gan.errors import ConfigError, FeaturesMissing
from dist_gan.metrics.features import FeatureNetwork, Features, Seen, colored, plain_float32
from dist_gan.metrics.weight_files import Published, Weights, own_or_published
from dist_gan.part import PathText

PUBLISHED = Published(
    "weights-inception-2015-12-05-6726825d.pth",
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
)
PACKAGE = "torch_fidelity"


class Inception(Features):
    """Inception-v3 as torch-fidelity computes it: 2048 pooled features, and logits of 1008 classes without their bias.

    Protocol `tfbilinear299`: TensorFlow 1's bilinear filter to 299x299, without antialiasing; gray is repeated; the
    network sees (x - 128) / 128. FID, KID and the Inception Score of these features are those of the literature
    (Heusel et al. 2017; Salimans et al. 2016). The weights, 96 MB, are downloaded once.
    """

    name: Literal["inception"] = "inception"
    """The Inception-v3 of published FID and Inception Score; needs torch-fidelity."""
    weights: PathText = ""
    """A file of weights; empty: weights-inception-2015-12-05-6726825d.pth, which is downloaded once."""

    @property
    def resizing(self) -> str:
        return "tfbilinear299"

    def open(self, device: torch.device) -> FeatureNetwork:
        extractor = _torch_fidelity()
        return _Network(extractor, own_or_published(self.weights, PUBLISHED, self.name)).eval().to(device)


class _Network(FeatureNetwork):
    size = 2048
    classes = tuple(str(number) for number in range(1008))

    def __init__(self, extractor: Any, weights: Weights) -> None:
        super().__init__()
        self.sha256 = weights.sha256
        # The extractor unpickles whatever file it is given, and downloads without a check where it is given none. So it
        # is given what was read and checked already.
        checked = io.BytesIO()
        torch.save(weights.tensors, checked)
        checked.seek(0)
        try:
            with torch.random.fork_rng(devices=[]), redirect_stdout(sys.stderr):
                self.extractor = extractor("inception-v3-compat", ["2048", "logits_unbiased"], checked)
        except RuntimeError as error:
            first = next((line.strip() for line in str(error).splitlines()[1:]), str(error))
            raise ConfigError(f"features: {weights.path} has not the weights of inception: {first[:200]}") from None

    def forward(self, images: Tensor) -> Seen:
        with plain_float32(images.device):
            features, logits = self.extractor(colored(images))
        return Seen(features, logits)


def _torch_fidelity() -> Any:
    """The class of its extractor."""
    try:
        return importlib.import_module(f"{PACKAGE}.feature_extractor_inceptionv3").FeatureExtractorInceptionV3
    except ImportError as error:
        raise FeaturesMissing(
            f"features: inception needs the package torch-fidelity ({error}): pip install 'dist_gan[metrics]'"
        ) from None
