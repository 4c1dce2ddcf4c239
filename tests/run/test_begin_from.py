"""A new run from the weights of another, and layers of D that do not move."""

import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from dist_gan.config.command_line import load
from dist_gan.networks import DCGAN, MLP
from dist_gan.networks.freezing import freeze_first, layers_in_order
from dist_gan.run import checkpoint
from dist_gan.shapes import DataShape, ImageShape
from tests.support.commands import command, doctor
from tests.support.runs import SMALL, assert_same, newest, run

FAST = ["generator_optimizer.learning_rate=1e-3", "discriminator_optimizer.learning_rate=1e-3", "ema.ramp=0"]
FREEZE = "freeze_discriminator_layers=2"
FROZEN = ("tower.layers.0.", "tower.layers.1.")


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parent") / "run"
    assert run(folder, 640) == 0
    return folder


def begun(folder: Path, parent: Path, images: int, *more: str) -> int:
    return run(folder, images, f"begin_from={parent}", *FAST, *more)


STILL = [*(f"{player}_optimizer.learning_rate=1e-30" for player in ("generator", "discriminator")), "ema.ramp=0"]
STILL.append("ema.half_life_images=1000000000000")
"""Nothing moves by as much as shows in float32."""


def test_it_has_the_parents_weights_and_its_own_config(tmp_path: Path, parent: Path) -> None:
    folder = tmp_path / "run"
    more = ["objective.loss.name=hinge", "batch_size=32", "seed=3"]
    assert run(folder, 32, f"begin_from={parent}", *STILL, *more) == 0
    old, new = newest(parent), newest(folder)
    for file in ("generator", "discriminator", "ema"):
        for name, tensor in old.tensors[file].items():
            assert torch.allclose(tensor, new.tensors[file][name], rtol=1e-6, atol=0), (file, name)
    assert new.state["images_seen"] == 32
    assert new.tensors["generator_optimizer"]["tower.layers.0.weight.step"] == 1
    assert new.state["parent"]["checkpoint"] == str(old.path.resolve())
    assert new.state["parent"]["images_seen"] == 640
    assert new.state["wandb"] != old.state["wandb"]
    assert load(folder / "config.yaml").begin_from == str(parent)


def test_its_own_checkpoints_win_and_the_parentage_stays(tmp_path: Path, parent: Path) -> None:
    """In one go, and in two with another parent's state meanwhile: the same bits."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert begun(whole, parent, 640) == 0
    assert begun(parts, parent, 320) == 0
    assert begun(parts, Path(f"{parent}/"), 640) == 0
    assert_same(newest(whole), newest(parts))
    assert newest(parts).state["parent"] == newest(whole).state["parent"]


def test_a_parent_is_needed_once(tmp_path: Path, parent: Path) -> None:
    own = tmp_path / "parent"
    shutil.copytree(parent, own)
    assert begun(tmp_path / "run", own, 64) == 0
    shutil.rmtree(own)
    assert begun(tmp_path / "run", own, 128) == 0
    assert newest(tmp_path / "run").state["parent"]["images_seen"] == 640


def test_another_parent_is_another_run(tmp_path: Path, parent: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert begun(tmp_path / "run", parent, 64) == 0
    assert run(tmp_path / "run", 128, *FAST) == 2
    assert f"begin_from: '{parent}' in the run, '' now" in capsys.readouterr().err


def test_optimizers_by_choice(tmp_path: Path, parent: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert begun(tmp_path / "a", parent, 64, "begin_from_optimizers=true") == 0
    steps = newest(parent).tensors["generator_optimizer"]["tower.layers.0.weight.step"]
    assert newest(tmp_path / "a").tensors["generator_optimizer"]["tower.layers.0.weight.step"] == steps + 1
    assert begun(tmp_path / "b", parent, 64, "begin_from_optimizers=true", "generator_optimizer.name=sgd") == 2
    assert "generator_optimizer is adam there and sgd here" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_optimizers_of_a_partial_fit(tmp_path: Path) -> None:
    """Layers that start afresh keep what their optimizer was built with: SGD's momentum is there from the start."""
    sgd = [f"{player}_optimizer={{name: sgd, momentum: 0.9}}" for player in ("generator", "discriminator")]
    assert run(tmp_path / "parent", 640, *FAST, *sgd) == 0
    both = ["begin_from_optimizers=true", "begin_from_partial=true", "networks.conditional=true"]
    assert begun(tmp_path / "run", tmp_path / "parent", 64, *sgd, *both) == 0
    assert "embedding.weight.momentum_buffer" in newest(tmp_path / "run").tensors["generator_optimizer"]


def test_what_does_not_fit_is_named(tmp_path: Path, parent: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    assert begun(folder, parent, 64, "networks.conditional=true") == 2
    error = capsys.readouterr().err
    for line in ("G.tower.layers.0: weight is 4x100 there, 4x116 here", "D.embedding: weight is missing there, 4x16"):
        assert line in error
    assert "begin_from_partial=true" in error
    assert not folder.exists()
    assert run(folder, 64, f"begin_from={parent}", *STILL, "networks.conditional=true", "begin_from_partial=true") == 0
    afresh = ["D.embedding", "D.tower.layers.0", "G.embedding", "G.tower.layers.0"]
    assert newest(folder).state["parent"]["afresh"] == afresh
    assert "these layers start from initial weights: G.tower.layers.0" in " ".join(capsys.readouterr().out.split())
    old, new = newest(parent).tensors["ema"], newest(folder).tensors["ema"]
    assert torch.allclose(old["tower.layers.1.weight"], new["tower.layers.1.weight"], rtol=1e-6, atol=0)
    initial = MLP(width=4, conditional=True).build(DataShape(ImageShape(1, 8, 8), 4), 0).generator.state_dict()
    assert torch.allclose(initial["tower.layers.0.weight"], new["tower.layers.0.weight"], rtol=1e-6, atol=0)


MISTAKES = [
    (["networks.width=5", "begin_from_partial=true"], "no layer of"),
    (["begin_from=nowhere"], "begin_from: nowhere is neither a checkpoint nor a run with one"),
    (["resume=somewhere"], "begin_from: resume names a checkpoint too"),
    (["freeze_discriminator_layers=4"], "freeze_discriminator_layers: 4, and D has 4 layers"),
]


@pytest.mark.parametrize(("more", "expected"), MISTAKES, ids=lambda x: str(x)[:30])
def test_mistakes_leave_nothing(
    more: list[str], expected: str, tmp_path: Path, parent: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert begun(tmp_path / "run", parent, 64, *more) == 2
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_damaged_parent_and_the_doctor(tmp_path: Path, parent: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "images-000000000640"
    bad.mkdir()
    for file in newest(parent).path.iterdir():
        (bad / file.name).write_bytes(file.read_bytes())
    (bad / "ema.safetensors").write_bytes(b"x")
    assert begun(tmp_path / "run", bad, 64) == 3
    assert "ema.safetensors" in capsys.readouterr().err
    assert doctor.main([*SMALL, f"run={tmp_path}/run", f"begin_from={tmp_path}/nowhere"]) == 2
    assert "nowhere is neither a checkpoint" in " ".join(capsys.readouterr().out.split())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "more", [[], ["exact=true", "microbatch=16"], ["objective.penalties=[{name: r1}]", "microbatch=8"]]
)
def test_frozen_layers_do_not_move(more: list[str], tmp_path: Path, parent: Path) -> None:
    """They stay to the bit, the others move; resumed it is the same run."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert begun(whole, parent, 256, FREEZE, *more) == 0
    old, new = newest(parent).tensors["discriminator"], newest(whole).tensors["discriminator"]
    for name, tensor in old.items():
        assert torch.equal(tensor, new[name]) == name.startswith(FROZEN), name
    assert not [name for name in newest(whole).tensors["discriminator_optimizer"] if name.startswith(FROZEN)]
    assert begun(parts, parent, 128, FREEZE, *more) == 0
    assert begun(parts, parent, 256, FREEZE, *more) == 0
    assert_same(newest(whole), newest(parts))


@pytest.mark.slow
def test_frozen_layers_on_two_ranks(tmp_path: Path, parent: Path) -> None:
    """Exact: the same bits as alone. Reduced by DDP: the frozen ones stay to the bit, the others to rounding."""
    for kind, more in (("exact", ["exact=true", "microbatch=16"]), ("ddp", ["precision=fp64"])):
        arguments = [*SMALL, "images=256", f"begin_from={parent}", FREEZE, *FAST, *more]
        for ranks in (1, 2):
            done = command("-m", "dist_gan.train", *arguments, f"run={tmp_path}/{kind}{ranks}", ranks=ranks)
            assert done.returncode == 0, done.stderr[-3000:]
        one, two = (newest(tmp_path / f"{kind}{ranks}") for ranks in (1, 2))
        if kind == "exact":
            assert_same(one, two)
        old = newest(parent).tensors["discriminator"]
        for name, tensor in two.tensors["discriminator"].items():
            if name.startswith(FROZEN):
                assert torch.equal(tensor.to(old[name]), old[name])
            else:
                torch.testing.assert_close(tensor, one.tensors["discriminator"][name], rtol=1e-9, atol=1e-12)


def test_the_order_of_layers() -> None:
    shape = DataShape(ImageShape(3, 16, 16), 3)
    D = DCGAN(width=4, conditional=True).build(shape, 0).discriminator
    kinds = [type(layer).__name__ for layer in layers_in_order(D)]
    assert kinds == ["Conv2d", "Conv2d", "GroupBatchNorm2d", "Conv2d", "Embedding"]
    freeze_first(D, 3)
    assert [name for name, p in D.named_parameters() if p.requires_grad] == ["last.weight", "embedding.weight"]

    class Stated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last, self.first = nn.Linear(2, 1), nn.Linear(2, 2)

        def layers_in_order(self) -> list[nn.Module]:
            return [self.first, self.last]

    stated = Stated()
    freeze_first(stated, 1)
    assert [p.requires_grad for p in stated.first.parameters()] == [False, False]
    assert all(p.requires_grad for p in stated.last.parameters())


def test_resume_by_path_goes_on_exactly(tmp_path: Path, parent: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`resume=PATH` is the same run elsewhere, `begin_from=PATH` another one."""
    path = checkpoint.existing(parent / "checkpoints")[-1]
    assert run(tmp_path / "on", 1280, f"resume={path}") == 0
    assert run(tmp_path / "whole", 1280) == 0
    assert_same(newest(tmp_path / "on"), newest(tmp_path / "whole"))
    assert run(tmp_path / "other", 1280, f"resume={path}", "objective.loss.name=hinge") == 2
    assert "makes another model" in capsys.readouterr().err
