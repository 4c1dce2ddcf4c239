"""`python -m tests.support.two_ranks -m MODULE ARGUMENTS`: two ranks without a launcher between; signals go to both."""

import os
import signal
import socket
import subprocess
import sys

with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
world = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
ranks = [
    subprocess.Popen([sys.executable, *sys.argv[1:]], env={**os.environ, **world, "RANK": str(r), "LOCAL_RANK": str(r)})
    for r in range(2)
]


def pass_on(number: int, _: object) -> None:
    for rank in ranks:
        rank.send_signal(number)


for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
    signal.signal(number, pass_on)
sys.exit(max(rank.wait() for rank in ranks))
