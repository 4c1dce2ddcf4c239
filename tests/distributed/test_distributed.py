"""Several ranks: what they send, that they stay equal, that the split does not matter, that mistakes show."""

from collections.abc import Callable
from typing import Any

import pytest

from dist_gan.distributed.processes import Processes
from tests.support import tiny
from tests.support.ranks import REPEATED

pytestmark = pytest.mark.slow
Ranks = Callable[..., Any]
EXACT = 1e-12


def is_one_reduction_each(calls: list[tuple[str, str, int, int]], D: int, G: int, width: int = 4) -> bool:
    return calls == [
        ("D_gradients", "allreduce_", D, D * width),
        ("G_gradients", "allreduce_", G, G * width),
    ]


def test_an_update_reduces_d_once_and_g_once_and_nothing_else(ranks: Ranks) -> None:
    found = ranks("traffic")
    assert len(found) == 18
    for case, seen in found.items():
        for calls in seen["updates"]:
            assert is_one_reduction_each(calls, seen["D"], seen["G"]), (case, calls)
        assert [call[0] for call in seen["reading"]] == ["metrics"], case
        assert seen["equal"], f"{case}: ranks differ"


def test_every_collective_of_a_run_has_a_purpose(ranks: Ranks) -> None:
    """20 updates, two more to rehearse; metrics four times; the rest are the start and the end."""
    calls = ranks("accounted")["calls"]
    assert {call[0] for call in calls} == {"agreement", "D_gradients", "G_gradients", "metrics"}
    sums = [call[0] for call in calls if call[1] == "allreduce_"]  # DDP also sends its buckets' sizes, once
    assert [sums.count(name) for name in ("D_gradients", "G_gradients", "metrics")] == [22, 22, 4]


@pytest.mark.parametrize(
    ("kind", "recipe", "data"),
    [
        ("mlp", tiny.MLP_PLAIN, tiny.DATA),
        ("dropout", tiny.MLP_DROPOUT, tiny.DATA),
        ("dcgan", tiny.DCGAN_TINY, tiny.DATA_16),
    ],
)
def test_the_same_model_on_any_split(
    same: dict[str, Any], double: Processes, kind: str, recipe: Any, data: Any
) -> None:
    """1x64 = 2x32 = 2x16 in two microbatches, and on one process in four, in float64, with all penalties."""
    alone = tiny.state(tiny.play(tiny.game(double, recipe, tiny.PENALISED, data), 6, data))
    parts = tiny.state(tiny.play(tiny.game(double, recipe, tiny.PENALISED, data, microbatch=16), 6, data))
    assert tiny.difference(parts, alone) < EXACT
    for count in (1, 2):
        seen = same[f"{kind}/{count}"]
        assert seen["equal"], "ranks differ"
        assert tiny.difference(seen["state"], alone) < EXACT
    begin = tiny.state(tiny.game(double, recipe, tiny.PENALISED, data))
    assert tiny.difference(begin, {name: alone[name] for name in begin}) > 0.01, "it never moved"


@pytest.fixture(scope="module")
def same(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run_once("same", tmp_path_factory)


def run_once(scenario: str, tmp_path_factory: pytest.TempPathFactory, count: int = 2) -> dict[str, Any]:
    import torch

    from tests.support.commands import command

    out = tmp_path_factory.mktemp(scenario) / "out.pt"
    done = command("-m", "tests.support.ranks", scenario, str(out), ranks=count)
    assert done.returncode == 0, done.stderr[-4000:]
    return dict(torch.load(out, weights_only=True))


@pytest.mark.parametrize("count", [2, 3])
def test_resumed_is_bitwise_never_stopped(ranks: Ranks, count: int) -> None:
    """On three ranks the order of a sum depends on where DDP's buckets are: `warm_up_reduction` fixes it."""
    found = ranks("resumed", count)
    assert found["resumed"] == found["whole"]


def test_every_mutation_is_caught(ranks: Ranks, double: Processes) -> None:
    """The mistakes that public trainers make: each shows in the traffic, between ranks, or against one process."""
    found = ranks("mutated")
    alone = tiny.game(double, objective=tiny.LAZY)
    D, G = (sum(p.numel() for p in player.parameters) for player in (alone.discriminator, alone.generator))
    right = tiny.state(tiny.play(alone, 6))

    def proved(seen: dict[str, Any]) -> bool:
        return (
            not seen["error"]
            and is_one_reduction_each(seen["calls"], D, G, width=8)
            and seen["equal"]
            and tiny.difference(seen["state"], right) < EXACT
        )

    assert proved(found.pop("none"))
    assert len(found) == 7
    assert [name for name, seen in found.items() if proved(seen)] == []


def test_repeated_turns_on_two_processes(ranks: Ranks, double: Processes) -> None:
    """Gradients in one all-reduce that is no part of what is repeated; the model of one process; resumed to the bit."""
    found = ranks("repeated")
    assert len(found) == 4
    for name, seen in found.items():
        case, exact = name.removesuffix(", exact"), name.endswith("exact")
        alone = tiny.play(tiny.game(double, **REPEATED[case]), 6)
        assert tiny.difference(seen["state"], tiny.state(alone)) < (1e-9 if exact else EXACT), name
        assert seen["resumed"], name
        assert seen["equal"], name
        assert not seen["reports"], name
        if case == "lazy penalties" and not exact:
            D, G = (sum(p.numel() for p in player.parameters) for player in (alone.discriminator, alone.generator))
            assert is_one_reduction_each(seen["calls"], D, G, width=8)


@pytest.mark.parametrize("count", [2, 4])
def test_what_is_sharded_is_the_same_to_the_bit_and_smaller(ranks: Ranks, count: int) -> None:
    for name, seen in ranks("sharded", count).items():
        kept = "rmsprop" not in name  # its parts are repeated by nobody: it may not be captured
        for how in ("repeated", "looked at"):
            assert seen["same"].pop(how) or not kept, (name, how)
        assert seen["same"] == {"eager": True, "resumed": True}, name
        assert sum(seen["kept"]) < 1.3 * seen["all"], "each is kept once, the largest tensor on one of them"
        assert max(seen["kept"]) < seen["all"], name
        assert 0 < seen["bf16"] < 0.05, name
        assert seen["bf16 equal"], name
