"""Where real images come from. To add a source: write a file with a `Source`, and put its name into `AnySource`."""

from typing import Annotated

from pydantic import Field

from dist_gan.data.folder import Folder
from dist_gan.data.generated import Generated
from dist_gan.data.in_memory import Given, given
from dist_gan.data.npy import Npy
from dist_gan.data.packed import Packed
from dist_gan.data.source import Batch, Dataset, Reading, Source
from dist_gan.data.stream import Stream
from dist_gan.data.tables import Parquet
from dist_gan.data.tar_shards import Tar
from dist_gan.data.torchvision_sets import CIFAR10, MNIST, FashionMNIST, StackedMNIST
from dist_gan.data.zipped import Zip
from dist_gan.errors import DataError
from dist_gan.own_parts import OwnPart
from dist_gan.shapes import ImageShape

AnySource = Annotated[
    MNIST | FashionMNIST | CIFAR10 | StackedMNIST | Folder | Packed | Zip | Tar | Parquet | Npy | Generated | Given,
    Field(discriminator="name"),
    OwnPart(Source),
]

__all__ = [
    "CIFAR10",
    "MNIST",
    "AnySource",
    "Batch",
    "DataError",
    "Dataset",
    "FashionMNIST",
    "Folder",
    "Generated",
    "Given",
    "ImageShape",
    "Npy",
    "Packed",
    "Parquet",
    "Reading",
    "Source",
    "StackedMNIST",
    "Stream",
    "Tar",
    "Zip",
    "given",
]
