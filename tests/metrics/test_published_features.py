"""Inception and DINOv2, with made-up weights: there is no network in tests."""

import functools
import socket
import threading
import urllib.request
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch

from dist_gan.data.fetch import on_disk_only
from dist_gan.errors import ConfigError, FeaturesMissing
from dist_gan.metrics import inception, weight_files
from dist_gan.metrics.dinov2 import DINOv2, Transformer
from dist_gan.metrics.inception import Inception
from dist_gan.metrics.weight_files import Published, own_or_published
from tests.metrics.test_features import CPU, made_up


@pytest.fixture(autouse=True)
def no_files_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIST_GAN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> Any:
        raise AssertionError("something was downloaded")

    monkeypatch.setattr(urllib.request, "urlopen", refused)
    monkeypatch.setattr(torch.hub, "load", refused)


def waves(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Weights that are the same on every machine."""
    return {
        name: 0.3 * torch.sin(torch.arange(old.numel(), dtype=torch.float64) * (1 + number / 7)).float().view(old.shape)
        + float(name.endswith(("norm.weight", "norm1.weight", "norm2.weight", "gamma")))
        for number, (name, old) in enumerate(sorted(network.state_dict().items()))
    }


def spread(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The same with positions that matter, and that change slowly from each patch to the next."""
    tensors = waves(network)
    numbers = torch.arange(tensors["pos_embed"].numel(), dtype=torch.float64) / 50
    return tensors | {"pos_embed": 10 * torch.sin(numbers).float().view_as(tensors["pos_embed"])}


@pytest.mark.slow
def test_inception_is_torch_fidelitys(
    tmp_path: Path, offline: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    extractor, path = module.FeatureExtractorInceptionV3, tmp_path / "made_up.pth"
    torch.save({}, tmp_path / "empty.pth")
    with monkeypatch.context() as patch, torch.random.fork_rng(devices=[]):
        patch.setattr(extractor, "load_state_dict", lambda *_: None)
        torch.manual_seed(0)
        torch.save(extractor("any", ["2048"], str(tmp_path / "empty.pth")).state_dict(), path)
    direct = extractor("any", ["2048", "logits_unbiased"], str(path))
    before = torch.get_rng_state()
    network = Inception(weights=str(path)).open(CPU)
    assert torch.equal(torch.get_rng_state(), before)
    assert network.sha256 == sha256(path.read_bytes()).hexdigest()
    for images in (made_up(2, 3, 40, 56), made_up(1, 1, 310, 300)):
        seen = network(images)
        features, logits = direct(images.expand(-1, 3, -1, -1))
        assert torch.equal(seen.features, features)
        assert seen.logits is not None
        assert torch.equal(seen.logits, logits)
        assert seen.features.shape == (len(images), network.size)
        assert seen.logits.shape == (len(images), len(network.classes))
        assert seen.logits.std() > 0
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_weights_of_another_network_are_refused(tmp_path: Path, offline: None) -> None:
    path = tmp_path / "other.pth"
    torch.save(torch.nn.Linear(2, 2).state_dict(), path)
    pytest.importorskip("torch_fidelity")
    with pytest.raises(ConfigError, match="has not the weights of inception: Missing key"):
        Inception(weights=str(path)).open(CPU)
    with pytest.raises(ConfigError, match=r"dinov2, size small: \d+ tensors differ; the first is bias"):
        DINOv2(size="small", weights=str(path)).open(CPU)


def test_a_transformer_computes_what_the_authors_code_computes() -> None:
    """The numbers are of facebookresearch/dinov2, DinoVisionTransformer of width 32 with 2 blocks and 2 heads."""
    network = Transformer(32, 2, 2)
    network.load_state_dict(spread(network))
    expected = [
        [-1.8592, -1.1456, -0.9446, -0.8142, -1.4711, -1.7706],
        [-1.8591, -1.153, -0.9531, -0.8205, -1.4676, -1.7625],
    ]
    with torch.no_grad():
        found = network((made_up(2, 3, 224, 224).float() - 120) / 60)[:, :6]
    torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=1e-4)


@pytest.mark.slow
def test_dinov2_sees_images_as_torch_fidelity_shows_them(
    tmp_path: Path, offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = pytest.importorskip("torch_fidelity.feature_extractor_dinov2")
    transformer, path = Transformer(384, 12, 6).requires_grad_(False), tmp_path / "made_up.pth"
    transformer.load_state_dict(waves(transformer))
    torch.save(transformer.state_dict(), path)
    network = DINOv2(size="small", weights=str(path)).open(CPU)
    assert network.sha256 == sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(torch.hub, "load", lambda *_: transformer)
    direct = module.FeatureExtractorDinoV2("dinov2-vit-s-14", ["dinov2"])
    for images in (made_up(2, 3, 40, 56), made_up(1, 1, 310, 300)):
        (features,) = direct(images.expand(-1, 3, -1, -1))
        assert torch.equal(network(images).features, features)
        assert features.shape == (len(images), network.size)


def test_what_is_published_is_named_by_its_sha256() -> None:
    """torch's hub names a file by the first 8 digits."""
    assert inception.PUBLISHED.sha256[:8] in inception.PUBLISHED.file
    assert inception.PUBLISHED.address.endswith(inception.PUBLISHED.file)


def test_weights_execute_nothing(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "executed",)

    torch.save({"weight": Payload()}, tmp_path / "bad.pth")
    with pytest.raises(ConfigError, match="is no file of weights"):
        own_or_published(str(tmp_path / "bad.pth"), inception.PUBLISHED, "any")
    torch.save({"weight": 1}, tmp_path / "number.pth")
    with pytest.raises(ConfigError, match="must hold tensors by name"):
        own_or_published(str(tmp_path / "number.pth"), inception.PUBLISHED, "any")
    assert not (tmp_path / "executed").exists()


@pytest.fixture
def published(tmp_path: Path) -> Published:
    """On a server: here a folder."""
    torch.save({"weight": torch.ones(3)}, tmp_path / "there.pth")
    there = tmp_path / "there.pth"
    return Published("here.pth", sha256(there.read_bytes()).hexdigest(), there.as_uri())


def test_weights_are_downloaded_once(tmp_path: Path, published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = own_or_published("", published, "any")
    assert weights.path == tmp_path / "data" / "weights" / "here.pth"
    assert weights.sha256 == published.sha256
    assert torch.equal(weights.tensors["weight"], torch.ones(3))
    monkeypatch.setattr(weight_files, "_download", None)
    assert own_or_published("", published, "any").path == weights.path


def test_what_torchs_hub_has_is_used(tmp_path: Path, published: Published, offline: None) -> None:
    place = tmp_path / "torch" / "hub" / "checkpoints" / "here.pth"
    place.parent.mkdir(parents=True)
    (tmp_path / "there.pth").rename(place)
    assert own_or_published("", published, "any").path == place


def test_another_file_than_the_published_one_is_never_kept(tmp_path: Path, published: Published) -> None:
    (tmp_path / "there.pth").write_bytes(b"an error page")
    with pytest.raises(FeaturesMissing, match=f"what came has SHA-256 .*, expected {published.sha256}"):
        own_or_published("", published, "any")
    assert [path.name for path in (tmp_path / "data" / "weights").iterdir()] == [".lock"]
    (tmp_path / "data" / "weights" / "here.pth").write_bytes(b"damaged")
    with pytest.raises(ConfigError, match=r"here.pth has SHA-256 .*, expected"):
        own_or_published("", published, "any")


def test_many_processes_download_one_after_another(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    downloads: list[Path] = []
    download = weight_files._download

    def counted(published: Published, path: Path) -> None:
        downloads.append(path)
        download(published, path)

    monkeypatch.setattr(weight_files, "_download", counted)
    threads = [threading.Thread(target=own_or_published, args=("", published, "any")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(downloads) == 1


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Accepts, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/here.pth"


def test_without_internet_it_says_what_to_do(
    tmp_path: Path, silent_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weight_files, "TIMEOUT", 0.2)
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    path = tmp_path / "data" / "weights" / "here.pth"
    says = functools.partial("could not be downloaded \\({}\\). Copy {} to {}, or set `weights` of any to".format)
    with pytest.raises(FeaturesMissing, match=says(".*timed out.*", silent_server, path)):
        own_or_published("", Published("here.pth", "0" * 64, silent_server), "any")
    with on_disk_only(), pytest.raises(FeaturesMissing, match=says("nothing may .*", silent_server, path)):
        own_or_published("", Published("here.pth", "0" * 64, silent_server), "any")


def test_without_torch_fidelity_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inception, "PACKAGE", "no_such_package")
    with pytest.raises(FeaturesMissing, match=r"needs the package torch-fidelity .*pip install 'dist_gan\[metrics\]'"):
        Inception().open(CPU)
