"""Where a process is in its work: what it publishes about itself, for its watchdog and the other processes."""


class Pulse:
    """Where this process is in its work. The training thread writes it, and a watchdog, if there is one, reads it."""

    def __init__(self) -> None:
        self.armed = False
        """Whether there must be progress from now on. The start may take long."""
        self.steps = 0
        """How many phases were entered; equal on all processes that are in the same phase."""
        self.phase = "the start"
        self.images_seen = 0

    def enter(self, phase: str, images_seen: int | None = None) -> None:
        """A phase begins; `images_seen` where it has changed."""
        if images_seen is not None:
            self.images_seen = images_seen
        self.phase = phase
        self.steps += 1
