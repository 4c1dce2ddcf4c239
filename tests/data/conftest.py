from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty pictures of different sizes and colors, in two sub-folders."""
    for i in range(40):
        path = tmp_path / "images" / ("cats" if i % 2 else "dogs") / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20 + i, 30), (6 * i, 255 - 6 * i, 128)).save(path)
    return tmp_path / "images"


@pytest.fixture(autouse=True)
def cache(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Path:
    """Where indexes and fingerprints are kept: nothing outlives a test, or comes from another one."""
    path = tmp_path_factory.mktemp("cache")
    if "mnist" not in request.fixturenames:  # which is where the machine keeps it
        monkeypatch.setenv("DIST_GAN_DATA", str(path))
    return path
