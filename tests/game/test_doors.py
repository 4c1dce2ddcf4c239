"""What a user adds keeps the promise: the same on 1, 2 and 3 processes, in any microbatch, bitwise after a resume."""

from typing import Any

import pytest
import torch

from dist_gan.distributed.processes import Processes
from dist_gan.errors import ConfigError
from dist_gan.objective.augment import NoAugment
from dist_gan.objective.losses import Loss
from dist_gan.objective.objective import Objective
from tests.support import doors, own_parts, tiny
from tests.support.commands import command

WORLDS = (1, 2, 3)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Any]]:
    """Processes -> mode -> what `doors.results` found."""
    found = {}
    for world in WORLDS:
        out = tmp_path_factory.mktemp("doors") / f"{world}.pt"
        done = command("-m", "tests.support.doors", str(out), ranks=world, env={"ACCELERATE_USE_CPU": "true"})
        assert done.returncode == 0, done.stderr[-4000:]
        found[world] = torch.load(out, weights_only=True)
    return found


ROUNDING = 5e-12
"""Relative, in float64. The most seen is 1.1e-12: ADA's filters, on an AMD EPYC."""


@pytest.mark.slow
@pytest.mark.parametrize("name", doors.cases())
def test_same_on_any_number_of_processes(worlds: dict[int, dict[str, Any]], name: str) -> None:
    right = worlds[1]["fp64"][name]
    for world in WORLDS:
        assert tiny.difference(worlds[world]["fp64"][name], right) < ROUNDING, world
        assert tiny.difference(worlds[world]["fp64"][f"{name}/two"], right) < ROUNDING, world
        assert tiny.digest(worlds[world]["exact"][name]) == tiny.digest(worlds[1]["exact"][name]), world
        assert worlds[world]["fp64"][f"{name}/resumed"], world
        assert worlds[world]["exact"][f"{name}/resumed"], world


@pytest.mark.slow
def test_what_is_logged_is_the_same_on_any_number_of_processes(worlds: dict[int, dict[str, Any]]) -> None:
    right = worlds[1]["fp64"]["logged"]
    assert len(right) == 2
    for world in WORLDS:
        assert worlds[world]["fp64"]["logged"] == pytest.approx(right, rel=1e-12), world
        assert worlds[world]["exact"]["logged"] == pytest.approx(worlds[1]["exact"]["logged"], rel=1e-6), world


@pytest.mark.slow
def test_their_state_moves_and_is_in_the_checkpoint(worlds: dict[int, dict[str, Any]]) -> None:
    """Else the tests above would compare what never changes."""
    for mode in ("fp64", "exact"):
        state = worlds[1][mode]
        assert state["controller"]["augment/strength"] > 0
        assert state["ada by feedback"]["augment/strength"] not in (0, 0.4)
        assert state["path length"]["penalty-0-path_length/mean"] > 0
        assert state["lazy path length and R1"]["penalty-1-path_length/mean"] > 0
        start = tiny.state(tiny.game(Processes("fp64"), own_parts.Spectral()))
        for buffer in ("generator/first.u", "discriminator/last.v", "ema/first.u"):
            assert not torch.equal(state["spectral"][buffer].double(), start[buffer])


def test_a_missing_entry_is_no_silent_default(double: Processes) -> None:
    game = tiny.game(double, augment=own_parts.Controlled())
    state = game.state()
    del state["augment"]
    with pytest.raises(KeyError):
        tiny.game(double, augment=own_parts.Controlled()).load(state, 0)


def test_state_changes_nothing(double: Processes) -> None:
    game = tiny.play(tiny.game(double, tiny.DCGAN_TINY, data=tiny.DATA_16), 2, tiny.DATA_16)
    before = {name: buffer.clone() for name, buffer in game.average.network.named_buffers()}
    assert tiny.digest(tiny.state(game)) == tiny.digest(tiny.state(game))
    for name, buffer in game.average.network.named_buffers():
        assert torch.equal(buffer, before[name]), name


def test_gradients_that_are_not_finite_move_nothing(processes: Processes) -> None:
    """Whatever the optimizer: weights, moments, the average, states that follow."""
    for optimizer in (
        tiny.ADAM,
        doors.cases()["AdamW"]["optimizer"],
        own_parts.RMSProp(),
        doors.cases()["SGD"]["optimizer"],
        doors.cases()["Adam, beta2 schedule, factors"]["optimizer"],
    ):
        game = tiny.game(processes, optimizer=optimizer, augment=own_parts.Controlled())
        tiny.play(game, 2)
        before = tiny.state(game)
        batch = next(tiny.batches(processes, game.images_seen))
        batch.images[3] = torch.nan
        game.update(iter([batch]))
        assert game.discriminator.skipped == 1, type(optimizer)
        after = tiny.state(game)
        moved = {k for k in before if not torch.equal(before[k], after[k])}
        assert not {k for k in moved if not k.startswith(("generator", "ema"))}, (type(optimizer), moved)


class Averaging(Loss):
    """The commonest mistake: every loss of torch takes a mean."""

    def discriminator(self, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        return (fake - real).mean()

    def generator(self, real: torch.Tensor | None, fake: torch.Tensor) -> torch.Tensor:
        return -fake


def test_a_loss_that_takes_a_mean_is_refused(processes: Processes) -> None:
    """It would depend on how a batch is cut over processes."""
    game = tiny.game(processes, objective=Objective(loss=Averaging()))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"Averaging.discriminator returned values of the shape \[\] for 64 samples"):
        tiny.play(game, 1)


def test_a_scalar_is_logged(processes: Processes) -> None:
    game = tiny.play(tiny.game(processes, scalars=[own_parts.SCALAR]), 2)
    metrics = game.meter.read()
    assert metrics["D/real_logit_squared"] >= metrics["D/real_logit"] ** 2 > 0


def test_without_followers_nothing_more_is_sent(processes: Processes) -> None:
    assert tiny.game(processes, augment=NoAugment()).followers.members == {}
