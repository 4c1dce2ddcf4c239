"""Signals that ask a run to stop, and how all processes agree on it after the same update."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import torch

from dist_gan.distributed.processes import AGREEMENT, Processes
from dist_gan.distributed.timing import AGREE_SECONDS
from dist_gan.distributed.traffic import purpose
from dist_gan.distributed.warning import WARNING

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)


class Stopping:
    """Whether this run was asked to stop. Every process has one, through which they agree."""

    def __init__(self, processes: Processes, notice: Callable[[int], None] | None = None) -> None:
        """`notice` is called once, with the number of the first signal, from the signal's handler."""
        self.processes = processes
        self.signal = 0
        """The number of the signal that asked this process to stop; 0: none."""
        self.agreed = 0
        """The signal on which all processes have agreed to stop; equal on all. 0: none yet."""
        self._protected = False
        self._again = False
        self._notice = notice
        self._process = os.getpid()
        self._updates_between = self._updates_left = 1
        self._asked = time.perf_counter()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Inside, SIGTERM, SIGUSR1, SIGHUP and the first Ctrl-C only ask to stop after an update; a second Ctrl-C ends
        at once. One that `keep_warning` kept is answered now. Afterwards signals do what they did before. Outside the
        main thread nothing is changed: Python does not allow it there."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
        for number, handler in before.items():
            if handler is not None and (number != signal.SIGHUP or handler != signal.SIG_IGN):  # ignored: as with nohup
                signal.signal(number, self._ask)
        kept = signal.pthread_sigmask(signal.SIG_UNBLOCK, WARNING) & WARNING
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, kept)
            for number, handler in before.items():
                if handler is not None:  # one that Python did not install cannot be put back, and was left in place
                    signal.signal(number, handler)

    @contextmanager
    def protected(self) -> Iterator[None]:
        """Inside, neither a second Ctrl-C nor the end of a process that reads images (of which torch makes an error in
        the main thread, wherever that is) interrupts, so that what is being saved becomes valid."""
        before, self._protected = self._protected, True
        in_main = threading.current_thread() is threading.main_thread()
        child = signal.signal(signal.SIGCHLD, signal.SIG_DFL) if in_main else None
        try:
            yield
        finally:
            self._protected = before
            if in_main:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL if child is None else child)
        if self._again and not before:
            raise KeyboardInterrupt

    def after_update(self) -> int:
        """The signal that asked any process to stop, or 0; equal on all. Called by all, after each update.

        They ask each other about every `AGREE_SECONDS`, after the same update: how many updates come between follows
        from the time that the slowest took for the last ones, which is reduced too.
        """
        if self.processes.count == 1:
            self.agreed = self.signal
            return self.agreed
        self._updates_left -= 1
        if self._updates_left:
            return 0
        self.processes.pulse.enter("the agreement whether to stop")
        local = [time.perf_counter() - self._asked, float(self.signal)]
        with purpose(AGREEMENT):
            both = torch.tensor(local, dtype=torch.float64, device=self.processes.device)
            seconds, stop = self.processes.max(both).tolist()
        fitting = int(self._updates_between * AGREE_SECONDS / seconds)
        self._updates_between = self._updates_left = max(1, min(fitting, 2 * self._updates_between))
        self._asked = time.perf_counter()
        self.agreed = int(stop)
        return self.agreed

    def ask_now(self) -> int:
        """As `after_update`, at once. For long work between two updates, called by all after the same parts of it."""
        self.agreed = self.signal
        if self.processes.count > 1:
            with purpose(AGREEMENT):
                own = torch.tensor([self.signal], device=self.processes.device)
                self.agreed = int(self.processes.max(own).item())
        return self.agreed

    def _ask(self, number: int, frame: FrameType | None) -> None:
        first, self.signal = not self.signal, self.signal or number
        if os.getpid() != self._process and first:
            return  # a process that reads images inherits this, and is not the one to speak
        if first and self._notice is not None:
            self._notice(number)
        if not first and number == signal.SIGINT:
            if not self._protected:
                raise KeyboardInterrupt
            self._again = True
