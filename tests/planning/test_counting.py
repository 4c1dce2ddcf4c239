"""Counted work: it is that of a real update, and grows with the batch as a straight line."""

from typing import Any

import pytest
import torch

from dist_gan.config.command_line import configured
from dist_gan.config.schema import Config
from dist_gan.distributed.processes import Processes
from dist_gan.planning.counting import Counted, count, due, example, kinds, made, moves, on_made_up
from tests.support.runs import SMALL, SMALL_DCGAN, SMALL_STYLEGAN2

LAZY = "objective.penalties=[{name: r1, every: 256}, {name: path_length, every: 128}]"


def config(*more: str, small: list[str] = SMALL) -> Config:
    return configured([*small, *more])


@pytest.mark.parametrize("kind", [torch.nn.Conv2d, torch.nn.ConvTranspose2d])
@pytest.mark.parametrize("groups", [1, 4])
def test_a_backward_costs_two_forwards(kind: Any, groups: int) -> None:
    """torch's own counter has 1 + 2 * 16 forwards for a backward with 16 groups."""
    layer = kind(8, 4, 3, padding=1, stride=2, groups=groups)
    x = torch.zeros(2, 8, 6, 6, requires_grad=True)
    with Counted() as forward:
        y = layer(x)
    with Counted() as backward:
        y.sum().backward()
    products = (y if kind is torch.nn.Conv2d else x).numel() * layer.weight[0].numel()
    assert forward.flops == 2 * products
    assert backward.flops == 4 * products


@pytest.mark.parametrize("small", [SMALL, [*SMALL_DCGAN, "networks.group=4"]], ids=["mlp", "dcgan"])
def test_a_larger_batch_costs_what_was_counted_of_small_ones(small: list[str], processes: Processes) -> None:
    asked = config(small=small)
    costs = count(asked, processes)
    game, batches = made(on_made_up(asked, 24), processes)
    game.update(batches)
    with Counted() as counted:
        game.update(batches)
    work = costs.work(24)
    assert work.flops == counted.flops
    assert work.bytes == pytest.approx(counted.bytes, rel=0.01)
    assert work.operators == pytest.approx(counted.operators, abs=3)


def test_microbatches_repeat_operators_but_no_arithmetic(processes: Processes) -> None:
    asked = config("batch_size=24", "microbatch=8")
    costs = count(asked, processes)
    game, batches = made(on_made_up(asked, 24, 8), processes)
    game.update(batches)
    with Counted() as counted:
        game.update(batches)
    assert costs.work(24, 3).flops == counted.flops
    assert costs.work(24, 3).operators == pytest.approx(counted.operators, abs=3)
    assert costs.per_microbatch.operators > 50


def test_gradients_arrive_from_the_last_layer_to_the_first(processes: Processes) -> None:
    costs = count(config(), processes)
    for name, seen in costs.arrivals.items():
        assert sum(arrival.numbers for arrival in seen) == costs.parameters[name]
        left = [arrival.left for arrival in seen]
        assert left == sorted(left, reverse=True)
        assert (left[0] > 0, left[-1]) == (True, 0.0)
    D = list(made(on_made_up(config(), 8), processes)[0].discriminator.parameters)
    assert costs.arrivals["D"][0].numbers in (D[-1].numel(), D[-2].numel()), "the last layer's first"


def test_penalties_that_are_due_now_and_then_count_by_how_often(processes: Processes) -> None:
    lazy = config("batch_size=64", LAZY, small=SMALL_STYLEGAN2)
    assert kinds(lazy) == {(0, 0): 0.5, (1, 1): 0.25, (0, 1): 0.25}
    for kind in kinds(lazy):
        assert due(lazy, 8, example(lazy, 8, kind)) == kind, "also with another batch"
    never, always, sometimes = (
        count(config("batch_size=64", f"objective.penalties={text}", small=SMALL_STYLEGAN2), processes).per_image.flops
        for text in ("[]", "[{name: r1}]", "[{name: r1, every: 256}]")
    )
    assert always > 1.1 * never
    assert sometimes == pytest.approx(never + (always - never) / 4)


def test_how_often_each_player_moves() -> None:
    assert moves(config()) == {"D": 1, "G": 1}
    assert moves(config("discriminator_turns=3")) == {"D": 3, "G": 1}
    alone = "objective.penalties=[{name: r1, every: 256, alone: true}]"
    assert moves(config("batch_size=64", alone)) == {"D": 1.25, "G": 1}
