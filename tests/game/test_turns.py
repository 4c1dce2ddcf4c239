"""What a turn is made of: how strong lazy penalties are, what cannot be, and what is saved after a failure."""

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from dist_gan import train
from dist_gan.distributed.exact_sum import fixed_point
from dist_gan.distributed.processes import Processes
from dist_gan.errors import ConfigError, Diverged
from dist_gan.game.meter import IN_A_ROW
from dist_gan.networks.base import BufferRule, Generator
from dist_gan.objective.augment import InstanceNoise
from dist_gan.objective.objective import Objective
from dist_gan.objective.penalties import R1
from dist_gan.optim.ema import EMA, Average
from dist_gan.run import checkpoint
from dist_gan.run.events import Event
from dist_gan.shapes import ImageShape
from tests.run.test_events import config
from tests.support import own_parts, tiny


@pytest.mark.parametrize("discriminator_turns", [1, 5])
@pytest.mark.parametrize("player", ["D", "G"])
def test_a_lazy_penalty_keeps_its_mean_strength(processes: Processes, discriminator_turns: int, player: str) -> None:
    """Whatever the number of D's turns for one of G's."""
    every = 10 * tiny.BATCH
    lazy = R1(weight=0.5, every=every) if player == "D" else own_parts.PathLength(weight=0.5, every=every)
    objective = Objective.model_construct(penalties=(lazy,))
    game = tiny.game(processes, objective=objective, discriminator_turns=discriminator_turns)
    strengths = []
    for images_seen in range(0, 100 * tiny.BATCH, game.images_per_update):
        turns = discriminator_turns if player == "D" else 1
        for turn in range(turns):
            due, _ = game.numbers.fill(game.turns[player], images_seen + turn * tiny.BATCH)
            strengths.append(due[0].factor.item() if due else 0.0)
    assert sum(strengths) / len(strengths) == pytest.approx(0.5)
    assert 0.0 in strengths


def test_a_penalty_of_d_has_no_state(processes: Processes) -> None:
    class Remembers(R1):
        def initial_state(self) -> dict[str, Tensor]:
            return {"mean": torch.zeros(())}

    with pytest.raises(ConfigError, match="only penalties of G"):
        tiny.game(processes, objective=Objective.model_construct(penalties=(Remembers(),)))


def test_too_many_random_numbers_for_one_image(processes: Processes) -> None:
    data = tiny.DATA.model_copy(update={"size": 1024, "channels": 3})
    with pytest.raises(
        ConfigError, match=r"^networks, augment: .* 3,145,728 random numbers for one image, and 2,097,152 is the most"
    ):
        tiny.game(processes, data=data, augment=InstanceNoise())


def test_too_many_random_numbers_because_of_penalties(processes: Processes) -> None:
    """Those of a turn of penalties alone come after the others."""

    class Greedy(R1):
        def bits(self, shape: ImageShape) -> int:
            return 1_500_000

    penalties = (Greedy(), Greedy(alone=True))
    with pytest.raises(ConfigError, match=r"^objective\.penalties: d_turn_penalty needs 3,000,000 random numbers"):
        tiny.game(processes, objective=Objective.model_construct(penalties=penalties))


class _Own(nn.Module):
    buffer_rules: ClassVar[dict[str, BufferRule]] = {"seen": "measure"}

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))


class _G(Generator):
    def __init__(self) -> None:
        super().__init__(2, ImageShape(1, 4, 4))
        self.own = _Own()

    def forward(self, latents: Tensor, condition: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        return latents


def test_what_is_measured_says_how() -> None:
    with pytest.raises(ConfigError, match=r"G\.own\.seen: _Own states `measure`"):
        Average(EMA(), _G(), seed=0)


def test_observing_changes_nothing() -> None:
    values = torch.tensor([torch.nan, 1e9, 1.0], dtype=torch.float64)
    fixed_point(values)
    assert values[0].isnan()
    assert values[1] == 1e9


class _Fails(Event):
    name: str = "a failure"

    def __init__(self, every: int) -> None:
        self.every = every

    def happen(self, game: Any, records: Any) -> None:
        raise ArithmeticError("an event of one's own")


@pytest.mark.parametrize(("save", "newest"), [(640, 640), (100_000, 640)])
def test_a_failing_event_loses_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], save: int, newest: int
) -> None:
    """The state is saved once, whether its checkpoint was due or not."""
    with pytest.raises(ArithmeticError):
        train(config(tmp_path / "run", 1280, save={"every": save}), events=[_Fails(640)])
    assert [path.name for path in checkpoint.existing(tmp_path / "run" / "checkpoints")] == [checkpoint.name_of(newest)]
    assert "could not be written" not in capsys.readouterr().out


class _Broken(R1):
    """A penalty that is never a number."""

    def penalty(self, images: Tensor, logits: Tensor) -> Tensor:
        return super().penalty(images, logits) * float("nan")


def test_a_penalty_alone_that_is_never_finite_ends_the_run(processes: Processes) -> None:
    """Its skipped moves are counted by themselves; the player's own go on."""
    objective = Objective.model_construct(penalties=(_Broken(alone=True),))
    game = tiny.play(tiny.game(processes, objective=objective), IN_A_ROW - 1)
    read = game.meter.read()
    assert (read["D/skipped"], read["D/alone_skipped"]) == (0, IN_A_ROW - 1)
    assert read["D/gradient_norm"] > 0
    tiny.play(game, 1)
    with pytest.raises(Diverged, match="the gradients of D's penalties alone were not finite in 20 turns"):
        game.meter.read()
