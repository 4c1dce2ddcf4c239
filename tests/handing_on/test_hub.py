"""Push to the Hub and load from it, with its real client and a stand-in for its server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import command
from tests.support.hub_server import HubServer, hub_server
from tests.support.runs import SMALL, run

pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
pytestmark = pytest.mark.slow


@pytest.fixture
def server() -> Iterator[HubServer]:
    with hub_server() as answering:
        yield answering


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    assert run(folder, 256, small=[*SMALL, "networks.conditional=true"]) == 0
    return folder


def test_push_and_load(server: HubServer, trained: Path, tmp_path: Path) -> None:
    env = server.environment(tmp_path / "hub")
    out = tmp_path / "model"
    done = command("-m", "dist_gan.export", str(trained), f"out={out}", "push=some.body/a-gan", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == f"{server.url}/some.body/a-gan"
    there = server.files["some.body/a-gan"]
    assert there == {path.name: path.read_bytes() for path in out.iterdir()}
    assert server.private == {"some.body/a-gan"}
    assert server.messages == ["A generator after 256 images"]
    assert b'load_generator("some.body/a-gan")' in there["README.md"]

    def sampled(model: str, target: str, **more: str) -> bytes:
        made = command("-m", "dist_gan.sample", model, f"out={tmp_path}/{target}", "count=20", env={**env, **more})
        assert made.returncode == 0, made.stderr
        return (tmp_path / target).read_bytes()

    expected = sampled(str(trained), "run.npy")
    assert sampled("some.body/a-gan", "hub.npy") == expected
    assert not any("samples.png" in line for line in server.asked), "only what is needed is downloaded"
    server.shutdown()
    assert sampled("some.body/a-gan", "offline.npy", HF_HUB_OFFLINE="1") == expected, "from the client's cache"
