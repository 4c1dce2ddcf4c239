"""Each rule about networks, objective, optimizers and augmentation; and the YAML that is made of choices."""

from typing import Any

import pytest

from dist_gan.advising import advice
from dist_gan.advising import r3gan as many
from dist_gan.advising import stylegan2 as few
from dist_gan.advising.advice import advise
from dist_gan.advising.draft import Choice, draft
from dist_gan.advising.machine import NO_GPU, Machine, machine
from dist_gan.config.command_line import complete, load
from dist_gan.config.reading import read_yaml
from dist_gan.errors import ConfigError
from tests.advising.seen import seen
from tests.support.commands import ROOT

SETTINGS = ("batch_size", "discriminator_turns", "networks", "objective", "ema", "augment")
SETTINGS += ("generator_optimizer", "discriminator_optimizer")
CLASSES = {"cats": 30_000, "dogs": 30_000}


@pytest.fixture(autouse=True)
def _features_are_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advice, "features_here", lambda machine: ("efficientnet_lite0", ""))


def written(gpu: str = "24", count: int = 20_000, side: int = 300, **options: Any) -> dict[str, Any]:
    """The YAML, read."""
    return read_yaml(advise(seen(count, side, side, **options), "photos", machine(gpu)))


@pytest.mark.parametrize(
    ("gpu", "count", "networks", "size"),
    [
        ("no", 100, "dcgan", 32),
        ("no", 200_000, "dcgan", 32),
        ("6", 20_000, "sngan", 64),
        ("8", 49_999, "stylegan2", 128),
        ("24", 49_999, "stylegan2", 256),
        ("24", 50_000, "r3gan", 128),
        ("80", 50_000, "r3gan", 256),
    ],
)
def test_networks_by_machine_and_count(gpu: str, count: int, networks: str, size: int) -> None:
    found = written(gpu, count)
    assert (found["networks"]["name"], found["data"]["size"]) == (networks, size)


@pytest.mark.parametrize("gpu", ["no", "6", "8", "24", "80"])
@pytest.mark.parametrize("count", [16, 40, 700, 20_000, 60_000])
@pytest.mark.parametrize("options", [{}, {"gray": True}, {"classes": CLASSES}, {"side": 28}, {"side": 12}])
def test_whatever_is_advised_is_a_config_without_mistakes(gpu: str, count: int, options: dict[str, Any]) -> None:
    """Nor is anything in it unwise, and it needs the same number of images as there are."""
    options = options | ({"gray": count} if options.get("gray") else {})
    side = options.get("side", 300)
    examined = seen(count, side, side, **{key: value for key, value in options.items() if key != "side"})
    config = complete(advise(examined, "photos", machine(gpu)))
    assert (config.mistakes(1), config.unwise()) == ([], [])
    assert config.batch_size <= count
    assert config.networks.is_conditional == ("classes" in options)
    assert config.data.shape.channels == (1 if "gray" in options else 3)
    if config.images >= 20_000_000:
        assert config.batch_size % max(1, config.microbatch) == 0


@pytest.mark.parametrize("count", [100, 200_000])
def test_without_a_gpu_the_settings_are_those_of_the_small_config(count: int) -> None:
    """But for schedules, which end with the images."""
    found, shipped = written("no", count), read_yaml((ROOT / "configs" / "stacked_mnist_small.yaml").read_text())

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: found["images"] if k == "end" else plain(v) for k, v in value.items()}
        return [plain(v) for v in value] if isinstance(value, list) else value

    for key in ("batch_size", "networks", "objective", "generator_optimizer", "discriminator_optimizer", "ema"):
        assert found[key] == plain(shipped[key])
    assert ("augment" in found) == (count == 100)


def test_copies_count_once() -> None:
    assert written(count=50_000)["networks"]["name"] == "r3gan"
    assert written(count=50_000, copies=1)["networks"]["name"] == "stylegan2"


@pytest.mark.parametrize(
    ("size", "batch", "distinct", "gamma"),
    [
        (64, 64, 20_000, 0.0128),
        (256, 64, 20_000, 0.205),
        (256, 32, 20_000, 0.41),
        (64, 64, 4_999, 0.0256),
        (64, 64, 999, 0.0512),
        (32, 64, 20_000, 0.01),
    ],
)
def test_gamma_of_stylegan2(size: int, batch: int, distinct: int, gamma: float) -> None:
    """The authors' rule; twice and four times as much for few images."""
    assert few.gamma(size, batch, distinct)[0] == pytest.approx(gamma)


def test_gamma_of_r3gan_is_that_of_the_presets() -> None:
    assert many.gamma(64, labels=False)[0] == 2
    assert many.gamma(256, labels=False)[0] == 150
    assert many.gamma(64, labels=True)[0] == 1
    assert 0.05 < many.gamma(32, labels=True)[0] == many.gamma(32, labels=False)[0] < 0.5
    grown = [many.gamma(size, labels=False)[0] for size in (8, 16, 32, 64, 128, 256)]
    assert grown == sorted(grown)
    assert 2 < grown[4] < 150


@pytest.mark.parametrize(
    ("name", "count", "side", "classes", "other"),
    [
        ("folder_stylegan2_ada_64", 40_000, 64, {}, ""),
        ("cifar10_stylegan2_ada", 40_000, 32, CLASSES, ""),
        ("folder_r3gan_64", 70_000, 64, {}, ""),
        ("folder_r3gan_256", 70_000, 256, {}, ""),
        ("cifar10_r3gan", 70_000, 32, CLASSES, "objective"),
    ],
)
def test_it_is_what_the_shipped_configs_have(
    name: str, count: int, side: int, classes: dict[str, int], other: str
) -> None:
    """`other`: what differs, here gamma, which is between two presets."""
    shipped = load(ROOT / f"configs/{name}.yaml")
    found = complete(advise(seen(count, side, side, classes=classes), "photos", machine("80")))
    for key in SETTINGS:
        assert (getattr(found, key) == getattr(shipped, key)) == (key != other), key


def test_sngan_is_the_shipped_config_but_for_the_average() -> None:
    shipped = load(ROOT / "configs/folder_sngan_64.yaml")
    found = complete(advise(seen(70_000, 64, 64), "photos", machine("6")))
    for key in (*SETTINGS, "images"):
        assert (getattr(found, key) == getattr(shipped, key)) == (key != "ema"), key


def test_stylegan2_is_the_authors_auto() -> None:
    found = written(side=128)
    assert found["batch_size"] == 64
    assert "microbatch" not in found, "all 64 fit into 24 GB at 128x128"
    assert found["objective"]["penalties"] == [
        {"name": "r1", "weight": 0.0512, "every": 1024, "alone": True},
        {"name": "path_length", "weight": 2, "every": 256, "alone": True},
    ]
    assert found["ema"] == {"half_life_images": 20_000, "ramp": 0.05}
    assert found["augment"] == {"name": "ada", "pipe": "bgc", "target": 0.6, "every": 256}
    assert found["networks"] == {"name": "stylegan2", "mapping_layers": 2, "channel_base": 16_384, "group": 4}
    assert found["precision"] == "bf16"
    assert written(side=128, gpu="8")["microbatch"] == 32


def test_tiny_images_have_the_settings_for_cifar() -> None:
    found = written(side=32)
    assert found["objective"]["penalties"] == [{"name": "r1", "weight": 0.01, "every": 1024, "alone": True}]
    assert found["networks"]["discriminator_architecture"] == "orig"
    assert found["ema"]["half_life_images"] == 500_000
    assert found["generator_optimizer"] == {"learning_rate": 0.002, "beta1": 0, "beta2": 0.991992}


def test_r3gan_is_the_authors_preset() -> None:
    found = written("48", 70_000, 64)
    assert (found["batch_size"], found["microbatch"]) == (256, 128)
    for name, penalty in zip(("r1", "r2"), found["objective"]["penalties"], strict=True):
        assert penalty == {
            "name": name,
            "weight": 2.0,
            "schedule": {"name": "cosine", "end": 20_000_000, "start": 1, "final": 0.1},
            "precision": "mixed",
        }
    assert found["augment"]["strength"] == 0.3
    assert found["augment"]["target"] is None
    config = complete(advise(seen(70_000, 64, 64), "photos", machine("48")))
    adam = config.generator_optimizer
    assert [adam.rate(images) for images in (0, 20_000_000)] == pytest.approx([2e-4, 5e-5])
    assert [config.ema.half_life(images) for images in (0, 20_000_000)] == [0, 500_000]


def test_few_images_are_augmented_and_many_by_no_feedback() -> None:
    assert written("no", 49_999)["augment"]["name"] == "diffaugment"
    assert "augment" not in written("no", 50_000)
    assert written("24", 49_999)["augment"]["target"] == 0.6
    assert written("24", 50_000)["augment"]["target"] is None


@pytest.mark.parametrize("count", [20_000, 60_000])
def test_what_is_not_mirrored_is_not_augmented_so(count: int) -> None:
    found = written(count=count, asymmetry=0.5)
    assert (found["data"]["flip"], found["augment"]["xflip"]) == (False, 0)


def test_precision_by_the_machine() -> None:
    assert written("no")["precision"] == "fp32"
    assert written("24")["precision"] == "bf16"
    older = read_yaml(advise(seen(), "photos", Machine(16, False, "an older GPU")))
    assert older["precision"] == "fp32"


def test_very_few_images_have_a_warning() -> None:
    text = advise(seen(900), "photos", NO_GPU)
    assert "900 different images are very few" in text
    assert "very few" not in advise(seen(1000), "photos", NO_GPU)


def test_what_is_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [metric["name"] for metric in written("no", 5000)["evaluate"]] == ["fid"]
    metrics = written("no", 400)["evaluate"]
    assert [metric["name"] for metric in metrics] == ["fid", "kid"]
    assert metrics[1]["subset_size"] == 200
    assert written("no", 400)["save"]["best"] == "fid"
    monkeypatch.setattr(advice, "features_here", lambda machine: (None, "there are no weights"))
    text = advise(seen(), "photos", NO_GPU)
    assert read_yaml(text)["evaluate"] == []
    assert "# Nothing is evaluated: there are no weights" in text
    assert "best" not in read_yaml(text)["save"]


def test_machines() -> None:
    assert machine("no") is NO_GPU
    assert machine("24").memory == 24
    for wrong in ("", "none", "0", "2.5", "24GB", "9999"):
        with pytest.raises(ConfigError, match="gpu: expected auto, no, or the GB"):
            machine(wrong)


def test_every_choice_but_the_plain_ones_has_a_reason() -> None:
    """A block has at least one comment in it, or above it."""
    for gpu, count in (("no", 900), ("6", 900), ("24", 900), ("24", 90_000)):
        text = advise(seen(count), "photos", machine(gpu))
        for key in ("images", "batch_size", "precision", "  size", "  fit", "  flip", "  penalties"):
            lines = text.splitlines()
            places = [number for number, line in enumerate(lines) if line.startswith(f"{key}:")]
            assert all(lines[place - 1].lstrip().startswith("#") for place in places), (key, text)
        assert max(map(len, text.splitlines())) <= 120


def test_a_draft_keeps_order_values_and_reasons() -> None:
    choices = [
        Choice("b.x", 1),
        Choice("a", "12:30", "Text that looks like a time. " + "Long. " * 30),
        Choice("b.y.z", [{"name": "k", "every": 1_024_000}], "Why."),
        Choice("b.w", None),
        Choice("n", 2_000_000),
        Choice("t", "2000000"),
    ]
    text = draft(["Head.", "", "More."], choices)
    assert read_yaml(text) == {
        "b": {"x": 1, "y": {"z": [{"name": "k", "every": 1_024_000}]}, "w": None},
        "a": "12:30",
        "n": 2_000_000,
        "t": "2000000",
    }
    assert text.startswith("# Head.\n#\n# More.\nb:\n  x: 1\n  y:\n    # Why.\n    z:\n")
    assert "n: 2_000_000\n" in text
    assert max(map(len, text.splitlines())) <= 110
