"""Options of commands: their values, their limits, and a mistake as one sentence."""

import pytest

from dist_gan.arguments import Flag, Text, Whole, read_options, run_command
from dist_gan.errors import CheckpointError, ConfigError

OPTIONS = {"count": Whole(None, least=1, most=9, example="4"), "out": Text("x.png"), "again": Flag(), "seed": Whole(0)}


def test_what_is_not_given_is_its_default_and_the_last_one_wins() -> None:
    assert read_options([], OPTIONS) == {"count": None, "out": "x.png", "again": False, "seed": 0}
    given = ["count=3", "again=true", "out=a=b", "count=9", "again=false", f"seed={2**63 - 1}"]
    assert read_options(given, OPTIONS) == {"count": 9, "out": "a=b", "again": False, "seed": 2**63 - 1}


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("cuont=3", "'cuont=3': expected one of count=4, out=x.png, again=false, seed=0; did you mean count?"),
        ("zzz", "'zzz': expected one of count=4, out=x.png, again=false, seed=0"),
        ("count=0", "count must be at least 1, got 0"),
        ("count=10", "count: at most 9, got 10"),
        ("count=" + "9" * 5000, "count: at most 9, got " + "9" * 100),
        ("count", "count: expected something like count=4, got 'count'"),
        ("count=-1", "count: expected something like count=4, got 'count=-1'"),
        ("count=²", "count: expected something like count=4, got 'count=²'"),
        ("out=", "out: expected something like out=x.png, got 'out='"),
        ("again=yes", "again: expected true or false, got 'yes'"),
        ("again", "again: expected true or false, got ''"),
    ],
)
def test_mistakes(argument: str, expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_options([argument], OPTIONS)
    assert str(error.value) == expected


def test_a_command_from_its_arguments_to_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    def work(arguments: object) -> str:
        if arguments == ["bad"]:
            raise CheckpointError("this is why")
        return "done" if arguments == ["good"] else ""

    def ran(*arguments: str) -> tuple[int, str, str]:
        return run_command("dist_gan.x", "usage\n", work, arguments), *capsys.readouterr()

    assert ran("good") == (0, "done\n", "")
    assert ran("quiet") == (0, "", "")
    assert ran("bad") == (3, "", "dist_gan.x: this is why\n")
    assert ran("good", "--help") == ran("-h") == (0, "usage\n", "")
    assert ran() == (2, "", "usage\n")
