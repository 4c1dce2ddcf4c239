"""What the model is held against: the shaped link is what it is asked to be, and the fit to an H100 is as stated."""

import importlib
import math
import os
import shutil
import statistics
import subprocess
import sys
from typing import Any

import pytest

from dist_gan.planning.devices import H100_SEEN
from tests.support.commands import ROOT

SERVER = """
import socket
with socket.create_server(("10.78.0.1", 5201)) as server:
    print("ready", flush=True)
    with server.accept()[0] as other:
        while data := other.recv(2**20):
            other.sendall(b"x" * (len(data) == 1 or data.endswith(b"e")))
"""
CLIENT = """
import socket, time
with socket.create_connection(("10.78.0.1", 5201)) as other:
    other.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for block in [b"x"] * 5 + [b"x" * 4_999_999 + b"e"]:
        begun = time.perf_counter()
        other.sendall(block)
        other.recv(1)
        print(time.perf_counter() - begun, flush=True)
"""


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module


@pytest.mark.slow
def test_a_link_has_the_delay_and_the_bandwidth_that_it_is_asked_for(benchmark: Any) -> None:
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("tc"):
        pytest.skip("network namespaces need root, `ip` and `tc`")
    try:
        link = benchmark("shaped").Shaped(1e8, 0.01).__enter__()
    except (subprocess.CalledProcessError, OSError) as error:
        pytest.skip(f"this machine makes no shaped links: {error}")
    try:
        ask = [*link.inside(0), sys.executable, "-c", SERVER]
        with subprocess.Popen(ask, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            server.stdout.readline()
            told = subprocess.run(
                [*link.inside(1), sys.executable, "-c", CLIENT], capture_output=True, text=True, timeout=60
            )
            server.kill()
    finally:
        link.__exit__()
    *trips, whole = map(float, told.stdout.split())
    assert 0.02 <= statistics.median(trips) < 0.05, told
    assert 0.4 < whole - 0.02 < 0.8, "5 MB at 100 Mbit/s"


def test_the_fit_to_an_h100_is_as_good_as_the_docs_say(benchmark: Any) -> None:
    fit = benchmark("gpu_fit")
    measured = fit.rows()
    off = [abs(math.log(ratio)) for ratio in fit.errors(measured, H100_SEEN)]
    assert len(off) >= 20
    assert math.exp(statistics.median(off)) < 1.20
    assert math.exp(max(off)) < 2.0
    again = fit.fit(measured)
    assert again.flops == pytest.approx(H100_SEEN.flops, rel=0.02), "the numbers in devices.py are those of the fit"
    assert again.operator[False] == pytest.approx(H100_SEEN.operator[False], rel=0.02)
    assert again.operator[True] == pytest.approx(H100_SEEN.operator[True], rel=0.02)
    assert again.bytes == pytest.approx(H100_SEEN.bytes, rel=0.02)
    assert again.graph == pytest.approx(H100_SEEN.graph, rel=0.02)
