"""Compiled networks lose no penalty. By the backend that differentiates as inductor does, and compiles nothing."""

from typing import Any

import pytest
import torch

from dist_gan.distributed.processes import Processes
from dist_gan.game.compiled import CompiledNetworks
from dist_gan.game.speed import Repeated
from dist_gan.objective import looking
from tests.support import tiny
from tests.support.repeating import Setting


@pytest.mark.parametrize("name", ["dcgan, all penalties", "penalties alone", "differences", "stylegan2", "labels"])
def test_compiled_networks_lose_no_penalty(name: str) -> None:
    torch._dynamo.reset()
    setting = Setting(name, Processes())
    eager, game = setting.play(setting.eager()), setting.eager()
    capture = CompiledNetworks([game.generator.network, game.discriminator.network], backend="aot_eager")
    game.runner = Repeated(capture, setting.processes, setting.reports.append)
    setting.play(game)
    assert not setting.reports
    assert tiny.difference(tiny.state(game), tiny.state(eager)) < 1e-6
    without = tiny.state(setting.play(tiny.game(setting.processes, **{**setting.options, "objective": None})))
    weights = {key: tensor for key, tensor in tiny.state(eager).items() if key.startswith("discriminator/")}
    assert (tiny.difference({key: without[key] for key in weights}, weights) > 1e-3) == (name != "labels")


def test_a_penalty_through_a_compiled_network_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch refuses it, or (2.11 to 2.13) loses the penalty's gradient without a word: then the move is another one."""
    torch._dynamo.reset()
    monkeypatch.setattr(looking, "uncompiled", lambda network: network)
    setting = Setting("dcgan, all penalties", Processes())
    eager, game = setting.play(setting.eager()), setting.eager()
    capture = CompiledNetworks([game.generator.network, game.discriminator.network], backend="aot_eager")
    game.runner = Repeated(capture, setting.processes, setting.reports.append)
    setting.play(game)
    assert ["D's turn, with penalty-0-r1" in report for report in setting.reports] == [True]
    assert tiny.difference(tiny.state(game), tiny.state(eager)) < 1e-6


def test_compiled_networks_are_called(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    torch._dynamo.reset()
    calls: list[str] = []

    def backend(module: Any, inputs: Any) -> Any:
        calls.append("compiled")
        return module.forward

    game = tiny.game(processes)
    game.runner = Repeated(
        CompiledNetworks([game.generator.network, game.discriminator.network], backend=backend),  # type: ignore[arg-type]
        processes,
        calls.append,
    )
    tiny.play(game, 2)
    assert set(calls) == {"compiled"}
    assert game.generator.network._compiled_call_impl is None, "everywhere else they are as they were"
