"""The time limits of failure handling: the process at fault is named before anything ends the process that names it."""

import ast
import itertools
import re
import sys
from pathlib import Path

import pytest

from dist_gan.config.schema import Config
from dist_gan.distributed import timing
from dist_gan.distributed.timing import (
    AGREE_SECONDS,
    CAUSE_SECONDS,
    LAST_WORDS,
    LAUNCHER_SECONDS,
    LIFE_SECONDS,
    NAMING_SECONDS,
    RANK_0_SECONDS,
    SILENT_TICKS,
    SLACK,
    STATUS_SECONDS,
    STORE_SECONDS,
    TICK,
    VANISHED_SECONDS,
    patience_with_data,
)
from tests.support.children import finished
from tests.support.commands import ROOT

SHORTEST = min(part.ge for part in Config.model_fields["timeout"].metadata if hasattr(part, "ge"))
"""The shortest `timeout` that a run may have."""
TORCHS_PATIENCE = 30.0
"""Seconds after a SIGTERM until torchrun kills a rank."""


def test_a_dead_process_is_silent_before_its_name_is_waited_for_in_vain() -> None:
    """It is called silent in the first tick after SILENT_TICKS. Its last heartbeat may be a tick old when it dies, is
    heard a tick later, and the tick that notices may just have begun."""
    latest = (SILENT_TICKS + 1) * TICK + TICK
    assert latest < NAMING_SECONDS


def test_the_launcher_leaves_time_to_name_the_dead_one() -> None:
    assert LAUNCHER_SECONDS > NAMING_SECONDS
    assert LAUNCHER_SECONDS < TORCHS_PATIENCE


def test_a_peer_that_only_lost_a_connection_waits_for_the_cause_and_is_not_ended_meanwhile() -> None:
    assert CAUSE_SECONDS < LAUNCHER_SECONDS


def test_the_watchdog_acts_before_a_collective_gives_up() -> None:
    """A collective begins with a phase at the latest, so at its timeout SLACK has passed since the watchdog's. That
    looks once in a tick, prints the reason at once, and records it within LAST_WORDS, then waits for a save as long."""
    assert TICK + LAST_WORDS < SLACK
    assert STATUS_SECONDS < LAST_WORDS
    assert 2 * LAST_WORDS < SLACK


def test_the_store_complains_last() -> None:
    """The watchdog speaks to the others through it, from before a run stands still until it is ended."""
    assert STORE_SECONDS > SLACK + 3 * LAST_WORDS + NAMING_SECONDS


def test_a_hung_process_that_reports_ends_first() -> None:
    """The others stay LAST_WORDS longer for it: a launcher ends all when the first one ends."""
    assert LAST_WORDS < LAUNCHER_SECONDS
    assert 3 * LAST_WORDS + TICK < TORCHS_PATIENCE


def test_a_silent_peer_is_known_as_such_when_a_run_is_ended() -> None:
    """With the shortest timeout too: else all ranks would be called standing still."""
    assert (SILENT_TICKS + 1) * TICK < SHORTEST


def test_rank_0_reports_before_the_others_end() -> None:
    """Where all fail alike it writes status.json and prints; a launcher that ends it would do so when another ends."""
    assert RANK_0_SECONDS > 3 * LAST_WORDS
    assert RANK_0_SECONDS > CAUSE_SECONDS
    assert RANK_0_SECONDS < TORCHS_PATIENCE


def test_a_run_that_lives_is_never_called_vanished() -> None:
    """Not even where two touches of the lock file are missed, or a hung run is being ended."""
    assert VANISHED_SECONDS > 3 * LIFE_SECONDS
    assert VANISHED_SECONDS > 3 * LAST_WORDS + LIFE_SECONDS


@pytest.mark.parametrize("timeout", [SHORTEST, 10, 50, 51, 60, 600, 86_400])
def test_a_file_that_is_away_is_named_before_the_watchdog_ends_the_run(timeout: float) -> None:
    """And before the other processes, which wait for this one in an agreement or a reduction, end it."""
    patience = patience_with_data(timeout)
    assert 0 < patience < timeout
    if timeout > 10 * AGREE_SECONDS:
        assert patience + AGREE_SECONDS < timeout


def test_everything_is_in_order_and_has_a_reason() -> None:
    """From the shortest to the longest, each with a docstring below it."""
    body = ast.parse(Path(timing.__file__).read_text()).body
    names = []
    for statement, below in itertools.pairwise(body):
        if isinstance(statement, ast.Assign):
            (target,) = statement.targets
            assert isinstance(target, ast.Name)
            assert isinstance(below, ast.Expr), f"{target.id} has no reason"
            names.append(target.id)
    seconds = [getattr(timing, name) for name in names if not name.endswith("TICKS")]
    assert len(seconds) >= 12
    assert seconds == sorted(seconds)


def test_no_other_file_has_time_limits_of_its_own_for_failures() -> None:
    """Of the modules that handle failures, and the launcher: what sleeps, waits or joins there takes a name."""
    handling = [
        *(ROOT / "dist_gan/distributed").glob("*.py"),
        *(ROOT / "dist_gan/run").glob("*.py"),
        ROOT / "dist_gan/status.py",
        ROOT / "launch/launcher.py",
    ]
    found = []
    for path in handling:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign) and path.name != "timing.py":
                names = [target.id for target in node.targets if isinstance(target, ast.Name)]
                number = isinstance(node.value, ast.Constant) and isinstance(node.value.value, int | float)
                if number and any(re.search("SECONDS|TIMEOUT|TICK|WORDS|SLACK|PATIENCE|VANISHED", n) for n in names):
                    found.append(f"{path.name}: {names}")
    assert found == []


def test_the_launcher_takes_its_time_from_there_and_loads_no_torch_for_it() -> None:
    """torch reads TORCH_CPP_LOG_LEVEL when it is imported: before that the launcher must have set it."""
    probe = (
        "import os, sys; import launcher; from dist_gan.distributed import timing;"
        "print('torch' in sys.modules, os.environ['TORCH_CPP_LOG_LEVEL'],"
        "launcher.LAUNCHER_SECONDS == timing.LAUNCHER_SECONDS, timing.__file__)"
    )
    done = finished([sys.executable, "-c", probe], cwd=ROOT / "launch", timeout=60)
    assert done.stdout.split() == ["False", "ERROR", "True", str(ROOT / "dist_gan/distributed/timing.py")], done.stderr
