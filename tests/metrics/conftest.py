from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _statistics_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """What tests measure of reals does not go into the user's folder. (Data sets stay where they are.)"""
    if "mnist" not in request.fixturenames and "digits" not in request.fixturenames:
        monkeypatch.setenv("DIST_GAN_DATA", str(tmp_path / "data"))
