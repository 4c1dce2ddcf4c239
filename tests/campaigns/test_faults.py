"""The short form of the campaign in tests/campaigns/faults: what is lost under kills, rot and full disks. Nothing."""

import json
from typing import Any

import pytest

from tests.support.commands import command

pytestmark = pytest.mark.slow
SHORT = ["bytes", "calls", "disk", "kills", "--bytes", "100", "--calls", "15", "--kills", "20"]


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Part -> what was counted, and what failed. One process, which forks: it must not have trained before."""
    out = tmp_path_factory.mktemp("faults") / "out.json"
    done = command("-m", "tests.campaigns.faults", *SHORT, "--json", str(out))
    assert out.exists(), done.stdout + done.stderr
    return json.loads(out.read_text())


def counts(campaign: dict[str, Any], part: str) -> dict[str, int]:
    assert campaign[part]["failures"] == []
    return campaign[part]["counts"]


def test_rotten_bytes_are_found_named_and_put_aside(campaign: dict[str, Any]) -> None:
    found = counts(campaign, "rotten bytes")
    assert found["damaged"] == 100
    assert found["none left valid"] == 20


@pytest.mark.parametrize(
    "part",
    [
        "kill at system calls of a save",
        "kill at system calls of a start",
        "no space at system calls of a save",
    ],
)
def test_at_any_system_call_the_old_or_the_new_one_loads(campaign: dict[str, Any], part: str) -> None:
    if part not in campaign:
        pytest.skip("strace is not installed, or may not trace")
    assert counts(campaign, part)["injected"] == 15


@pytest.mark.parametrize("part", ["disk: limited", "disk: full", "disk: read only"])
def test_a_disk_that_is_full_or_read_only(campaign: dict[str, Any], part: str) -> None:
    """For a while: warned, and the run goes on. For good: exit code 5, and later it goes on. Both to the same bits."""
    if part not in campaign:
        pytest.skip("mounting needs root")
    assert counts(campaign, part)["compared with an uninterrupted run"] == 2


@pytest.mark.parametrize(("part", "kills"), [("kill -9, 1 rank", 12), ("kill -9, 2 ranks", 8)])
def test_killed_again_and_again_it_ends_with_the_same_bits(campaign: dict[str, Any], part: str, kills: int) -> None:
    found = counts(campaign, part)
    assert found["kills"] == kills
    assert found["compared with an uninterrupted run"] == found["runs"] > 0
