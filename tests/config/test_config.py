from pathlib import Path
from typing import Any

import pytest

from dist_gan.config.command_line import dump, load, parse
from dist_gan.config.explain import differences, help_text, parts_of
from dist_gan.config.schema import Config
from dist_gan.part import Part
from tests.support.commands import ROOT
from tests.support.mistaken import mistakes

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_say_what_they_are(path: Path) -> None:
    text = path.read_text()
    header = [line for line in text.splitlines() if line.startswith("#")]
    assert any(f"configs/{path.name}" in line for line in header), "the header has the exact command"
    config = load(path)
    assert config.run == f"runs/{path.stem}"
    assert config.mistakes(1) == config.unwise() == []
    for processes in (2, 4):
        if config.batch_size % (processes * config.networks.batch_multiple) == 0:
            assert config.mistakes(processes) == []


def test_all_are_shipped() -> None:
    names = {path.stem for path in CONFIGS}
    assert names == {
        "mnist_mlp",
        "mnist_dcgan",
        "mnist_dcgan_conditional",
        "fashion_dcgan",
        "cifar10_biggan",
        "cifar10_dcgan",
        "folder_dcgan",
        "stacked_mnist_dcgan",
        "cifar10_stylegan2_ada",
        "folder_stylegan2_ada_64",
        "folder_stylegan2_ada_256",
        "cifar10_sngan",
        "cifar10_cgan_projection",
        "folder_sngan_64",
        "cifar10_r3gan",
        "folder_r3gan_64",
        "folder_r3gan_256",
        "stacked_mnist_r3gan",
        "stacked_mnist_small",
    }


def test_no_argument_is_the_mnist_mlp() -> None:
    assert load(None) == load(ROOT / "configs" / "mnist_mlp.yaml") == Config()


@pytest.mark.parametrize("path", [None, *CONFIGS], ids=lambda path: path.stem if path else "default")
def test_load_dump_load_is_identity(path: Path | None, tmp_path: Path) -> None:
    config = load(path, ["objective.penalties=[{name: r1, every: 512}]", "generator_optimizer.learning_rate=3e-4"])
    (tmp_path / "config.yaml").write_text(dump(config))
    assert load(tmp_path / "config.yaml") == parse(dump(config)) == config


def test_overrides() -> None:
    config = load(
        ROOT / "configs" / "mnist_dcgan.yaml",
        ["generator_optimizer.learning_rate=2e-3", "objective.penalties=[{name: r1}, {name: r2}]", "seed=7"],
    )
    assert config.generator_optimizer.learning_rate == 2e-3  # which PyYAML reads as a string
    assert [penalty.name for penalty in config.objective.penalties] == ["r1", "r2"]
    assert config.seed == 7
    assert config.networks.name == "dcgan"


def test_a_name_starts_its_block_afresh_whatever_the_order() -> None:
    path = ROOT / "configs" / "mnist_dcgan.yaml"
    for overrides in (["networks.name=mlp", "networks.dropout=0.5"], ["networks.dropout=0.5", "networks.name=mlp"]):
        networks = load(path, overrides).networks
        assert (networks.name, networks.dropout, networks.width) == ("mlp", 0.5, 32)  # type: ignore[union-attr]
    assert load(path, ["networks.name=dcgan"]).networks.width == 64


def test_items_of_a_list_are_reached_by_number() -> None:
    both = "objective.penalties=[{name: r1}, {name: r2}]"
    config = load(None, [both, "objective.penalties.1.weight=7"])
    assert [penalty.weight for penalty in config.objective.penalties] == [1, 7]
    assert "objective.penalties.2: there are 2 items" in mistakes(both, "objective.penalties.2.weight=7")


def test_what_determines_the_model_and_what_does_not() -> None:
    base = load(None)
    free = load(
        None,
        ["images=5", "run=x", "track.every=3", "track.wandb=disabled", "save.keep=9", "sample.every=7", "microbatch=8"],
    )
    assert differences(base, free) == []
    assert differences(base, load(None, ["seed=4", "networks.width=8"])) == [
        "seed: 0 in the run, 4 now",
        "networks.width: 32 in the run, 8 now",
    ]
    assert differences(base, load(None, ["objective.loss.name=hinge"])) == [
        "objective.loss: non_saturating in the run, hinge now"
    ]
    assert len(differences(base, load(None, ["objective.penalties=[{name: r1}]"]))) == 1


def walk(part: type[Part]) -> Any:
    for name, field in part.model_fields.items():
        yield part, name, field
        for inner in parts_of(field.annotation):
            yield from walk(inner)


def test_every_key_has_a_docstring_and_stands_in_the_help() -> None:
    text = help_text(Config())
    for part, name, field in walk(Config):
        if name != "name":
            assert field.description, f"{part.__name__}.{name} has no docstring"
            assert " ".join(field.description.split()) in text
            assert f"{name}=" in text or f"{name}:" in text
        else:
            assert f".name={field.default}" in text or field.default == "adam"


def test_choices_that_come_again_are_described_once() -> None:
    text = help_text(Config())
    assert (
        text.count("schedule.name=cosine") == text.count("optimizer.name=adamw") == text.count(".name=inception:") == 1
    )
    assert "discriminator_optimizer: How the weights of D move. As generator_optimizer." in text
    other = help_text(load(None, ["discriminator_optimizer.learning_rate=1e-3"]))
    assert "discriminator_optimizer.learning_rate=0.001" in other  # what is set differs, and is shown


def test_a_part_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Config().seed = 3  # type: ignore[misc]
