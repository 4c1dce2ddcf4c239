"""Names of averages, for what reads a run's files and needs nothing of what trains."""

NAMES = ("ema", "ema_2", "ema_3", "ema_4")
"""In the order in which the config lists them: of their files in a checkpoint, and everywhere else."""
