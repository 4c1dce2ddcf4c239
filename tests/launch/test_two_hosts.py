"""Two hosts, and the network between them: cut off for a moment, cut off for good, healed."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.hosts import Hosts, hosts
from tests.support.launched import ENDLESS, assert_nothing_left, done, free_port, saved, started, status
from tests.support.runs import assert_same, newest, wait_for

__all__ = ["hosts"]

pytestmark = pytest.mark.slow
MORE = ["save.every=6400", "timeout=10"]


@contextmanager
def nodes(hosts: Hosts, folder: Path, *arguments: str) -> Iterator[list[subprocess.Popen[str]]]:
    """launch/multi_node.sh with the same command on both."""
    port = free_port()
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                started(
                    folder,
                    "multi_node.sh",
                    *("--nodes", "2", "--rank", str(rank), "--head", hosts.address(0), "--port", port, "-n", "1"),
                    *(*ENDLESS, *MORE, "run=a", *arguments),
                    inside=hosts.inside(rank),
                    GLOO_SOCKET_IFNAME="eth0",
                )
            )
            for rank in (0, 1)
        ]


def ended(both: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """(exit code, stderr) of each."""
    errors = [node.communicate(timeout=90)[1] for node in both]
    return [(node.returncode, error) for node, error in zip(both, errors, strict=True)]


def test_a_link_that_is_cut_for_a_moment_ends_nothing(hosts: Hosts, tmp_path: Path) -> None:
    run = tmp_path / "a"
    with nodes(hosts, tmp_path) as both:
        saved(run)
        hosts.cut()
        time.sleep(3)
        cut_at = status(run)["images_seen"]
        hosts.heal()
        wait_for(lambda: status(run)["images_seen"] > cut_at + 6400)
        both[0].terminate()
        assert ended(both) == [(0, ""), (0, "")]
    assert status(run)["state"] == "stopped"
    assert_nothing_left(run)


def test_a_link_that_stays_cut_ends_both_with_the_cause_and_the_run_goes_on_when_it_is_healed(
    hosts: Hosts, tmp_path: Path
) -> None:
    run = tmp_path / "a"
    with nodes(hosts, tmp_path) as both:
        saved(run)
        hosts.cut()
        (head_code, head), (other_code, other) = ended(both)
    assert (head_code, other_code) == (6, 6)
    assert head.startswith("dist_gan: no progress for 10 s: rank 1 (host host1, pid "), head
    assert "does not respond, last seen after " in head
    assert other.startswith("dist_gan (rank 1): no progress for 10 s: rank 1 (host host1, pid "), other
    assert f"cannot reach the head node ({hosts.address(0)}:" in other
    assert status(run)["exit_code"] == 6
    assert_nothing_left(run)

    hosts.heal()
    seen = newest(run).state["images_seen"]
    images = f"images={seen + 6400}"
    with nodes(hosts, tmp_path, images) as both:
        out = both[0].communicate(timeout=90)[0]
        assert ended(both[1:]) == [(0, "")]
    assert f"going on from {seen:,}" in out
    assert done(tmp_path, "local.sh", "-n", "2", *ENDLESS, *MORE, "run=b", images)[0] == 0
    assert_same(newest(run), newest(tmp_path / "b"))
