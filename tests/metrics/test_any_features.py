"""Features are chosen by name, alone or in a block, and may be a user's own; their contract names what breaks it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from dist_gan.errors import CheckFailed, FeaturesMissing
from dist_gan.metrics.any_features import AnyFeatures
from dist_gan.metrics.dinov2 import DINOv2
from dist_gan.metrics.features import FeatureNetwork, Features, Seen, colored, sha256_of
from dist_gan.metrics.lite0 import EfficientNetLite0
from dist_gan.own_parts import anchored, names_in, owned, reading, reference_of
from dist_gan.part import Part
from dist_gan.run.contracts import check
from tests.support.unions import members

MINE = '''
from dist_gan.metrics.features import FeatureNetwork, Features, Seen, sha256_of

class Mean(Features):
    """The mean color."""

    scale: float = 1.0
    """Multiplies it."""

    @property
    def resizing(self):
        return "none"

    def open(self, device):
        return Network(self.scale).to(device)

class Network(FeatureNetwork):
    size = 1

    def __init__(self, scale):
        super().__init__()
        self.scale = scale
        self.sha256 = sha256_of(self, scale)

    def forward(self, images):
        return Seen(images.float().mean((1, 2, 3))[:, None] * self.scale)
'''


class Chosen(Part):
    features: AnyFeatures


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def test_a_name_alone_is_enough() -> None:
    assert Chosen(features="efficientnet_lite0").features == EfficientNetLite0()
    assert Chosen(features={"name": "dinov2", "size": "small"}).features == DINOv2(size="small")
    assert Chosen(features=DINOv2()).features == DINOv2()
    with pytest.raises(ValidationError, match="efficientnet_lite0"):
        Chosen(features="efficientnet")


def test_features_of_a_users_own(mine: Path) -> None:
    """In a config beside their file, as a name alone too."""
    tree = anchored({"evaluate": [{"name": "fid", "features": "mine.py:Mean"}]}, mine)
    assert list(names_in(tree)) == [f"{mine}/mine.py:Mean"]
    with reading("known"), pytest.raises(ValidationError, match="trust_code=true"):
        Chosen(features=tree["evaluate"][0]["features"])
    own = Chosen(features=tree["evaluate"][0]["features"]).features
    found = reference_of(type(own))
    assert found is not None
    assert found.label == "mine.py:Mean"
    assert [key for key, _ in owned(Chosen(features=own))] == ["features"]
    assert Chosen.model_validate(Chosen(features=own).model_dump()).features == own
    assert check(own) > 10
    seen = own.open(torch.device("cpu"))(torch.full((2, 3, 4, 4), 5, dtype=torch.uint8))
    assert seen.features.tolist() == [[5], [5]]


@pytest.mark.parametrize("kind", members(AnyFeatures))
def test_what_is_built_in_says_how_it_resizes(kind: Any) -> None:
    assert kind().resizing != ""
    assert kind.model_fields["name"].default == kind().name


@pytest.mark.slow
def test_the_contract_holds_for_efficientnet_lite0() -> None:
    try:
        EfficientNetLite0().open(torch.device("cpu"))
    except FeaturesMissing as error:
        pytest.skip(str(error))
    assert check(EfficientNetLite0()) > 20


class _Network(FeatureNetwork):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(192, 2).requires_grad_(False)
        with torch.no_grad():
            self.layer.weight.copy_(torch.arange(384).remainder(7).view(2, 192))
            self.layer.bias.zero_()
        self.size = 2
        self.sha256 = sha256_of(self)

    def forward(self, images: Tensor) -> Seen:
        return Seen(self.layer(colored(images).float().flatten(1)))


class Right(Features):
    def open(self, device: torch.device) -> FeatureNetwork:
        return self.made().to(device)

    @property
    def resizing(self) -> str:
        return "none"

    def made(self) -> FeatureNetwork:
        return _Network()


def broken(forward: Any = None, resizing: str = "none", **attributes: Any) -> Features:
    """Features whose forward is `forward` of images and of what is right, with other attributes."""

    class Changed(_Network):
        def forward(self, images: Tensor) -> Seen:
            right = super().forward(images)
            return forward(images, right) if forward else right

    class Broken(Right):
        def made(self) -> FeatureNetwork:
            network = Changed()
            for name, value in attributes.items():
                setattr(network, name, value() if callable(value) else value)
            return network

        @property
        def resizing(self) -> str:
            return resizing

    return Broken()


def _dimmed(images: Tensor, right: Seen) -> Seen:
    images.zero_()
    return right


def _digest() -> str:
    opened.append(0)
    return f"{len(opened):064x}"


opened: list[int] = []
BROKEN = [
    (broken(resizing="to 224/bicubic"), "resizing is one word"),
    (broken(sha256="579344"), "sha256 has 64 hexadecimal digits; it is '579344'"),
    (broken(sha256=_digest), "sha256 is the same each time"),
    (broken(size=3), r"features of images with 1 channel are float32 \[2, 3\]; they are torch.float32 \[2, 2\]"),
    (broken(lambda _, right: Seen(right.features.double())), "they are torch.float64"),
    (broken(lambda _, right: Seen(right.features / 0)), "features of images with 1 channel are finite"),
    (broken(lambda _, right: Seen(right.features + torch.rand(()))), "the same images give the same features twice"),
    (broken(lambda _, right: Seen(right.features - right.features.mean(0))), "do not depend on the other images"),
    (broken(lambda _, right: Seen(right.features * 0 + 1)), "it sees a difference of images with 1 channel"),
    (broken(lambda _, right: Seen(right.features.requires_grad_())), "features have no gradient"),
    (broken(_dimmed), "images stay as they were"),
    (broken(lambda _, right: Seen(right.features, right.features)), "logits where there are classes, and only there"),
    (broken(classes=("a", "b")), "logits where there are classes, and only there"),
    (
        broken(lambda _, right: Seen(right.features, right.features), classes=("a", "b", "c")),
        r"logits of images with 1 channel are float32 \[2, 3\]",
    ),
    (broken(lambda images, right: Seen(right.features[:, : images.shape[1]])), r"with 1 channel are .*\[2, 1\]"),
]


def test_the_contract_holds_for_what_is_right() -> None:
    assert check(Right()) > 10
    assert check(broken(lambda _, right: Seen(right.features, right.features), classes=("a", "b"))) > 15


@pytest.mark.parametrize(("features", "expected"), BROKEN, ids=[expected for _, expected in BROKEN])
def test_what_breaks_the_contract_is_named(features: Features, expected: str) -> None:
    with pytest.raises(CheckFailed, match=expected):
        check(features)
