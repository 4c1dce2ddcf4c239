"""Every time limit of failure handling, from the shortest to the longest, with the reason for each.

Together they make one sentence true: *when a run fails, the process at fault is named, once, before anything ends the
process that names it.* `tests/distributed/test_timing.py` asserts the inequalities.
"""

TICK = 1.0
"""Between two heartbeats of a process. Short enough to name a dead process within seconds, and very little traffic."""

STATUS_SECONDS = 1.0
"""A process waits this long for another that writes status.json: one that is stopped in the middle of it must not stop
others from naming it."""

LAST_WORDS = 2.0
"""For each of the two things that a hung process does before it ends (its stacks, the save under way): the disk may be
what hangs, so neither is waited for without a limit."""

SILENT_TICKS = 3
"""A process counts as silent after this many ticks without a heartbeat: one may be lost, and one late."""

AGREE_SECONDS = 5.0
"""Processes ask each other about this often whether one was asked to stop: a signal is answered within it, and a
collective this rare costs nothing."""

CAUSE_SECONDS = 5.0
"""A process that only lost its connection waits this long for the one that failed first to write the cause."""

SLACK = 5.0
"""A collective may take this much longer than a run may go without progress. So the watchdog, which can name the
process at fault, always acts before torch's own timeout, which cannot."""

NAMING_SECONDS = TICK * (SILENT_TICKS + 2.5)
"""A lost connection is explained within this time: until a dead process has been silent for `SILENT_TICKS`, one tick to
notice it, one more for a tick that had just started, and half a tick to spare."""

LAUNCHER_SECONDS = NAMING_SECONDS + 1.0
"""The launcher lets the other ranks live this long after one has failed: they need `NAMING_SECONDS` to name it.
(torch's own 30 seconds would be spent on every rank that is stopped.)"""

SERVICE_SECONDS = 10.0
"""W&B may take this long to start, and to finish. Training waits for neither."""

LIFE_SECONDS = 10.0
"""Between two updates of the lock file's time, from which `dist_gan.status` sees that a run is alive."""

RANK_0_SECONDS = 15.0
"""Where all ranks fail alike, the others stay this long, so that no launcher ends rank 0 before it has reported."""

VANISHED_SECONDS = 60.0
"""A run that has been silent for this long is called vanished: several updates of the lock file's time were missed, on
a network disk that shows them late."""

STORE_SECONDS = 60.0
"""The launcher's store may be silent this much longer than a run may go without progress: its own error comes last."""


def patience_with_data(timeout: float) -> float:
    """For how long a file or share that cannot be reached is tried again, in a run that may go without progress for
    `timeout` seconds: less than that, so that the file is named before the watchdog ends the run."""
    return 0.8 * timeout - AGREE_SECONDS if timeout > 10 * AGREE_SECONDS else 0.5 * timeout
