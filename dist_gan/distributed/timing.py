"""Every time limit of failure handling, from the shortest to the longest, with the reason for each.

Together they make one sentence true: *when a run fails, the process at fault is named, once, before anything ends the
process that names it.* `tests/distributed/test_timing.py` asserts the inequalities.
"""

TICK = 1.0
"""Between two heartbeats of a process. Short enough to name a dead process within seconds, and next to no traffic."""

LAST_WORDS = 2.0
"""For each of the two things that a hung process does before it ends (its stacks, the save under way): the disk may be
what hangs, so none of it is waited for without a limit."""

SILENT_TICKS = 3
"""This many ticks without a heartbeat are no sign of life: one may be lost, and one late."""

AGREE_SECONDS = 5.0
"""Processes ask each other about this often whether one was asked to stop: a signal is answered within it, and a
collective this rare costs nothing."""

CAUSE_SECONDS = 5.0
"""A process that only lost its connection waits this long for the one that failed first to write the cause."""

SLACK = 5.0
"""A collective may take this much longer than a run may make no progress, so that the watchdog, which can name the
process at fault, always acts before torch's own timeout, which cannot."""

NAMING_SECONDS = TICK * (SILENT_TICKS + 2.5)
"""A lost connection is explained within this: until a dead process has been silent for `SILENT_TICKS`, one tick to hear
it, one more for a tick that had just begun, and half a tick to spare."""

LAUNCHER_SECONDS = NAMING_SECONDS + 1.0
"""The launcher lets the other ranks live this long after one has failed: they need `NAMING_SECONDS` to name it.
(torch's own 30 seconds would be spent on every rank that is stopped.)"""

SERVICE_SECONDS = 10.0
"""W&B may take this long to start, and to finish. Training waits for neither."""

LIFE_SECONDS = 10.0
"""Between two touches of the lock file, by which `dist_gan.status` sees that a run lives."""

RANK_0_SECONDS = 15.0
"""Where all ranks fail alike, the others stay this long, so that no launcher ends rank 0 before it has reported."""

VANISHED_SECONDS = 60.0
"""A run that has given no sign of life for this long is called vanished: several touches of the lock file missed, on a
network disk that shows them late."""

STORE_SECONDS = 60.0
"""The launcher's store may be silent this much longer than a run may stand still: its own complaint comes last."""


def patience_with_data(timeout: float) -> float:
    """How long a file or share that is away is tried again, in a run that may stand still for `timeout` seconds: so
    much less that the file is named before the watchdog ends the run."""
    return 0.8 * timeout - AGREE_SECONDS if timeout > 10 * AGREE_SECONDS else 0.5 * timeout
