"""A run with parts of a user's own goes on with the same code, and executes code of others only where it is trusted."""

from pathlib import Path

import pytest

from dist_gan.run.restore import load_generator
from tests.support.commands import command, sample
from tests.support.mine import ALL, MINE
from tests.support.runs import SMALL, newest, run


@pytest.fixture
def finished(mine: Path) -> Path:
    """A run with all kinds of parts."""
    folder = mine.parent / "run"
    assert run(folder, 128, *ALL, small=SMALL[2:]) == 0
    mine.with_name("imported").unlink()
    return folder


def test_a_run_goes_on_until_the_code_changes(mine: Path, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(newest(finished).state["code"]["objective.loss"]) == 64
    assert run(finished, 256, *ALL, small=SMALL[2:]) == 0
    mine.write_text(MINE + "# another line\n")
    assert run(finished, 384, *ALL, small=SMALL[2:]) == 2
    error = capsys.readouterr().err
    assert "code of your own has changed" in error
    assert f"objective.loss: {mine} (SHA-256" in error
    assert newest(finished).state["images_seen"] == 256
    assert run(finished, 384, *ALL, "resume_with_changed_code=true", small=SMALL[2:]) == 0
    assert run(finished, 512, *ALL, small=SMALL[2:]) == 0
    assert run(finished, 640, *ALL[1:], small=SMALL[2:]) == 2
    assert "objective.loss: mine.py:Steep in the run, non_saturating now" in capsys.readouterr().err


# Each in a process of its own: this one has the classes already, by its own configs.
UNTRUSTED = {
    "a run's config": ["-m", "dist_gan.train", "run/config.yaml", "images=256"],
    "a checkpoint's config": ["-m", "dist_gan.train", "run/checkpoints/images-000000000128/config.yaml", "run=other"],
    "sample": ["-m", "dist_gan.sample", "run", "count=1", "out=one.png"],
    "load_generator": ["-c", "from dist_gan import load_generator as load; load('run')"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", UNTRUSTED)
def test_what_lies_in_a_runs_folder_executes_nothing(name: str, mine: Path, finished: Path) -> None:
    arguments = UNTRUSTED[name]
    done = command(*arguments, cwd=mine.parent)
    assert done.returncode == (1 if name == "load_generator" else 2)
    assert "trust_code=true" in done.stderr
    assert "mine.py" in done.stderr
    assert not mine.with_name("imported").exists()
    trusting = [a.replace("load('run')", "load('run', trust_code=True)") for a in arguments]
    done = command(*trusting, *([] if name == "load_generator" else ["trust_code=true"]), cwd=mine.parent)
    assert done.returncode == 0, done.stderr
    assert mine.with_name("imported").exists()


def test_trust_is_given_by_the_command_alone(mine: Path, finished: Path) -> None:
    (finished / "config.yaml").write_text("trust_code: true\n" + (finished / "config.yaml").read_text())
    done = command("-m", "dist_gan.train", "run/config.yaml", cwd=mine.parent)
    assert done.returncode == 2
    assert "trust_code: it is given on the command line alone, never in a file" in done.stderr
    assert not mine.with_name("imported").exists()


def test_a_checkpoint_of_foreign_code_is_compared_without_it(mine: Path, finished: Path) -> None:
    """A run's folder that names code, and a command that does not: refused by comparison, nothing imported."""
    done = command("-m", "dist_gan.train", "run=run", "images=256", *SMALL, cwd=mine.parent)
    assert done.returncode == 2
    assert "objective.loss: mine.py:Steep in the run, non_saturating now" in done.stderr
    assert not mine.with_name("imported").exists()


def test_what_this_process_was_given_already_is_trusted(mine: Path, finished: Path) -> None:
    assert load_generator(finished, "cpu").latent == 100
    assert sample.main([str(finished), "count=1", f"out={mine.parent}/one.png"]) == 0


def test_the_loss_and_the_data_need_not_be_known(tmp_path: Path, mine: Path) -> None:
    folder = tmp_path / "run"
    kept = [a for a in ALL if not a.startswith("networks")]
    assert run(folder, 64, *kept, "networks={name: mlp, width: 4}", small=SMALL[2:]) == 0
    mine.unlink()
    done = command("-c", "from dist_gan import load_generator as load; print(load('run').latent)", cwd=tmp_path)
    assert done.stdout.strip() == "100", done.stderr
