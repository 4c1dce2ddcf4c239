"""Configs that are refused, each with one clear line, and those that are only unwise."""

from pathlib import Path

import pytest

from dist_gan.config.command_line import load
from dist_gan.config.schema import Config
from tests.support.commands import ROOT
from tests.support.mistaken import mistakes

MISTAKES: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
    (("batchsize=3",), ("batchsize: unknown key", "did you mean batch_size?")),
    (("networks.widht=3",), ("networks.widht: unknown key", "did you mean networks.width?")),
    (("width=3",), ("width: unknown key", "did you mean networks.width?")),
    (("generator_optimizer.lr=1",), ("generator_optimizer.lr: unknown key", "learning_rate")),
    (("networks.name=dcgn",), ("networks.name", "expected one of mlp, dcgan", "'dcgn'", "did you mean dcgan?")),
    (("seed=abc",), ("seed: expected a whole number, got 'abc'",)),
    (("seed=1.5",), ("seed: expected a whole number, got 1.5",)),
    (("exact=perhaps",), ("exact: expected true or false, got 'perhaps'",)),
    (("timeout=soon",), ("timeout: expected a number, got 'soon'",)),
    (("run=[1]",), ("run: expected text, got [1]",)),
    (("timeout=.nan",), ("timeout: expected a finite number, got nan",)),
    (("images=-4",), ("images: expected greater than or equal to 1, got -4",)),
    (
        ("objective.penalties=[{name: r3}]",),
        ("objective.penalties.0.name: expected one of r1, r2, wgan_gp,", "got 'r3'"),
    ),
    (
        ("objective.penalties=[{name: r1, wieght: 3}]",),
        ("objective.penalties.0.wieght", "objective.penalties.0.weight?"),
    ),
    (("objective.loss.real_target=2",), ("objective.loss.real_target: expected less than or equal to 1, got 2",)),
    (("data.name=folder",), ("data.path: must be given",)),
    (
        ("generator_optimizer.schedule={name: linear, end: 3, begin: 9}",),
        ("generator_optimizer.schedule: expected end to come after begin (9), not 3",),
    ),
    (
        ("generator_optimizer.beta2_schedule={name: cosine, end: 9}",),
        ("generator_optimizer: expected beta2_schedule.final above 0, not 0: it is a factor of 1 - beta2",),
    ),
    (
        ("generator_optimizer.beta2=0.9", "generator_optimizer.beta2_schedule={name: linear, end: 9, final: 11}"),
        ("generator_optimizer: expected beta2_schedule to be at most 10, not 11: it is a factor of 1 - beta2",),
    ),
    (
        ("generator_optimizer={name: sgd, nesterov: true}",),
        ("generator_optimizer: expected momentum above 0 where nesterov is true, 0.9 for example:",),
    ),
    (
        ("augment={name: ada, schedule: {name: linear, end: 9}}",),
        ("augment: expected no schedule beside a target, by which the strength moves: set target to null",),
    ),
    (
        ("augment={name: ada, imgfilter_bands: [1, -1, 1, 1]}",),
        ("augment.imgfilter_bands.1: expected greater than or equal to 0, got -1",),
    ),
    (("precision=fp8",), ("precision: expected 'fp64', 'fp32', 'tf32', 'bf16' or 'fp16', got 'fp8'",)),
    (("resume",), ("'resume': expected CONFIG.yaml first and then dotted.key=value",)),
    (("--seed=3",), ("'--seed=3': expected",)),
    (("seed=[",), ("seed: '[' is no YAML value",)),
    (("generator_optimizer.learning_rate=.nan",), ("generator_optimizer.learning_rate",)),
    (("networks.name=dcgan",), ("32x32 or 16x16", "28x28", "networks.start=7x7", "data.size")),
    (("networks.name=dcgan", "data.size=32", "networks.group=24"), ("batch_size: 64", "full groups of 24", "none")),
    (("networks.name=dcgan", "data.size=32", "microbatch=24"), ("microbatch: 24 is no multiple of 16",)),
    (
        ("objective.penalties=[{name: approximate_r1, share: 3}]",),
        ("batch_size: 64 cannot be split", "full groups of 3 (share of penalties)", "63 or 66"),
    ),
    (
        (
            "networks={name: stylegan2, group: 4}",
            "data.size=32",
            "objective.penalties=[{name: approximate_r1, share: 2}]",
        ),
        ("objective.penalties: approximate_r1 with a share: this D's logits depend on the other images", "share=1"),
    ),
    (("speed=compile", "exact=true"), ("speed: compile rounds in another way", "exact=false")),
    (("wire=bf16", "exact=true"), ("wire: exact=true sends integers", "wire=fp32")),
    (("wire=bf16", "precision=fp64"), ("wire: bf16 is for gradients in float32", "precision=fp64")),
    (("shard=true", "precision=fp16"), ("shard: the loss scale of fp16", "precision=bf16")),
    (
        ("shard=true", "generator_optimizer.name=tests.support.own_parts:RMSProp"),
        ("shard: each process moves some of the parameters, and generator_optimizer", "`separate = True`"),
    ),
    (("objective.fresh_reals=true",), ("objective.fresh_reals: non_saturating does not show", "relativistic")),
    (
        ("microbatch=48",),
        ("batch_size: 64 cannot be split over 1 processes in microbatches of 48", "Or microbatch=32. Numbers"),
    ),
    (("data.name=generated", "data.channels=0"), ("data.channels: expected greater than or equal to 1, got 0",)),
]


@pytest.mark.parametrize(("overrides", "expected"), MISTAKES, ids=lambda x: x[0][:40])
def test_mistakes_are_explained(overrides: tuple[str, ...], expected: tuple[str, ...]) -> None:
    text = mistakes(*overrides)
    assert len(text.splitlines()) == 1, text
    for part in expected:
        assert part in text, text
    assert "{'" not in text, "a whole block hides what is said"


def test_all_mistakes_are_reported_at_once() -> None:
    assert len(mistakes("seed=x", "images=0", "foo=1", "networks.width=-1").splitlines()) == 4


def test_worlds_that_cannot_be() -> None:
    assert "Numbers of processes that it works with: 1, 2, 4" in mistakes(
        "networks.name=dcgan", "data.size=32", "networks.group=16", world=8
    )
    assert "cannot be split over 3 processes" in mistakes(world=3)
    assert "processes: 4 expected, and the launcher started 2" in mistakes("processes=4", world=2)
    assert "debug: one process" in mistakes("debug=true", world=2)


@pytest.mark.parametrize(
    ("batch_size", "share", "expected"),
    [
        (64, 1, 16),
        (48, 3, 24),
        (48, 1, 16),
        (40, 1, 20),
        (10, 1, 10),
        (24, 5, 20),
        (12, 3, 12),
        (54, 3, 18),
        (17, 1, 17),
    ],
)
def test_the_microbatch_of_an_exact_run(batch_size: int, share: int, expected: int) -> None:
    """The smallest from 16 on by which the batch can be divided: 16 or the first multiple, where that does."""
    penalty = f"objective.penalties=[{{name: approximate_r1, share: {share}}}]"
    config = load(None, ["exact=true", f"batch_size={batch_size}", penalty])
    assert config.used_microbatch == expected
    assert config.identity()["microbatch"] == expected
    assert (config.mistakes(1) == []) == (batch_size % share == 0)


def test_a_microbatch_that_fits_the_processes_is_named() -> None:
    penalty = "objective.penalties=[{name: approximate_r1, share: 3}]"
    text = mistakes("exact=true", "batch_size=48", penalty, world=4)
    assert "over 4 processes in microbatches of 24, " in text
    assert "Or microbatch=12. Numbers of processes that it works with: 1, 2" in text
    assert load(None, ["exact=true", "batch_size=48", penalty, "microbatch=12"]).mistakes(4) == []
    assert "Or microbatch" not in mistakes("exact=true", "batch_size=48", penalty, world=5)


def test_files_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert "Did you mean configs/mnist_mlp.yaml?" in mistakes(path=Path("mnist_mpl.yaml"))
    for content, expected in (
        (b"- a\n- b\n", "expected keys and values"),
        (b"a: [", "is no YAML"),
        (b"\xff\xfe\x00", "no YAML"),
    ):
        path = tmp_path / "x.yaml"
        path.write_bytes(content)
        assert expected in mistakes(path=path)
    (tmp_path / "empty.yaml").write_text("")
    assert load(tmp_path / "empty.yaml") == Config()


def test_only_unwise() -> None:
    def unwise(*overrides: str) -> str:
        config = load(None, overrides)
        assert config.mistakes(1) == []
        return "\n".join(config.unwise())

    dcgan = ("networks.name=dcgan", "data.size=32")
    assert unwise() == unwise(*dcgan) == ""
    assert "mixes samples" in unwise(*dcgan, "objective.penalties=[{name: r1}]")
    assert unwise("networks.name=stylegan2", "data.size=32", "objective.penalties=[{name: r1}]") == ""
    assert unwise("objective.penalties=[{name: r1}]") == ""
    mixed = "objective.penalties=[{name: r1, precision: mixed}]"
    assert "r1 in fp16" in unwise(mixed, "precision=fp16")
    assert unwise(mixed, "precision=bf16") == ""
    near = "objective.penalties=[{name: approximate_r1, precision: mixed}]"
    assert "approximate_r1 in bf16: a small difference" in unwise(near, "precision=bf16")
    assert "approximate_r1 in tf32" in unwise("objective.penalties=[{name: approximate_r1}]", "precision=tf32")
    assert unwise(near) == ""
    assert unwise(*dcgan, "objective.penalties=[{name: path_length}]") == ""
    assert "nothing is augmented" in unwise("augment={name: ada, target: null}", "data.size=28")
    assert "ema.ramp: the smaller" in unwise("ema.schedule={name: cosine, end: 100}")
    assert "Lipschitz" in unwise("objective.loss.name=wasserstein", "objective.penalties=[{name: centering}]")
    assert "far from any recipe" in unwise("generator_optimizer.learning_rate=0.5")
    assert "Lipschitz" in unwise("objective.loss.name=wasserstein")
