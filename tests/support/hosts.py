"""Two hosts with addresses of their own on one machine: network namespaces, and a bridge between that can be cut."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

INSIDE = 'hostname "$1" && mount --bind "$2" /etc/hosts && shift 2 && exec "$@"'


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


class Hosts:
    """`host0` (10.77.0.1) and `host1` (10.77.0.2), with an interface `eth0` each."""

    def __init__(self, folder: Path) -> None:
        """`folder`: for their /etc/hosts."""
        self.names = [f"dist_gan-{os.getpid()}-{which}" for which in ("0", "1", "switch")]
        self.table = folder / "hosts"
        self.table.write_text(
            "127.0.0.1 localhost\n"
            + "".join(f"{family}{self.address(k)} host{k}\n" for family in ("", "::ffff:") for k in (0, 1))
        )

    def address(self, host: int) -> str:
        return f"10.77.0.{host + 1}"

    def inside(self, host: int) -> list[str | Path]:
        """What to put before a command so that it runs on a host."""
        enter = ["ip", "netns", "exec", self.names[host], "unshare", "--uts", "--mount"]
        return [*enter, "bash", "-c", INSIDE, "bash", f"host{host}", self.table]

    def build(self) -> None:
        for name in self.names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        switch = self.names[2]
        ip("-n", switch, "link", "add", "bridge", "up", "type", "bridge")
        for host in (0, 1):
            name = self.names[host]
            ip("-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", f"port{host}", "netns", switch)
            ip("-n", name, "address", "add", f"{self.address(host)}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", switch, "link", "set", f"port{host}", "up")
        self.heal()

    def cut(self) -> None:
        """From now on nothing arrives, and nobody is told."""
        ip("-n", self.names[2], "link", "set", "port1", "nomaster")

    def heal(self) -> None:
        for host in (0, 1):
            ip("-n", self.names[2], "link", "set", f"port{host}", "master", "bridge")

    def remove(self) -> None:
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)


@pytest.fixture
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    if shutil.which("ip") is None:
        pytest.skip("`ip` (iproute2) is not installed")
    both = Hosts(tmp_path_factory.mktemp("hosts"))
    try:
        try:
            both.build()
        except subprocess.CalledProcessError as error:
            pytest.skip(f"this machine makes no network namespaces: {error.stderr.strip()}")
        yield both
    finally:
        both.remove()
