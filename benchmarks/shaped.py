"""A link of a given bandwidth and delay between two network namespaces of this machine. It needs root, `ip` and `tc`.

Bandwidth: the kernel's token bucket (tbf) on both ends. Delay: each end is a tun device, and a process of this file
carries every packet from one to the other and holds it back for that time: many kernels lack netem, which would do it.
That process needs time of a core, so that rates beyond a few Gbit/s may not be reached.
"""

import contextlib
import ctypes
import fcntl
import os
import select
import struct
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

TUN, TUNSETIFF, IFF_TUN, IFF_NO_PI, CLONE_NEWNET = "/dev/net/tun", 0x400454CA, 0x0001, 0x1000, 0x40000000
PR_SET_TIMERSLACK = 29
DEVICE = "wire0"
LARGEST = 65_536
"""Bytes of the largest packet."""
TUNED = (
    *(f"net.ipv4.{key}=4096 1048576 67108864" for key in ("tcp_rmem", "tcp_wmem")),
    "net.ipv4.tcp_slow_start_after_idle=0",
    "net.ipv4.tcp_congestion_control=reno",
)
"""TCP as on a tuned cluster: windows that a long link fills, and that stay open while the networks compute."""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


class Shaped:
    """`host 0` (10.78.0.1) and `host 1` (10.78.0.2), with a link between them for as long as the block lasts."""

    def __init__(self, bits_per_second: float, delay: float) -> None:
        """`delay`: seconds in one direction, beside the time that a packet's bytes take. 0 bits: not shaped."""
        self.bits_per_second, self.delay = bits_per_second, delay
        self.names = [f"dist_gan-{os.getpid()}-end{which}" for which in (0, 1)]
        self._carrier: subprocess.Popen[bytes] | None = None

    def address(self, host: int) -> str:
        return f"10.78.0.{host + 1}"

    def inside(self, host: int) -> list[str]:
        """What to put before a command so that it runs there."""
        return ["ip", "netns", "exec", self.names[host]]

    def __enter__(self) -> "Shaped":
        # Slow links get smaller packets: one of 64 kB alone would take 5 ms at 100 Mbit/s.
        size = 9000 if 0 < self.bits_per_second < 5e9 else 65_000
        try:
            for host, name in enumerate(self.names):
                ip("netns", "add", name)
                ip("-n", name, "link", "set", "lo", "up")
                ip("-n", name, "tuntap", "add", "dev", DEVICE, "mode", "tun")
                ip("-n", name, "address", "add", f"{self.address(host)}/24", "dev", DEVICE)
                ip("-n", name, "link", "set", DEVICE, "mtu", str(size), "txqueuelen", "10000", "up")
                if self.bits_per_second:
                    burst = max(2 * size, int(self.bits_per_second / 8 / 1000))  # what passes in a tick of 1 ms
                    rate = f"{self.bits_per_second:.0f}bit"
                    shape = f"tc qdisc add dev {DEVICE} root tbf rate {rate} burst {burst}b latency 2s"
                    subprocess.run([*self.inside(host), *shape.split()], check=True, capture_output=True, text=True)
            for host in (0, 1):
                subprocess.run([*self.inside(host), "sysctl", "-qw", *TUNED], check=True)
            self._carrier = subprocess.Popen(
                [sys.executable, __file__, *self.names, str(self.delay)], stdout=subprocess.PIPE
            )
            assert self._carrier.stdout is not None
            self._carrier.stdout.readline()  # it carries from now on
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._carrier is not None:
            self._carrier.kill()
            self._carrier.wait()
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def take_cores(real_time: bool, main: int = 1, others: int = 2) -> None:
    """Whether this process's threads go before all other work on this machine, as on one that has nothing else to do;
    where that is not allowed, nothing changes.

    Other work is not only slow to leave a core: each message wakes threads, and each of these would wait for
    milliseconds. The threads that carry messages go before the `main` one, which computes.
    """
    for thread in (int(task.name) for task in Path("/proc/self/task").iterdir()):
        policy = os.SCHED_RR if real_time else os.SCHED_OTHER
        rank = (main if thread == os.getpid() else others) if real_time else 0
        with contextlib.suppress(OSError):
            os.sched_setscheduler(thread, policy, os.sched_param(rank))


def carry(names: list[str], delay: float) -> None:
    """Carry packets between the two ends, each `delay` seconds after it came, until this process is ended."""
    ends = [_attached(name) for name in names]
    ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1)  # else each wait is 50 us longer
    take_cores(True, main=3)  # a link does not wait for a core
    waiting: list[deque[tuple[float, bytes]]] = [deque(), deque()]
    print("carrying", flush=True)
    while True:
        now = time.perf_counter()
        for origin, queue in enumerate(waiting):
            while queue and queue[0][0] <= now:
                os.write(ends[1 - origin], queue.popleft()[1])
        due = min((queue[0][0] for queue in waiting if queue), default=None)
        patience = None if due is None else max(0.0, due - time.perf_counter())
        ready, _, _ = select.select(ends, [], [], patience)
        for end in ready:
            origin = ends.index(end)
            for _ in range(16):
                try:
                    packet = os.read(end, LARGEST)
                except BlockingIOError:
                    break
                waiting[origin].append((time.perf_counter() + delay, packet))


def _attached(name: str) -> int:
    """The end of the link in a namespace, as a file of packets."""
    space = os.open(f"/var/run/netns/{name}", os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(space, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
    end = os.open(TUN, os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(end, TUNSETIFF, struct.pack("16sH", DEVICE.encode(), IFF_TUN | IFF_NO_PI))
    return end


if __name__ == "__main__":
    carry(sys.argv[1:3], float(sys.argv[3]))
