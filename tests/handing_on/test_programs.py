"""ONNX and torch.export: the same images, any number of them; and what cannot be exported leaves nothing."""

import importlib.util
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from dist_gan import load_generator
from dist_gan.distributed.numerics import preserved, set_float32_precision
from dist_gan.handing_on.programs import OPSET
from dist_gan.sampling.generate import sample_latents
from tests.support.commands import export
from tests.support.runs import SMALL, SMALL_DCGAN, SMALL_STYLEGAN2, run


@pytest.fixture(autouse=True)
def _float32_as_others_set_it() -> Iterator[None]:
    """In a process in which TF32 was switched off, torch.export raises."""
    with preserved():
        set_float32_precision("fp32")
        yield


HAS_ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))
needs_onnx = pytest.mark.skipif(not HAS_ONNX, reason="onnx, onnxscript or onnxruntime is not installed")
KINDS = {
    "mlp": SMALL,
    "conditional dcgan": [*SMALL_DCGAN, "networks.conditional=true"],
    "conditional r3gan": [
        *SMALL[2:],
        "data={name: generated, size: 16}",
        "networks={name: r3gan, width: 8, group: 4, conditional: true}",
    ],
    "conditional stylegan2": [*SMALL_STYLEGAN2, "networks.conditional=true"],
    "fp64": [*SMALL, "precision=fp64", "networks.conditional=true"],
}
ODD = '''
import random
import torch
from dist_gan.networks.mlp import MLP, MLPGenerator
from dist_gan.networks.base import Networks

class ThroughNumpy(MLPGenerator):
    def forward(self, latents, condition=None, noise=None):
        images = super().forward(latents, condition, noise)
        return torch.from_numpy(images.detach().numpy().copy()) if not self.training else images

class OfTwo(MLPGenerator):
    def forward(self, latents, condition=None, noise=None):
        images = super().forward(latents, condition, noise)
        return images if len(latents) == 2 or self.training else 0.5 * images

class Other(MLPGenerator):
    calls = 0

    def forward(self, latents, condition=None, noise=None):
        images = super().forward(latents, condition, noise)
        if not self.training:
            Other.calls += 1
            images = images * (0.5 if Other.calls % 2 else 0.25)
        return images

class Odd(MLP):
    """One whose generator cannot be exported."""

    kind: str = "ThroughNumpy"

    def build(self, shape, seed):
        networks = super().build(shape, seed)
        generator = globals()[self.kind](shape, self)
        generator.load_state_dict(networks.generator.state_dict())
        return Networks(generator, networks.discriminator)
'''


@pytest.fixture(scope="module", params=KINDS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param) / "trained"
    assert run(folder, 256, small=KINDS[request.param]) == 0
    return folder


def expected(run: Path, count: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    generator = load_generator(run, "cpu").float()
    inputs = {"latents": sample_latents(7, range(count), generator.latent)}
    if generator.classes:
        inputs["labels"] = torch.arange(count) * 3 % generator.classes
    return inputs, generator(*inputs.values())


@pytest.mark.slow
@needs_onnx
def test_onnx(trained: Path, tmp_path: Path) -> None:
    import onnx
    import onnxruntime

    assert export.main([str(trained), f"out={tmp_path}/a", "onnx=true"]) == 0
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "README.md", "config.json", "generator.onnx", "generator.safetensors", "samples.png",
    ]  # fmt: skip
    found = onnx.load(tmp_path / "a/generator.onnx")
    onnx.checker.check_model(found)
    assert [entry.version for entry in found.opset_import if entry.domain == ""] == [OPSET]
    assert f"opset {OPSET}" in (tmp_path / "a/README.md").read_text()
    session = onnxruntime.InferenceSession(tmp_path / "a/generator.onnx", providers=["CPUExecutionProvider"])
    for count in (1, 3, 50):
        inputs, images = expected(trained, count)
        (made,) = session.run(["images"], {name: tensor.numpy() for name, tensor in inputs.items()})
        assert made.shape == images.shape
        assert made.dtype == "float32"
        assert abs(made - images.numpy()).max() < 1e-4


@pytest.mark.slow
def test_program(trained: Path, tmp_path: Path) -> None:
    assert export.main([str(trained), f"out={tmp_path}/a", "program=true"]) == 0
    generator: Any = torch.export.load(tmp_path / "a/generator.pt2").module()
    for count in (1, 3, 50):
        inputs, images = expected(trained, count)
        assert (generator(*inputs.values()) - images).abs().max() < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("ThroughNumpy", "this generator cannot be exported ("),
        ("OfTwo", "this generator cannot be exported ("),
        ("Other", "differ from the generator's by up to "),
    ],
)
def test_what_cannot_be_exported_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, said: str
) -> None:
    (tmp_path / "odd.py").write_text(ODD)
    small = [option for option in SMALL if "networks" not in option]
    networks = f"networks={{name: '{tmp_path}/odd.py:Odd', width: 4, dropout: 0, kind: {kind}}}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert run(tmp_path / "run", 256, networks, small=small) == 0
    for option in ("program", *(("onnx",) if HAS_ONNX else ())):
        capsys.readouterr()
        assert export.main([str(tmp_path / "run"), f"out={tmp_path}/a", f"{option}=true", "trust_code=true"]) == 2
        out, error = capsys.readouterr()
        assert out == ""
        assert error.count("\n") == 1, error
        assert f"{option}: " in error
        assert said in error
        assert sorted(path.name for path in tmp_path.iterdir()) == ["odd.py", "run"]
    assert export.main([str(tmp_path / "run"), f"out={tmp_path}/a", "trust_code=true"]) == 0, "without a program it can"


def test_a_missing_package_is_named_before_anything_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name.startswith("onnx") else there(name))
    assert export.main([str(tmp_path / "no run is looked for"), f"out={tmp_path}/a", "onnx=true"]) == 2
    assert capsys.readouterr().err == (
        "dist_gan.export: onnx: needs onnx, onnxscript, onnxruntime: pip install 'dist_gan[export]'\n"
    )
