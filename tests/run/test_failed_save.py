"""What is saved when a run fails between two updates."""

from pathlib import Path

import pytest

from dist_gan.game.game import Game
from dist_gan.run import checkpoint
from tests.support.runs import newest, run


@pytest.mark.parametrize("images", [1280, 1920], ids=["just saved", "not yet saved"])
def test_the_good_state_is_saved_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, images: int
) -> None:
    """Checkpoints are due at multiples of 1280. One that is there already is not written again, which would warn."""
    real = Game.update

    def poisoned(self: Game, batches: object) -> None:
        if self.images_seen == images:
            raise RuntimeError("poison")
        real(self, batches)

    monkeypatch.setattr(Game, "update", poisoned)
    assert run(tmp_path, 3840) == 1
    assert newest(tmp_path).state["images_seen"] == images
    assert [path.name for path in checkpoint.existing(tmp_path / "checkpoints")][-1] == checkpoint.name_of(images)
    out = capsys.readouterr()
    assert "could not be written" not in out.out + out.err
