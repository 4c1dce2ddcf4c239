"""Counted work: it is that of a real update, and grows with the batch as a straight line."""

from typing import Any

import pytest
import torch

from dist_gan.config.command_line import configured
from dist_gan.config.schema import Config
from dist_gan.distributed.processes import Processes
from dist_gan.planning.cadence import due, example, kinds, moves
from dist_gan.planning.counting import Counted, MostKept, count, made, on_made_up
from tests.support.runs import SMALL, SMALL_DCGAN, SMALL_STYLEGAN2

SMALL_R3GAN = [*SMALL_DCGAN, "networks={name: r3gan, width: 8}"]
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
        assert due(on_made_up(lazy, 8), example(lazy, 8, kind)) == kind, "also with another batch"
    never, always, sometimes = (
        count(config("batch_size=64", f"objective.penalties={text}", small=SMALL_STYLEGAN2), processes).per_image.flops
        for text in ("[]", "[{name: r1}]", "[{name: r1, every: 256}]")
    )
    assert always > 1.1 * never
    assert sometimes == pytest.approx(never + (always - never) / 4)


def test_a_smaller_batch_has_the_same_kinds_of_updates(processes: Processes) -> None:
    """With 64 images R1 is due in two of four turns; with 4 images, unless `every` shrinks too, in one at most."""
    turns = ["batch_size=64", "discriminator_turns=4"]
    lazy = config(*turns, "objective.penalties=[{name: r1, every: 128}]")
    assert kinds(lazy) == {(2,): 1.0}
    assert due(on_made_up(lazy, 4), example(lazy, 4, (2,))) == (2,)
    never, always, sometimes = (
        count(config(*turns, f"objective.penalties={text}"), processes).per_image.flops
        for text in ("[]", "[{name: r1}]", "[{name: r1, every: 128}]")
    )
    assert sometimes == pytest.approx(never + (always - never) / 2)


@pytest.mark.parametrize(
    ("schedule", "is_on"),
    [
        ("{name: linear, start: 0, final: 1, begin: 320, end: 640}", True),
        ("{name: linear, start: 1, final: 0, end: 64}", True),
        ("{name: cosine, start: 0, final: 1, begin: 2000, end: 4000}", False),
    ],
    ids=["warm-up", "decay", "after the run"],
)
def test_a_penalty_that_is_ever_on_is_counted(schedule: str, is_on: bool, processes: Processes) -> None:
    words = ["batch_size=32", "images=1000"]
    scheduled, always, never = (
        config(*words, f"objective.penalties={text}")
        for text in (f"[{{name: r1, alone: true, schedule: {schedule}}}]", "[{name: r1, alone: true}]", "[]")
    )
    same = always if is_on else never
    assert count(scheduled, processes).work(32).flops == count(same, processes).work(32).flops
    assert moves(scheduled)["D"] == moves(same)["D"]


def test_what_is_kept_has_a_part_that_does_not_grow(processes: Processes) -> None:
    """R3GAN's weights are kept in another form too."""
    asked = config(small=SMALL_R3GAN)
    costs = count(asked, processes)
    assert costs.kept_fixed > 0
    game, batches = made(on_made_up(asked, 6), processes)
    game.update(batches)
    with MostKept(game) as memory:
        game.update(batches)
    assert costs.kept(6) == pytest.approx(memory.most, rel=0.001)


def test_sixty_four_bits_are_counted_as_such() -> None:
    usual, wide = (count(config("networks.width=64"), Processes(precision)) for precision in ("fp32", "fp64"))
    assert wide.state_bytes == pytest.approx(2 * usual.state_bytes, rel=0.001)
    assert wide.kept(8) == pytest.approx(2 * usual.kept(8), rel=0.05)
    assert wide.work(8).bytes > 1.6 * usual.work(8).bytes, "integers stay as they are"


def test_with_shard_the_fullest_process_counts(processes: Processes) -> None:
    """Each tensor of G has a moment's two and an average's one, each of D two; all have the weights."""
    sharded = config("shard=true")
    whole, *parts = (count(sharded, processes, world) for world in (1, 2, 4))
    assert whole.own_bytes == whole.state_bytes
    weights = 4 * sum(whole.parameters.values())
    for world, part in zip((2, 4), parts, strict=True):
        even = weights + (whole.state_bytes - weights) / world
        assert even < part.own_bytes < whole.state_bytes, "whole tensors cannot be divided evenly"
    assert count(config(), processes, 4).own_bytes == whole.state_bytes


def test_how_often_each_player_moves() -> None:
    assert moves(config()) == {"D": 1, "G": 1}
    assert moves(config("discriminator_turns=3")) == {"D": 3, "G": 1}
    alone = "objective.penalties=[{name: r1, every: 256, alone: true}]"
    assert moves(config("batch_size=64", alone)) == {"D": 1.25, "G": 1}
