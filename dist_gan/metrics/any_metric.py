"""The union of all metrics. To add one: write a `Metric`, and put its name here."""

from typing import Annotated

from pydantic import Field

from dist_gan.metrics.distances import FID, KID, MIND, DensityCoverage, PrecisionRecall
from dist_gan.metrics.metric import Metric
from dist_gan.own_parts import OwnPart

AnyMetric = Annotated[
    FID | KID | MIND | PrecisionRecall | DensityCoverage, Field(discriminator="name"), OwnPart(Metric)
]
