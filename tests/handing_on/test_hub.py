"""Push to the Hub and load from it, with its real client and a stand-in for its server."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dist_gan import load_generator
from tests.support.commands import command
from tests.support.hub_server import HubServer, hub_server
from tests.support.runs import SMALL

pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
pytestmark = pytest.mark.slow


@pytest.fixture
def server() -> Iterator[HubServer]:
    with hub_server() as answering:
        yield answering


def test_push_and_load(server: HubServer, conditional: Path, tmp_path: Path) -> None:
    env = server.environment(tmp_path / "hub")
    out = tmp_path / "model"
    done = command("-m", "dist_gan.export", str(conditional), f"out={out}", "push=some.body/a-gan", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == f"{server.url}/some.body/a-gan"
    there = server.files["some.body/a-gan"]
    assert there == {path.name: path.read_bytes() for path in out.iterdir()}
    assert server.private == {"some.body/a-gan"}
    assert server.messages == ["A generator after 256 images"]
    assert b'load_generator("some.body/a-gan")' in there["README.md"]

    def sampled(model: str, target: str, code: int = 0, **more: str) -> Any:
        made = command("-m", "dist_gan.sample", model, f"out={tmp_path}/{target}", "count=20", env={**env, **more})
        assert made.returncode == code, made.stderr
        return made.stderr if code else (tmp_path / target).read_bytes()

    expected = sampled(str(conditional), "run.npy")
    assert sampled("some.body/a-gan", "hub.npy") == expected
    assert not any("samples.png" in line for line in server.asked), "only what is needed is downloaded"
    stranger = {"HF_HOME": str(tmp_path / "other"), "HF_TOKEN": ""}
    refused = sampled("some.body/a-gan", "x.npy", 2, **stranger)
    assert refused.count("\n") == 1
    assert "no model on the Hugging Face Hub, or it is private" in refused
    assert sampled("some.body/a-gan", "offline.npy", HF_HUB_OFFLINE="1") == expected, "from the client's cache"
    there["config.json"] = b"{}"
    assert "config.json does not describe a generator" in sampled("some.body/a-gan", "x.npy", 3)
    del there["config.json"]
    assert "is no model of dist_gan: it has no config.json" in sampled("some.body/a-gan", "x.npy", 2)


MINE = '''
from helper import SAID
from dist_gan.networks import MLP

print(SAID)

class Mine(MLP):
    """Mine."""
'''


def test_a_folder_with_code_is_pushed_later_and_runs_only_when_trusted(server: HubServer, tmp_path: Path) -> None:
    """In the client's cache every file is a link to a digest."""
    env = server.environment(tmp_path / "hub")
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "helper.py").write_text("SAID = 'executed'\n")
    small = [option for option in SMALL if "networks" not in option]
    networks = "networks={name: 'mine.py:Mine', width: 4}"
    done = command("-m", "dist_gan.train", *small, networks, "images=256", "run=r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = command("-m", "dist_gan.export", "r", "out=m", "code=true", "trust_code=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = command("-m", "dist_gan.export", "m", "push=me/mine", "private=false", cwd=tmp_path, env=env)
    assert (done.returncode, done.stdout) == (0, f"{server.url}/me/mine (from m)\n"), done.stderr
    assert not server.private
    assert {"code/mine.py", "code/helper.py"} < set(server.files["me/mine"])
    shutil.rmtree(tmp_path / "m")
    for name in ("mine.py", "helper.py"):
        (tmp_path / name).unlink()
    sampled = ["-m", "dist_gan.sample", "me/mine", f"out={tmp_path}/x.npy", "count=5"]
    refused = command(*sampled, env=env)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "trust_code=true" in refused.stderr
    trusted = command(*sampled, "trust_code=true", env=env)
    assert trusted.returncode == 0, trusted.stderr
    assert trusted.stdout.startswith("executed\n")
    done = command("-m", "dist_gan.sample", "r", "trust_code=true", cwd=tmp_path)
    assert done.returncode == 2, "the run itself needs the file"


def test_a_push_that_fails_leaves_the_folder(server: HubServer, conditional: Path, tmp_path: Path) -> None:
    env = server.environment(tmp_path / "hub", token="hf_wrong")
    done = command("-m", "dist_gan.export", str(conditional), f"out={tmp_path}/m", "push=me/mine", env=env)
    assert done.returncode == 5, done.stderr
    assert done.stderr.count("\n") == 1
    assert f"python -m dist_gan.export {tmp_path}/m push=me/mine private=true" in done.stderr
    assert load_generator(tmp_path / "m").classes == 4
    assert server.files == {}


@pytest.mark.parametrize("offline", ["0", "1"])
def test_no_network(tmp_path: Path, offline: str) -> None:
    with hub_server() as server:
        env = {**server.environment(tmp_path / "hub"), "HF_HUB_OFFLINE": offline}
    done = command("-m", "dist_gan.sample", "some/body", f"out={tmp_path}/x.png", env=env)  # nobody answers any more
    assert (done.returncode, done.stdout) == (5, ""), done.stderr
    assert done.stderr.count("\n") == 1
    assert "some/body is no folder here, and it cannot be downloaded from the Hugging Face Hub" in done.stderr


def test_no_token(conditional: Path, tmp_path: Path) -> None:
    env = {"HF_HOME": str(tmp_path / "hub"), "HF_TOKEN": ""}
    done = command("-m", "dist_gan.export", str(conditional), f"out={tmp_path}/m", "push=me/mine", env=env)
    assert done.returncode == 2
    assert done.stderr.startswith("dist_gan.export: push: there is no token for the Hugging Face Hub. Log in")
    assert not (tmp_path / "m").exists()
