"""How fast a model is evaluated: its images are made, seen by a feature network, and FID is computed.

The feature network is Inception-v3 in torchvision's form with random weights: nothing has to be downloaded, and speed
does not depend on weights. Its FID means nothing.
"""

from functools import partial

import torch
from gpu_tools import Numbers
from measure import timed
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.models import inception_v3

from dist_gan.data.source import Dataset
from dist_gan.game.game import Game
from dist_gan.metrics.extract import Extraction, chunk_size
from dist_gan.metrics.fakes import Fakes
from dist_gan.metrics.features import FeatureNetwork, Seen, colored
from dist_gan.metrics.frechet import frechet_distance
from dist_gan.metrics.metric import Summary
from dist_gan.metrics.reference import RealOrder


class Inception(FeatureNetwork):
    """2,048 features of each image, which is scaled to 299x299."""

    size = 2048
    sha256 = "0" * 64

    def __init__(self) -> None:
        super().__init__()
        self.network = inception_v3(weights=None, init_weights=False, aux_logits=False)
        self.network.fc = torch.nn.Identity()

    def forward(self, images: Tensor) -> Seen:
        """[n, C, H, W] -> [n, 2048]."""
        scaled = interpolate(colored(images).float(), (299, 299), mode="bilinear")
        return Seen(self.network(scaled / 128 - 1))


def evaluated(game: Game, dataset: Dataset, images: int) -> Numbers:
    """`dataset`: whose classes the images have. `images`: how many are made and seen; more than a feature vector has
    numbers, or there is no distance."""
    device = game.processes.device
    network = Inception().requires_grad_(False).eval().to(device)
    source = Fakes(game.average.ready(), game.seed, RealOrder(dataset)).source
    summaries = Extraction(game.processes, lambda _: None).summaries
    size = chunk_size(device)
    found: list[Summary] = []

    def make(count: int) -> None:
        for images_of in source(range(start, min(start + size, count)) for start in range(0, count, size)):
            images_of()

    def see(count: int) -> None:
        found.append(summaries(network, source, {count: {"moments"}}, count)[count])

    with torch.inference_mode():
        make(size)  # the first time only warms up
        made_s = timed(partial(make, images), device)
    see(size)
    seen_s = timed(partial(see, images), device)
    numbers: Numbers = {
        "images": images,
        "made_per_second": images / made_s,
        "made_and_seen_per_second": images / seen_s,
        "minutes_for_50000": 50_000 / images * seen_s / 60,
    }
    moments = found[-1].moments
    if moments is not None and images > network.size:
        numbers["distance_s"] = timed(lambda: frechet_distance(moments, moments), device)
    return numbers
