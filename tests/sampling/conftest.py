from pathlib import Path

import pytest

from tests.support.runs import run


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run. Nobody changes it."""
    folder = tmp_path_factory.mktemp("plain")
    assert run(folder, 256) == 0
    return folder
