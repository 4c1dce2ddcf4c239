"""Ctrl-C once and twice, at every moment; the user's own config in the run's folder."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dist_gan.config.command_line import load
from dist_gan.game.game import Game
from dist_gan.run import checkpoint
from dist_gan.run.events import Event
from dist_gan.run.records import Records
from dist_gan.run.session import train
from tests.support.runs import SMALL, newest, run, wait_for

NOTICE = "Ctrl-C: stopping after this update, then saving. A second one ends at once."


class At(Event):
    """Does something after an update, once."""

    name = "the test"
    at_end = False

    def __init__(self, images: int, action: Callable[[], None]) -> None:
        self.every = images
        self.action = action

    def happen(self, game: Game, records: Records) -> None:
        if game.images_seen == self.every:
            self.action()


def interrupt(times: int = 1) -> Callable[[], None]:
    def action() -> None:
        for _ in range(times):
            signal.raise_signal(signal.SIGINT)

    return action


def trained(folder: Path, event: Event, *more: str) -> int:
    return train(load(None, [*SMALL, f"run={folder}", "images=64000", *more]), events=[event]).stopped_by


def status(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "status.json").read_text()))


def test_one_says_what_happens_and_saves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert trained(tmp_path, At(640, interrupt())) == signal.SIGINT
    out = capsys.readouterr().out
    assert out.count(NOTICE) == 1
    assert status(tmp_path)["state"] == "stopped"
    assert newest(tmp_path).state["images_seen"] == 704


def test_a_second_ends_at_once_and_the_status_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, At(1344, interrupt(2)))
    found = status(tmp_path)
    assert (found["state"], found["reason"], found["exit_code"]) == ("stopped", "a second Ctrl-C", 130)
    assert newest(tmp_path).state["images_seen"] == 1280, "the one before; nothing is saved now"
    assert "ended at once; the last checkpoint: images-000000001280" in capsys.readouterr().out
    assert run(tmp_path, 1920) == 0, "the folder is free, and the run goes on"


def slowly(monkeypatch: pytest.MonkeyPatch, images: int, during: Callable[[], None]) -> None:
    """`during` happens while the checkpoint of that many images is written."""
    write = checkpoint.write

    def slow(parent: Path, images_seen: int, *rest: Any) -> Path:
        if images_seen == images:
            during()
        return write(parent, images_seen, *rest)

    monkeypatch.setattr(checkpoint, "write", slow)


def test_a_second_before_the_last_save_has_begun_waits_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = checkpoint.Writer.save

    def interrupted(self: checkpoint.Writer, images_seen: int, *rest: Any) -> None:
        if images_seen == 704:
            signal.raise_signal(signal.SIGINT)
        save(self, images_seen, *rest)

    monkeypatch.setattr(checkpoint.Writer, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, At(640, interrupt()))
    assert newest(tmp_path).state["images_seen"] == 704
    assert status(tmp_path)["state"] == "stopped"


def test_a_second_while_a_save_goes_on_beside_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slowly(monkeypatch, 1280, lambda: wait_for(lambda: status(tmp_path)["state"] == "stopped"))
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, At(1344, interrupt(2)))
    assert newest(tmp_path).state["images_seen"] == 1280
    assert checkpoint.verify(newest(tmp_path).path) == ""


def test_the_users_own_config_in_the_runs_folder_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = "# what I think of it\n" + "\n".join(f"{key}: {value}" for key, value in (o.split("=", 1) for o in SMALL[:2]))
    config, resolved = tmp_path / "config.yaml", tmp_path / "config.resolved.yaml"
    config.write_text(own)
    options = ["track.wandb=disabled", f"run={tmp_path}"]
    for images in (640, 1280):
        train(load(config, [*options, f"images={images}"]))
        assert config.read_text() == own
        assert load(resolved).images == images
    assert "is your own and stays as it is; the resolved one is config.resolved.yaml" in capsys.readouterr().out
    config.unlink()
    train(load(resolved, ["images=1920"]))
    assert load(config).images == 1920
    assert not resolved.exists()
    train(load(config, ["images=2560"]))
    assert load(config).images == 2560, "what a run wrote is written again"
    config.write_text(config.read_text() + "# a note\n")
    train(load(config, ["images=3200"]))
    assert config.read_text().endswith("# a note\n")
    assert load(resolved).images == 3200
