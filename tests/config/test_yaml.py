"""YAML without its surprises, in files, on the command line and in checkpoints."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from dist_gan.config.command_line import configured, dump, load, names_config, parse
from dist_gan.config.reading import read_yaml, write_yaml
from dist_gan.errors import ConfigError
from tests.support.commands import ROOT, train
from tests.support.launched import done
from tests.support.runs import SMALL

TEXTS = ["2026-01-01", "010", "0o17", "0x1F", "12:30", "190:20:30", "4x4", "off", "No", "y", "True", "1_0", "1e5", ".5"]
TEXTS += ["2026", "1.50", "+7", "true", "=", "<<x", "1__0", "2001-12-14t21:59:43.10-05:00", "a=b,c", "~/x", "NaN", "-a"]


def through(way: str, key: str, text: str, folder: Path) -> Any:
    """A config in which `text` is the value of `key`, given in one of the ways that there are."""
    if way == "command line":
        return load(None, [f"{key}={text}"])
    block = text
    for part in reversed(key.split(".")):
        block = "\n".join(f"  {line}" for line in block.split("\n")) if "\n" in block else f" {block}"
        block = f"{part}:{block}" if not block.startswith("  ") else f"{part}:\n{block}"
    if "." in key:
        first, second = key.split(".")
        block = f"{first}:\n  {second}: {text}\n"
    if way == "parse":
        return parse(block)
    (folder / "x.yaml").write_text(block)
    return load(folder / "x.yaml")


WAYS = ["command line", "file", "parse"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("text", TEXTS)
def test_text_is_what_was_written(way: str, text: str, tmp_path: Path) -> None:
    assert through(way, "track.project", text, tmp_path).track.project == text
    if not text.startswith("~"):
        assert through(way, "run", text, tmp_path).run == text


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("text", "number"),
    [("0123", 123), ("1_000", 1000), ("1e3", 1000), ("007", 7), ("+5", 5), ("5.0", 5), ("08", 8), ("10", 10)],
)
def test_whole_numbers_are_decimal(way: str, text: str, number: int, tmp_path: Path) -> None:
    assert through(way, "seed", text, tmp_path).seed == number


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("text", "number"),
    [("1e1", 10.0), ("1E+1", 10.0), ("60", 60.0), ("1_0.5", 10.5), ("060", 60.0), ("6e1", 60.0), ("10.", 10.0)],
)
def test_numbers_with_exponents(way: str, text: str, number: float, tmp_path: Path) -> None:
    assert through(way, "timeout", text, tmp_path).timeout == number


def test_small_numbers() -> None:
    for text, number in (("1e-4", 1e-4), (".5", 0.5), ("5E-1", 0.5), ("1.e-3", 1e-3), ("-.5e1", -5.0)):
        assert read_yaml(text) == number
        assert isinstance(read_yaml(text), float)
    assert load(None, ["generator_optimizer.learning_rate=1e-4"]).generator_optimizer.learning_rate == 1e-4


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("text", "value"), [("true", True), ("false", False), ("True", True), ("off", False)])
def test_booleans_where_they_are_expected(way: str, text: str, value: bool, tmp_path: Path) -> None:
    assert through(way, "exact", text, tmp_path).exact is value


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("track.wandb=off", "got 'off'"),
        ("seed=2026-01-01", "seed: expected"),
        ("seed=12:30", "got '12:30'"),
        ("seed=0x1F", "got '0x1F'"),
        ("timeout=.nan", "timeout: expected"),
        ("timeout=1e999", "timeout: expected"),
        ("run=", "run: expected"),
        ("run=[a]", "run: expected"),
        ("run=~", "run: expected"),
        (f"seed={'9' * 5000}", "seed: "),
        ("run={a: 1, a: 2}", "the key 'a' is there twice"),
        ("run={[a]: 1}", "a key must be text"),
        ("run=!!python/object:os.system x", "is no YAML"),
        ("run=!!timestamp x", "is no YAML"),
        ("run=!!int x", "is no YAML"),
        ("run=!!bool x", "is no YAML"),
        (f"run={'[' * 5000}", "is no YAML"),
        ("piece=3", "piece is called microbatch now"),
    ],
)
def test_what_is_none_of_them_is_one_mistake(argument: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, [argument])
    assert expected in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"seed: 1\nimages: 5\nseed: 2\n", "line 3: the key 'seed' is there twice"),
        (b"seed: 1\ndata:\n  name: mnist\n  flip: true\n  flip: false\n", "line 5: the key 'flip' is there twice"),
        (b"run: a\nx: [1\n", "line 3 is no YAML: "),
        (b"run: a\nsample:\n\tevery: 3\n", "line 3 is no YAML: "),
        (b"run: a\n# \xe9t\xe9\n", "line 2 is no YAML: not UTF-8"),
        ("run: a\n".encode("utf-16"), "line 1 is no YAML: not UTF-8"),
        (b"run: a\x00\n", "is no YAML: "),
        (b"--- {run: a}\n--- {run: b}\n", "line 2 is no YAML"),
        (b"a", "expected keys and values"),
        (b"a: &a {b: *a}", "x.yaml"),
        (b"piece: 3", "piece is called microbatch now"),
    ],
)
def test_a_file_that_is_no_config_is_one_line(content: bytes, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(path)
    if expected != "x.yaml":
        assert expected in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_config_that_is_a_folder_or_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"is a folder. Give the config's file"):
        load(tmp_path)
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "x.yaml")
    with pytest.raises(ConfigError, match="Not a directory"):
        load(ROOT / "README.md" / "x.yaml")


def test_a_file_with_a_byte_order_mark_anchors_and_merge_keys(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(
        "\ufeffgenerator_optimizer: &rate {learning_rate: 1e-4, beta1: 0}\n"
        "discriminator_optimizer: {<<: *rate, beta1: .5}\nrun: été\n",
        "utf-8",
    )
    config = load(path)
    assert config.run == "été"
    assert (config.discriminator_optimizer.learning_rate, config.discriminator_optimizer.beta1) == (1e-4, 0.5)  # type: ignore[union-attr]


@pytest.mark.parametrize("text", [*TEXTS, "null", "~", " a", "1e-4", "a: b", "a #b", "off", "", "été", "x" * 300])
def test_what_is_written_is_read_back_by_any_reader(text: str) -> None:
    tree = {"a": text, "b": [text, 1, 1e-5, 1e-4, 1e20, True, None], "c": 0.1}
    written = write_yaml(tree)
    assert read_yaml(written) == tree
    assert yaml.safe_load(written) == tree  # of YAML 1.1


def test_a_config_of_such_texts_survives_dump_and_parse() -> None:
    for text in TEXTS:
        config = load(None, [f"track.project='{text}'", f"run=./{text}"])
        assert parse(dump(config)) == config


PATHS = ["sweep/lr=0.1,seed=1/config.yaml", "seed=1/config.yml", "a=b/config", "my runs/x,y.yaml"]


@pytest.mark.parametrize("name", PATHS)
def test_a_configs_path_may_have_commas_and_equals_signs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    path.write_text("seed: 12\n")
    for given in (name, str(path)):
        assert configured([given, "images=7"]).seed == 12
        assert names_config(given)
    with pytest.raises(ConfigError, match="No such file"):
        configured(["sweep/lr=0.2/config.yaml"])
    assert configured(["run=x.yaml", "seed=3"]).run == "x.yaml"
    long = "objective.penalties=[" + ", ".join(["{name: r1}"] * 100) + "]"
    assert len(configured([long]).objective.penalties) == 100


def test_the_scripts_of_launch_take_such_a_path(tmp_path: Path) -> None:
    path = tmp_path / "sweep" / "lr=0.1,seed=1" / "config.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("seed: 12\n")
    code, out, error = done(tmp_path, "local.sh", str(path.relative_to(tmp_path)), "run=2026-01-01", "--print-config")
    assert (code, error) == (0, "")
    assert "\nseed: 12\n" in out
    assert "\nrun: '2026-01-01'\n" in out or "run: '2026-01-01'\n" in out


def test_a_run_named_by_a_number_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for images in (128, 256):
        assert train.main([*SMALL, "run=0010", f"images={images}"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["0010"]
    assert train.main(["0010/config.yaml"]) == 0
