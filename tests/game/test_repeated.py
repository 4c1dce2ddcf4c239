"""Turns that are captured once and repeated make what turns make that run as they are written."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from dist_gan.distributed.processes import Processes
from dist_gan.game.cuda_graphs import CudaCapture
from dist_gan.game.dials import Dials
from dist_gan.game.game import Game
from dist_gan.game.meter import Meter
from dist_gan.game.speed import Function, Repeated
from dist_gan.networks.layers import SpectralNorm
from dist_gan.objective.losses import Relativistic
from dist_gan.objective.objective import Objective, Terms
from dist_gan.optim.ema import EMA
from tests.support import tiny
from tests.support.recorded import Recorded
from tests.support.repeating import REPEATABLE, UPDATES, Setting, read_back


@pytest.mark.parametrize("exact", [False, True], ids=["fp32", "exact"])
@pytest.mark.parametrize("name", REPEATABLE)
def test_what_is_repeated_makes_the_same_bits(name: str, exact: bool) -> None:
    setting = Setting(name, Processes(exact=exact))
    eager, repeated = setting.play(setting.eager()), setting.play(setting.repeated())
    assert tiny.digest(tiny.state(repeated)) == tiny.digest(tiny.state(eager))
    assert repeated.meter.read() == eager.meter.read(), "each update has numbers of its own"
    assert not setting.reports
    turns = 2 + any("alone" in turn for turn in repeated.turns)
    assert setting.recorded.played >= UPDATES * turns, "every turn and the average come from a capture"
    assert isinstance(repeated.runner, Repeated)
    assert set(repeated.runner.differences.values()) == {0.0}


@pytest.mark.parametrize("name", ["lazy penalties", "followers", "ada by feedback", "sgd"])
def test_a_resumed_run_ends_in_the_same_bits(name: str, processes: Processes) -> None:
    setting = Setting(name, processes)
    whole = setting.play(setting.repeated())
    first = setting.play(setting.repeated(), 3)
    second = setting.repeated()
    second.load({member: {k: t.clone() for k, t in own.items()} for member, own in first.state().items()}, 3 * 64)
    assert tiny.digest(tiny.state(setting.play(second, 3))) == tiny.digest(tiny.state(whole))


def test_another_state_can_be_loaded_into_a_game_that_has_captured(processes: Processes) -> None:
    setting = Setting("mlp, dropout, clip", processes)
    game = setting.play(setting.repeated(), 2)
    saved = {member: {k: t.clone() for k, t in own.items()} for member, own in game.state().items()}
    after = tiny.digest(tiny.state(setting.play(game, 2)))
    game.load(saved, 2 * tiny.BATCH)
    assert tiny.digest(tiny.state(setting.play(game, 2))) == after


def test_several_turns_of_d_and_fresh_reals(processes: Processes) -> None:
    options: dict[str, Any] = {
        "objective": Objective(loss=Relativistic(), fresh_reals=True),
        "discriminator_turns": 3,
    }
    eager = tiny.play(tiny.game(processes, **options), 3)
    reports: list[str] = []
    repeated = tiny.play(tiny.game(processes, **options, runner=Repeated(Recorded(), processes, reports.append)), 3)
    assert tiny.digest(tiny.state(repeated)) == tiny.digest(tiny.state(eager))
    assert not reports


def test_batches_of_another_shape_are_captured_anew(processes: Processes) -> None:
    def played(game: Game) -> str:
        for rows in (64, 32, 64, 32):
            batch = next(tiny.batches(processes, game.images_seen))
            labels = batch.labels[:rows]
            game.update(iter([batch._replace(images=batch.images[:rows], labels=labels, ordinals=range(7, 7 + rows))]))
        return tiny.digest(tiny.state(game))

    runner = Repeated(Recorded(), processes, lambda _: None)
    assert played(tiny.game(processes, runner=runner)) == played(tiny.game(processes))


# What cannot be repeated


def _reads(values: Tensor) -> object:
    return values.sum().item()


def _makes(values: Tensor) -> object:
    return values + torch.tensor([1.0])


@pytest.mark.parametrize(("spoil", "reason"), [(_reads, "reads a number back"), (_makes, "makes a tensor")])
def test_what_cannot_be_captured_runs_as_it_is_written_and_says_so_once(
    spoil: Callable[[Tensor], object], reason: str, monkeypatch: pytest.MonkeyPatch, processes: Processes
) -> None:
    setting = Setting("mlp, dropout, clip", processes)
    expected = tiny.digest(tiny.state(setting.play(setting.eager())))
    add = Meter.add

    def spoilt(self: Meter, player: str, terms: Terms) -> None:
        if player == "D":
            spoil(terms.fake)
        add(self, player, terms)

    monkeypatch.setattr(Meter, "add", spoilt)
    game = setting.play(setting.repeated())
    assert tiny.digest(tiny.state(game)) == expected
    assert len(setting.reports) == 1
    assert "D's turn runs eagerly" in setting.reports[0]
    assert reason in setting.reports[0]
    assert setting.recorded.captured == 2, "G's turn and the average"


class Idle:
    """What it captures does nothing when it is repeated."""

    tolerance = 0.25

    def forget(self) -> None:
        pass

    def warm_up(self, function: Function) -> None:
        function()

    def capture(self, function: Function) -> Callable[[], None]:
        return lambda: None


def test_a_capture_that_does_something_else_is_not_used(processes: Processes) -> None:
    setting = Setting("mlp, dropout, clip", processes, Idle())
    expected = tiny.digest(tiny.state(setting.play(setting.eager())))
    assert tiny.digest(tiny.state(setting.play(setting.repeated()))) == expected
    assert ["does something else" in report for report in setting.reports] == [True] * 3


def test_what_forgets_one_tensor_is_not_used(processes: Processes) -> None:
    class Forgetful(Idle):
        tolerance = CudaCapture.tolerance

        def capture(self, function: Function) -> Callable[[], None]:
            def run() -> None:
                kept = weight.clone()
                function()
                weight.data.copy_(kept)

            return run

    setting = Setting("dcgan, all penalties", processes, Forgetful())
    game = setting.repeated()
    weight = game.generator.parameters[0]
    expected = tiny.digest(tiny.state(setting.play(setting.eager())))
    assert tiny.digest(tiny.state(setting.play(game))) == expected
    assert ["G's turn runs eagerly: what was captured" in report for report in setting.reports] == [True]


def test_a_buffer_that_is_replaced_is_noticed(monkeypatch: pytest.MonkeyPatch, processes: Processes) -> None:
    """A graph would read the old one for ever."""
    after_move = SpectralNorm.after_move

    def replacing(self: SpectralNorm) -> None:
        self.u = self.u.clone()
        after_move(self)

    monkeypatch.setattr(SpectralNorm, "after_move", replacing)
    setting = Setting("spectral", processes)
    expected = tiny.digest(tiny.state(setting.play(setting.eager())))
    assert tiny.digest(tiny.state(setting.play(setting.repeated()))) == expected
    assert ["everything runs eagerly" in report for report in setting.reports] == [True]
    assert "Change it in place" in setting.reports[0]


def test_an_exact_turn_that_cannot_be_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Setting("mlp, dropout, clip", Processes(exact=True))
    expected = tiny.digest(tiny.state(setting.play(setting.eager())))
    read_back(monkeypatch)
    assert tiny.digest(tiny.state(setting.play(setting.repeated()))) == expected
    assert len(setting.reports) == 2


def test_an_optimizer_that_knows_some_layers_only(processes: Processes) -> None:
    """As after `begin_from_partial`: what is rehearsed leaves nothing behind for the others."""
    setting = Setting("mlp, dropout, clip", processes)
    begun = setting.play(setting.eager(), 1)
    saved = {file: {k: t.clone() for k, t in own.items()} for file, own in begun.state().items()}
    first = next(name for name, _ in begun.generator.network.named_parameters())
    known = saved["generator_optimizer"]
    saved["generator_optimizer"] = {k: t for k, t in known.items() if not k.startswith(f"{first}.")}
    digests = []
    for game in (setting.eager(), setting.repeated()):
        game.load(saved, begun.images_seen)
        digests.append(tiny.digest(tiny.state(setting.play(game, 2))))
    assert digests[0] == digests[1]


def test_a_number_that_is_no_tensor_is_noticed(monkeypatch: pytest.MonkeyPatch, processes: Processes) -> None:
    """The tests above would see it: a schedule's number that is baked in makes another model."""
    ramp = EMA(half_life_images=500, ramp=0.5)
    eager, repeated = (
        tiny.game(processes, ema=ramp, runner=runner)
        for runner in (None, Repeated(Recorded(), processes, lambda _: None))
    )
    # A new tensor for each value, as a number in Python would be for each update.
    monkeypatch.setattr(Dials, "__getitem__", lambda self, name: torch.full((), self._numbers[name]))
    assert tiny.digest(tiny.state(tiny.play(repeated, 4))) != tiny.digest(tiny.state(tiny.play(eager, 4)))
