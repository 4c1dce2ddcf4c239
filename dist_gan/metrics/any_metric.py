"""The union of all metrics. To add one: write a `Metric`, and put its name here."""

from typing import Annotated, get_args

from pydantic import Field

from dist_gan.metrics.classified import ClassAccuracy, InceptionScore, Modes
from dist_gan.metrics.distances import FID, KID, MIND, Copies, DensityCoverage, PrecisionRecall
from dist_gan.metrics.metric import Metric
from dist_gan.own_parts import OwnPart

_Members = FID | KID | MIND | PrecisionRecall | DensityCoverage | Copies | InceptionScore | ClassAccuracy | Modes
METRICS: tuple[type[Metric], ...] = get_args(_Members)

AnyMetric = Annotated[_Members, Field(discriminator="name"), OwnPart(Metric)]
