"""How weights move: optimizers, schedules, averages."""
