"""Every shipped config runs: small, in debug mode, as a user would try it first."""

from pathlib import Path

import pytest

from dist_gan import train
from dist_gan.config.command_line import load
from tests.support.commands import ROOT
from tests.support.shrunk import shrunk

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_runs(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = shrunk(load(path), 32, count=200)
    result = train(small.model_copy(update={"run": str(tmp_path / path.stem), "debug": True}))
    assert result.images_seen == 4 * 32 * small.discriminator_turns
    assert "everything written and read once" in capsys.readouterr().out
