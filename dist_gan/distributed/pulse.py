"""Where a process is: what it says of itself, for a watchdog and its peers to see."""


class Pulse:
    """Where this process is. The training thread writes it and a watchdog, if there is one, reads it."""

    def __init__(self) -> None:
        self.armed = False
        """Whether there must be progress from now on: the start may take its time."""
        self.steps = 0
        """How many phases were entered; the same on all processes that are in the same place."""
        self.phase = "the start"
        self.images_seen = 0

    def enter(self, phase: str, images_seen: int | None = None) -> None:
        """A phase begins; `images_seen` where it has changed."""
        if images_seen is not None:
            self.images_seen = images_seen
        self.phase = phase
        self.steps += 1
