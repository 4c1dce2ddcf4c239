"""What is read from a user's home, as homes are: `~` in paths, and a netrc of any content."""

from pathlib import Path

import pytest

from dist_gan.config.command_line import dump, load, parse
from dist_gan.config.schema import Track
from dist_gan.errors import ConfigError
from dist_gan.run.tracker import wandb_mode
from tests.support.commands import doctor, train
from tests.support.runs import SMALL


def test_a_tilde_is_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert train.main([*SMALL, "run=~/a b/x", "images=64"]) == 0
    assert (tmp_path / "a b" / "x" / "status.json").exists()
    config = load(None, ["run=~/x", "resume=~/y"])
    assert (config.run, config.resume) == (f"{tmp_path}/x", f"{tmp_path}/y")
    assert parse(dump(config)) == config
    assert load(None, ["run=a/~/b"]).run == "a/~/b"


@pytest.mark.parametrize("key", ["run", "resume"])
def test_a_user_that_is_none_is_one_message(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [*SMALL, "run=a", f"{key}=~no_such_user_at_all/x"]
    assert train.main(arguments) == 2
    error = capsys.readouterr().err
    assert f"{key}: expected a path on this machine, where ~no_such_user_at_all is no user's home" in error
    assert error.count("\n") == 1
    assert doctor.main(arguments) == 2
    assert list(tmp_path.iterdir()) == []


def test_no_home_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", no_home)
    with pytest.raises(ConfigError, match="run: expected a path on this machine, where ~ is no user's home"):
        load(None, ["run=~/x"])


BAD = [b"machine", b"\xff\xfe\x00", b"machine api.wandb.ai login", b"{}", b"macdef x\n\n\nfoo bar", b"a" * 10000]


@pytest.mark.parametrize("content", [*BAD, None, "folder"])
def test_a_bad_netrc_is_no_key_and_no_traceback(
    content: bytes | str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / ".netrc"
    if content == "folder":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
        path.chmod(0o600)
    for netrc in (str(path), "~/.netrc", ""):
        monkeypatch.setenv("NETRC", netrc)
        monkeypatch.setenv("HOME", str(tmp_path))
        assert wandb_mode(Track()) == "offline"


@pytest.mark.parametrize("netrc", ["~/.netrc", "", None])
def test_a_good_netrc_is_found_where_it_is(netrc: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    if netrc is not None:
        monkeypatch.setenv("NETRC", netrc)
    path = tmp_path / ".netrc"
    path.write_text("machine api.wandb.ai login user password abc\n")
    path.chmod(0o600)
    assert wandb_mode(Track()) == "online"
