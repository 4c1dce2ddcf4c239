"""Parts of a user's own: found, validated, explained, recorded, and never imported where the user did not ask."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from dist_gan.config.command_line import configured, dump, load, parse
from dist_gan.config.explain import differences, help_text
from dist_gan.config.schema import Config
from dist_gan.errors import ConfigError
from dist_gan.own_parts import code_of, owned
from tests.support import own_parts
from tests.support.commands import command, train
from tests.support.mine import ALL, MINE
from tests.support.runs import SMALL


def mistakes(*arguments: str) -> str:
    with pytest.raises(ConfigError) as caught:
        configured(arguments)
    return str(caught.value)


def test_every_kind_is_taken_dumped_and_read_back(mine: Path) -> None:
    config = load(None, ALL)
    assert {key: type(part).__name__ for key, part in owned(config)} == {
        "objective.loss": "Steep",
        "objective.penalties.0": "Double",
        "augment": "Mirror",
        "networks": "Wide",
        "data": "Discs",
        "generator_optimizer": "Slow",
        "generator_optimizer.schedule": "Step",
    }
    assert config.objective.loss.slope == 2  # type: ignore[union-attr]  # it is Steep
    assert "name: mine.py:Steep" in dump(config)
    assert parse(dump(config)) == config
    assert config.identity()["objective"]["loss"] == {"name": "mine.py:Steep", "slope": 2.0}
    assert {file for file, _ in code_of(config).values()} == {str(mine)}
    assert len({digest for _, digest in code_of(config).values()}) == 1


def test_a_file_is_found_beside_the_config_and_written_alike(
    tmp_path: Path, mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.yaml").write_text("objective: {loss: {name: 'mine.py:Steep'}}")
    beside = load("mine.yaml", ["objective.loss.slope=3"])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    from_elsewhere = load("../mine.yaml", ["objective.loss.slope=3"])
    by_path = load(None, [f"objective.loss={{name: {mine}:Steep, slope: 3}}"])
    assert beside.objective.loss.slope == 3  # type: ignore[union-attr]
    assert differences(beside, from_elsewhere) == differences(beside, by_path) == []
    # the same reference however it is spelled: the block goes on instead of starting afresh
    again = load("../mine.yaml", ["objective.loss.slope=3", "objective.loss.name=../mine.py:Steep"])
    assert again.objective.loss.slope == 3  # type: ignore[union-attr]


def test_a_module_is_found_by_its_name(tmp_path: Path, mine: Path) -> None:
    (tmp_path / "mine_package").mkdir()
    (tmp_path / "mine_package" / "losses.py").write_text(MINE)
    config = load(None, ["objective.loss={name: mine_package.losses:Steep, slope: 4}"])
    assert parse(dump(config)) == config
    assert config.identity()["objective"]["loss"]["name"] == "mine_package.losses:Steep"
    assert code_of(config)["objective.loss"][0].endswith("losses.py")


MISTAKES = [
    (
        "objective.loss={name: mine.py:Steep, slpe: 2}",
        "objective.loss.slpe: unknown key; did you mean objective.loss.sl",
    ),
    ("objective.loss={name: mine.py:Steep, slope: -2}", "objective.loss.slope: expected greater than 0, got -2"),
    (
        "objective.penalties=[{name: mine.py:Double, wight: 2}]",
        "objective.penalties.0.wight: unknown key; did you mean",
    ),
    ("objective.loss.name=mine.py:Stee", "objective.loss.name: mine.py has no class 'Stee'; it has Steep, Step"),
    ("objective.loss.name=mine.py:Step", "mine.py:Step is a Schedule; here it takes a Loss: a sub"),
    ("objective.loss.name=mine.py:Half", "mine.py:Half does not define generator"),
    ("objective.loss.name=theirs.py:Steep", "objective.loss.name: cannot read theirs.py (No such file"),
    ("objective.loss.name=broken.py:Steep", "broken.py, line 2: ZeroDivisionError: division by zero"),
    ("objective.loss.name=torn.py:Steep", "torn.py, line 1: SyntaxError"),
    ("objective.loss.name=leaves.py:Steep", "leaves.py, line 1: SystemExit: 3"),
    ("objective.loss.name=no.such.module:Steep", "there is no module no (neither installed"),
    ("objective.loss.name=dist_gan.objective.losses:Hinge", "is built in: name=hinge"),
    ("networks.name=mine.py:Steep", "mine.py:Steep is a Loss; here it takes a Recipe: a subclass of"),
]


@pytest.mark.parametrize(("override", "expected"), MISTAKES, ids=lambda text: text[:50])
def test_mistakes_are_explained(mine: Path, override: str, expected: str) -> None:
    mine.with_name("broken.py").write_text("x = 1\nx / 0\n")
    mine.with_name("torn.py").write_text("class:\n")
    mine.with_name("leaves.py").write_text("raise SystemExit(3)\n")
    text = mistakes(override)
    assert expected in text
    assert len(text.splitlines()) == 1, text


def test_help_shows_them_with_the_config(mine: Path) -> None:
    text = help_text(load(None, ALL))
    assert "objective.loss.name=mine.py:Steep: Cross entropy of steeper logits." in text
    assert re.search(r"objective\.loss\.slope=2\.0 +\(float\) +How steep\.", text)
    assert "mine.py" not in help_text(Config())
    done = command(str(Path(train.__file__)), "--help", ALL[0], cwd=mine.parent)
    assert "mine.py:Steep" in done.stdout


def test_instances_from_python_are_named_by_their_class(mine: Path) -> None:
    config = Config(augment=own_parts.Controlled(step=0.1))  # type: ignore[arg-type]  # not of the union
    assert config.identity()["augment"] == {"name": "tests.support.own_parts:Controlled", "target": -1.0, "step": 0.1}
    assert parse(dump(config)) == config
    with pytest.raises(ConfigError, match=r"objective\.loss\.real_target: expected less than or equal to 1, got 3"):
        Config(objective={"loss": {"name": "hinge"}, "los": 1} | {"loss": {"name": "minimax", "real_target": 3}})
    with pytest.raises(ConfigError, match="imges: unknown key; did you mean images"):
        Config(imges=3)  # type: ignore[call-arg]


def test_debug_mode_checks_their_contracts(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments: list[Any] = [*ALL, "debug=true", f"run={mine.parent}/run"]
    assert train.main([*SMALL[2:], *arguments]) == 0
    mine.write_text(MINE.replace("return images.flip(3)", "return images - images.mean()"))
    assert train.main([*SMALL[2:], *arguments]) == 1
    assert (
        "augment (Mirror): it must hold that a sample does not depend on the other samples" in capsys.readouterr().err
    )
    mine.write_text(MINE.replace("return images.flip(3)", "return images[:, :, ::-1]"))
    assert train.main([*SMALL[2:], *arguments]) == 1
    error = capsys.readouterr().err
    assert re.fullmatch(r"dist_gan: debug: augment \(Mirror\) fails: ValueError: .* \(mine.py, line 40\)\n", error)


@pytest.mark.parametrize(
    ("code", "broken", "key"),
    [
        ("return softplus(-self.slope * fake)", "raise KeyError('the shapes\\nare wrong')", "objective.loss"),
        ("return 2 * super().penalty(images, logits)", "return 1 / 0", "objective.penalties.0"),
        ("return images.flip(3)", "return images.flip(9)", "augment"),
    ],
)
def test_what_fails_in_them_is_named_first(
    mine: Path, capsys: pytest.CaptureFixture[str], code: str, broken: str, key: str
) -> None:
    mine.write_text(MINE.replace(code, broken))
    assert train.main([*SMALL[2:], *ALL, f"run={mine.parent}/run", "images=256"]) == 1
    line = next(number for number, text in enumerate(mine.read_text().splitlines(), 1) if broken in text)
    error = capsys.readouterr().err
    assert error.startswith(f"dist_gan: {key} (mine.py, line {line}) failed: ")
    assert error.partition("\n")[2].startswith("Traceback (most recent call last):\n")
    assert error.count("Traceback") == 1
    assert error.count(" failed") == 1
    reason = json.loads((mine.parent / "run" / "status.json").read_text())["reason"]
    assert reason.startswith(f"{key} (mine.py, line {line}) failed: ")


def test_a_defect_elsewhere_is_not_theirs(
    mine: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("a defect")

    monkeypatch.setattr("dist_gan.game.game.Game.play", broken)
    assert train.main([*SMALL[2:], *ALL, f"run={mine.parent}/run", "images=256"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("Traceback")
    assert "mine.py" not in error
