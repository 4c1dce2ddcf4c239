"""Games whose turns are captured and repeated, beside the same that run as they are written."""

import pytest

from dist_gan.distributed.processes import Processes
from dist_gan.game.game import Game
from dist_gan.game.meter import Meter
from dist_gan.game.speed import Capture, Repeated
from dist_gan.objective.objective import Terms
from tests.game.test_turn_is_tensors import CASES
from tests.support import tiny
from tests.support.recorded import Recorded

REPEATABLE = {name: options for name, options in CASES.items() if "rmsprop" not in name}
UPDATES = 6


def read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on each turn reads a number back."""
    add = Meter.add

    def reading(self: Meter, player: str, terms: Terms) -> None:
        terms.fake.sum().item()
        add(self, player, terms)

    monkeypatch.setattr(Meter, "add", reading)


class Setting:
    """A game of one of the cases, whose turns are captured."""

    def __init__(self, name: str, processes: Processes, capture: Capture | None = None) -> None:
        self.data = CASES[name].get("data", tiny.DATA)
        self.options = {**({"microbatch": 16} if processes.exact else {}), **CASES[name]}
        self.processes = processes
        self.recorded = Recorded()
        self.capture = capture or self.recorded
        self.reports: list[str] = []

    def eager(self) -> Game:
        return tiny.game(self.processes, **self.options)

    def repeated(self) -> Game:
        return tiny.game(
            self.processes, **self.options, runner=Repeated(self.capture, self.processes, self.reports.append)
        )

    def play(self, game: Game, updates: int = UPDATES) -> Game:
        return tiny.play(game, updates, self.data)
