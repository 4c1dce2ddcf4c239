"""Which processes are alive, and how far they are. A run without progress is ended, and the process at fault is named.

The training thread only states where it is (`Pulse.enter`). Three more threads run beside it, and none waits for
another: one watches this process; one exchanges heartbeats with the other processes through the launcher's store; and
on rank 0 one updates the time of a file, from which people see that the run is alive. Time is counted in ticks of the
watching thread, so that a process that was suspended and goes on has not missed any.
"""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import psutil
from torch._C._distributed_c10d import Store, TCPStore

from dist_gan.distributed.launch import is_peer_failure
from dist_gan.distributed.processes import Processes
from dist_gan.distributed.timing import LAST_WORDS, LIFE_SECONDS, NAMING_SECONDS, SILENT_TICKS, STORE_SECONDS, TICK
from dist_gan.errors import PeerFailed

LAUNCHERS = {"accelerate", "accelerate-launch", "accelerate.commands.launch"}
"""What is in the command line of a launcher that has started a single process."""
_parent = os.getppid()
"""The parent when this process started. Another parent later means that the launcher died."""


def _forked() -> None:
    global _parent  # noqa: PLW0603  # of the process, as its pid is
    _parent = os.getppid()


os.register_at_fork(after_in_child=_forked)


class Beat(NamedTuple):
    """What a process reports about itself."""

    tick: int
    steps: int
    images_seen: int
    phase: str
    host: str
    pid: int

    def __str__(self) -> str:
        return f"after {self.images_seen:,} images, in {self.phase}"


class Watchdog:
    """Ends this process when its training has made no progress for too long, whichever process is at fault."""

    def __init__(
        self,
        processes: Processes,
        seconds: float,
        hung: Callable[[str, bool], None],
        sign: Path | None = None,
    ) -> None:
        """Watches inside `watching`, and for progress as soon as `processes.pulse` is armed.

        Args:
            processes: this process among the others.
            seconds: how long a run may go without progress.
            hung: called once, in a thread of its own, with the reason and whether this process is the one that
                should report it. It must end the process.
            sign: rank 0's file, whose time is updated while the process is alive.
        """
        self.processes = processes
        self.seconds = seconds
        self.hung = hung
        self.sign = sign
        self.tick = 0
        others = [rank for rank in range(processes.count) if rank != processes.rank]
        self._heard: dict[int, tuple[int, Beat | None]] = dict.fromkeys(others, (0, None))
        """Rank -> this process's tick when that rank's last new heartbeat came, and that heartbeat."""
        self._contact = 0
        self._over = threading.Event()
        self._parent = _parent if _launched(processes.count) else None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """While inside. An error that only says that a peer is gone becomes a PeerFailed that names it."""
        loops = [(TICK, self._watch)]
        if self.processes.count > 1:
            loops.append((TICK, self._exchange))
        if self.sign is not None:
            loops.append((LIFE_SECONDS, self._give_sign))
        threads = [threading.Thread(target=self._repeat, args=loop, name="watchdog", daemon=True) for loop in loops]
        for thread in threads:
            thread.start()
        try:
            yield
        except Exception as error:
            if not is_peer_failure(error):
                raise
            raise self._named(error) from error
        finally:
            self._over.set()
        # One that is still inside torch when the interpreter ends would abort it ("terminate called without ...").
        for thread in threads:
            thread.join(LAST_WORDS)

    def blame(self) -> str:
        """Which rank keeps the others waiting, and where, as far as this one knows."""
        me = self._own()
        if self.processes.count == 1:
            return f"this process (host {me.host}, pid {me.pid}) is stuck {me}"
        if self._cut_off():
            head = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
            return (
                f"rank {self.processes.rank} (host {me.host}, pid {me.pid}) cannot reach the head node ({head}) and "
                f"is stuck {me}"
            )
        if silent := self.silent():
            return "; ".join(f"{self._name(rank)} does not respond, {_last(beat)}" for rank, beat in silent)
        beats = {rank: beat for rank, (_, beat) in self._heard.items() if beat} | {self.processes.rank: me}
        least, most = (choose(beat.steps for beat in beats.values()) for choose in (min, max))
        if least == most:
            return f"all ranks are stuck {me}: the network between them may be at fault"
        behind = [f"{self._name(rank)} is stuck {beat}" for rank, beat in beats.items() if beat.steps == least]
        return "; ".join(behind) + ", and the others wait for it"

    def silent(self) -> list[tuple[int, Beat | None]]:
        """The ranks that send no heartbeats any more, with their last one."""
        return [(rank, beat) for rank, (heard, beat) in sorted(self._heard.items()) if self.tick - heard > SILENT_TICKS]

    def _cut_off(self) -> bool:
        """Whether the others cannot be reached, so that nothing is known of them."""
        return self.tick - self._contact > SILENT_TICKS

    def _named(self, error: Exception) -> PeerFailed:
        """The error that names who is missing, as soon as that is known."""
        deadline = time.monotonic() + NAMING_SECONDS
        while not (silent := self.silent()) and time.monotonic() < deadline:
            time.sleep(TICK / 10)
        text = "; ".join(f"{self._name(rank)} died, {_last(beat)}" for rank, beat in silent)
        if self._cut_off() or not text:
            text = f"lost another process {self._own()} ({str(error).strip().splitlines()[0]})"
        return PeerFailed(text, reports=self._reports())

    def _reports(self) -> bool:
        """One process reports what all of them see: the first that is alive, or the first of each host where it cannot
        see the others."""
        if self._cut_off():
            return os.environ.get("LOCAL_RANK", "0") == "0"
        dead = {rank for rank, _ in self.silent()}
        return all(rank in dead for rank in range(self.processes.rank))

    def _own(self) -> Beat:
        pulse = self.processes.pulse
        return Beat(self.tick, pulse.steps, pulse.images_seen, pulse.phase, socket.gethostname(), os.getpid())

    def _name(self, rank: int) -> str:
        beat = self._heard[rank][1] if rank in self._heard else self._own()
        return f"rank {rank}" + (f" (host {beat.host}, pid {beat.pid})" if beat else "")

    def _repeat(self, every: float, action: Callable[[], None]) -> None:
        while not self._over.is_set():
            action()
            self._over.wait(every)

    _store: Store | None = None
    _still = 0
    _steps = -1

    def _watch(self) -> None:
        self.tick += 1
        if self._parent is not None and os.getppid() != self._parent:
            self._parent = None
            signal.raise_signal(signal.SIGTERM)  # a clean stop: the ranks reach each other without the launcher
        pulse = self.processes.pulse
        self._still = self._still + 1 if pulse.armed and pulse.steps == self._steps else 0
        self._steps = pulse.steps
        if self._still * TICK >= self.seconds:
            self._over.set()
            self.hung(f"no progress for {self.seconds:g} s: {self.blame()}", self._reports())

    def _exchange(self) -> None:
        """Send this process's heartbeat to all others, and receive theirs."""
        try:
            if self._store is None:
                self._store = TCPStore(
                    os.environ["MASTER_ADDR"],
                    int(os.environ["MASTER_PORT"]),
                    is_master=False,
                    wait_for_workers=False,
                    # The store has an error of its own, which should not come first.
                    timeout=timedelta(seconds=self.seconds + STORE_SECONDS),
                )
            self._store.set(f"beat/{self.processes.rank}", "\n".join(map(str, self._own())))
            # Asking for one that is not there would wait for it.
            ranks = [rank for rank, (_, beat) in self._heard.items() if beat or self._store.check([f"beat/{rank}"])]
            answers = self._store.multi_get([f"beat/{rank}" for rank in ranks]) if ranks else []
        except RuntimeError:  # the store is gone, or cannot be reached for the moment
            self._store = None
            return
        self._contact = self.tick
        for rank, answer in zip(ranks, answers, strict=True):
            tick, steps, images_seen, phase, host, pid = answer.decode().split("\n")
            beat = Beat(int(tick), int(steps), int(images_seen), phase, host, int(pid))
            before = self._heard[rank][1]
            if before is None or before.tick != beat.tick:
                self._heard[rank] = self.tick, beat

    def _give_sign(self) -> None:
        try:
            assert self.sign is not None
            os.utime(self.sign)
        except OSError:  # the next one may succeed
            return


def _last(beat: Beat | None) -> str:
    return f"last seen {beat}" if beat else "never seen since the start"


def _launched(count: int) -> bool:
    """Whether this process's parent is a launcher, without which it should not go on, and not a shell, for example."""
    try:
        return count > 1 or bool(LAUNCHERS & {Path(part).name for part in psutil.Process(_parent).cmdline()})
    except psutil.Error:
        return False
