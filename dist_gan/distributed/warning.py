"""A signal that comes before the run can answer it. Imported before torch, so it imports nothing slow.

SLURM's warning of a time limit (SIGUSR1) reaches every process of a step, also those that still start. It must not end
the start, so slurm/common.sh begins with the signal ignored. Ignored alone it would be lost, and the job would be
killed at its limit without a checkpoint.
"""

import signal

WARNING = {signal.SIGUSR1}


def keep_warning() -> bool:
    """Where SIGUSR1 is ignored, keep one that comes from now on: it waits in this process, and in those that it starts,
    until `Stopping.listening`. Returns whether it is kept. Called in the main thread, before others are started."""
    kept = signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN
    if kept:
        signal.pthread_sigmask(signal.SIG_BLOCK, WARNING)
    return kept
