"""Predictions: one process's update and what reductions add to it; devices; memory."""

import pytest

from dist_gan.config.command_line import configured
from dist_gan.config.schema import Config
from dist_gan.planning.counting import Arrival, Work
from dist_gan.planning.devices import DEVICES, Reached, device
from dist_gan.planning.estimate import memory, number_bytes, predicted, reduced_at_once
from dist_gan.planning.links import Link, World
from tests.support.runs import SMALL

ARRIVALS = {"D": (Arrival(250_000, 0.0),), "G": (Arrival(500_000, 0.0),)}
MOVES = {"D": 2.0, "G": 1.0}


def config(*more: str) -> Config:
    return configured([*SMALL, "batch_size=64", *more])


def hosts(count: int) -> World:
    return World(count, 1, Link(100e6, 0.0), Link(float("inf"), 0.0), "gloo")


def test_reductions_are_added_to_one_process_s_update() -> None:
    found = predicted(config("discriminator_turns=2"), hosts(2), 0.06, ARRIVALS, MOVES, wire=4, at_once=False)
    assert found.exposed == pytest.approx(2 * 0.01 + 0.02)
    assert found.seconds == pytest.approx(0.1)
    assert (found.wire_share, found.efficiency) == pytest.approx((0.4, 0.6))
    assert found.images_per_second == pytest.approx(128 / 0.1)
    assert found.wire_bytes == pytest.approx(4e6)
    alone = predicted(config(), hosts(1), 0.06, ARRIVALS, MOVES, wire=4, at_once=False)
    assert (alone.exposed, alone.wire_bytes) == (0, 0)
    assert alone.images_per_second == pytest.approx(64 / 0.06)


def test_what_is_reduced_at_once_is_not_hidden() -> None:
    early = {"D": (Arrival(10**6, 0.5), Arrival(10, 0.0)), "G": (Arrival(10, 0.0),)}
    exposed = [
        predicted(config(), hosts(2), 0.1, early, {"D": 1, "G": 1}, wire=4, at_once=at_once).exposed
        for at_once in (False, True)
    ]
    assert exposed == [pytest.approx(0, abs=1e-5), pytest.approx(0.04, rel=1e-3)]


def test_numbers_on_the_wire_may_be_smaller() -> None:
    whole, half = (
        predicted(config(), hosts(2), 0.06, ARRIVALS, MOVES, wire=wire, at_once=False).exposed for wire in (4, 2)
    )
    assert half == pytest.approx(whole / 2)


def test_bytes_of_a_number() -> None:
    asked: tuple[list[str], ...] = ([], ["wire=bf16"], ["exact=true"], ["precision=fp64"])
    assert [number_bytes(config(*words)) for words in asked] == [4, 2, 8, 8]


def test_sharded_runs_send_their_weights_too() -> None:
    usual, sharded = (
        predicted(config(f"shard={value}"), hosts(2), 0.06, ARRIVALS, MOVES, wire=4, at_once=True)
        for value in ("false", "true")
    )
    assert sharded.exposed == pytest.approx(1.5 * usual.exposed)
    assert sharded.wire_bytes == pytest.approx(1.5 * usual.wire_bytes)


def test_what_is_reduced_after_the_backward() -> None:
    asked: tuple[list[str], ...] = ([], ["wire=bf16"], ["exact=true"], ["shard=true"])
    assert [reduced_at_once(config(*words), repeated=False) for words in asked] == [False, True, True, False]
    assert reduced_at_once(config(), repeated=True)


def test_the_largest_of_three_bounds() -> None:
    reached = Reached({False: 1e-5, True: 2e-5}, 1e-6, 0.5, 1.0)
    h100 = DEVICES["h100"]
    few = Work(1e9, 1e9, 100)
    for work, precision, graph, seconds, bound in (
        (few, "fp32", False, 1e-3, "starting operators"),
        (few, "bf16", False, 2e-3, "starting operators"),
        (few, "bf16", True, 1e9 / 3350e9, "memory"),
        (Work(1e9, 1e9, 10_000), "bf16", True, 1e-2, "the many small kernels"),
        (Work(1e13, 1e9, 100), "fp32", False, 1e13 / 33.5e12, "arithmetic"),
    ):
        found, by = h100.seconds(work, precision, graph=graph, reached=reached)
        assert (found, by) == (pytest.approx(seconds), bound)  # type: ignore[comparison-overlap]
    assert device("h100") is h100


def test_memory() -> None:
    assert memory(config(), 1000, 10, 160, images=32) == 1000 + 40 + 160
    assert memory(config("precision=bf16"), 1000, 10, 160, images=32) == 1000 + 40 + 80
    assert memory(config("precision=fp64"), 2000, 10, 320, images=32) == 2000 + 80 + 320
    exact = config("exact=true", "microbatch=8")
    assert memory(exact, 1000, 10, 40, images=32) == 1000 + 40 + 10 * (4 * 4 + 8) + 40
