"""SIGKILL, or an error, at each file system call of a save and of a start, by strace."""

import os
import random
import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from dist_gan.errors import CheckpointError
from dist_gan.run import checkpoint
from dist_gan.run.checkpoint import Writer
from tests.campaigns.faults.runs import Tally, exit_code, fork

TENSORS = {"generator": {"a": torch.arange(6.0)}, "ema": {"a": torch.ones(3000)}}
CALLS = "trace=%file,read,write,close,fsync,fstat,lseek,ioctl,fcntl,getdents64,ftruncate"
FAILING = {"mkdir", "openat", "write", "fsync", "rename"}


def system_calls(folder: Path, sample: int, generator: random.Random) -> list[Tally]:
    """SIGKILL at each file system call of a save and of a start; and an error at those of a save that can fail."""
    tallies = []
    for name, action, prepare, fault in (
        ("kill at system calls of a save", _save, _one_old, "signal=SIGKILL"),
        ("kill at system calls of a start", _find, _damaged, "signal=SIGKILL"),
        ("no space at system calls of a save", _save, _one_old, "error=ENOSPC"),
    ):
        tally = Tally(name)
        tallies.append(tally)
        parent, log = folder / "checkpoints", folder / "strace.log"
        for _ in range(2):  # the first may compile and cache modules, which are calls that the others do not make
            _fresh(parent, prepare)
            tally.check(traced(partial(action, parent), log, "-y") == 0, "exit codes", name)
        if prepare is _one_old:
            tally.check(_in_order(log.read_text()), "not written through before the rename", log.read_text())
        points = []
        for thread in sorted({line.split()[0] for line in log.read_text().splitlines()}, key=int):
            seen: Counter[str] = Counter()
            for call in re.findall(rf"^{thread} +(\w+)\(", log.read_text(), re.MULTILINE):
                seen[call] += 1
                points.append((call, seen[call]))
        points = [p for p in dict.fromkeys(points) if fault == "signal=SIGKILL" or p[0] in FAILING]
        tally.counts["in all"] = len(points)
        for call, k in sorted(generator.sample(points, min(sample or len(points), len(points)))):
            _fresh(parent, prepare)
            code = traced(partial(action, parent), log, f"-einject={call}:{fault}:when={k}")
            injected = code == -signal.SIGKILL or "(INJECTED)" in log.read_text()
            tally.counts["injected"] += injected
            tally.check(injected, "not reached", f"{call} {k}")
            tally.check(code in (0, -signal.SIGKILL), "exit codes", f"{code} at {call} {k}")
            problem = _problem(parent, bad=["bad-images-000000000200"] if prepare is _damaged else [])
            tally.check(not problem, "not the old or the new one", f"{call} {k}: {problem}")
    return tallies


def can_trace() -> bool:
    """Whether strace is there and may do its work."""
    return bool(shutil.which("strace")) and subprocess.run(["strace", "-o", os.devnull, "true"]).returncode == 0


def traced(action: Callable[[], int | None], log: Path, *options: str) -> int:
    """The exit code of a child that does `action` under strace, which counts calls from its beginning on."""
    log.unlink(missing_ok=True)
    begin = {signal.SIGUSR1}
    signal.pthread_sigmask(signal.SIG_BLOCK, begin)
    child = fork(lambda: signal.sigwait(begin) and action(), log.with_suffix(".out"))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, begin)
    strace = subprocess.Popen(
        ["strace", "-f", "-o", log, "-e", CALLS, *options, "-p", str(child)], stderr=subprocess.PIPE
    )
    assert strace.stderr is not None
    assert b"attached" in strace.stderr.readline()
    os.kill(child, signal.SIGUSR1)
    code = exit_code(os.waitpid(child, 0)[1])
    strace.communicate()
    return code


def _write(parent: Path, images: int) -> Path:
    return checkpoint.write(parent, images, TENSORS, {"images_seen": images}, "seed: 1\n")


def _fresh(parent: Path, prepare: Callable[[Path], None]) -> None:
    shutil.rmtree(parent, ignore_errors=True)
    prepare(parent)


def _one_old(parent: Path) -> None:
    _write(parent, 100)


def _damaged(parent: Path) -> None:
    for images in (100, 200, 300, 400):
        _write(parent, images)
    (parent / "images-000000000200" / "state.json").write_text("rot")
    (parent / "images-000000000300").rename(parent / ".tmp-images-000000000300")
    (parent / "images-000000000400").rename(parent / ".trash-images-000000000400")


def _save(parent: Path) -> None:
    writer = Writer(parent, keep=1, keep_every=0, warn=lambda text: None)
    for images in (200, 300):
        writer.save(images, TENSORS, {"images_seen": images}, "seed: 1\n")
    writer.wait()


def _find(parent: Path) -> None:
    checkpoint.find(parent, lambda text: None)


def _problem(parent: Path, bad: list[str]) -> str:
    """Empty where a start finds a checkpoint with its whole content, puts only `bad` aside, and leaves no stray."""
    try:
        found = checkpoint.find(parent, lambda text: None)
    except CheckpointError as error:
        return str(error)
    if found is None:
        return "a fresh start"
    read = checkpoint.read(found)
    equal = all(torch.equal(t, read.tensors[file][name]) for file, own in TENSORS.items() for name, t in own.items())
    if not equal or found.name != checkpoint.name_of(read.state["images_seen"]):
        return f"{found.name} has other content"
    left = sorted(path.name for path in parent.iterdir() if not path.name.startswith("images-"))
    return "" if left == bad else f"{left} instead of {bad}"


def _in_order(log: str) -> bool:
    """Of each checkpoint: every file is synced, then its folder; then it is renamed; then the parent is synced."""
    calls = re.findall(r"^\d+ +(write|fsync|rename)\w*\((?:\d+<([^>]*)>|\"([^\"]*)\", \"([^\"]*)\")", log, re.MULTILINE)
    unsynced: set[str] = set()
    published = 0
    for k, (call, path, source, target) in enumerate(calls):
        temporary = Path(source).name.startswith(".tmp-")
        if call == "write" and "/.tmp-" in path:
            unsynced |= {path, str(Path(path).parent)}
        elif call == "fsync":
            unsynced -= {path}
        elif temporary:
            published += 1
            if unsynced or calls[k + 1][:2] != ("fsync", str(Path(target).parent)):
                return False
    return published == 2
