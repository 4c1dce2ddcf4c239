"""What the doctor examines: each function returns one line of its table."""

from dist_gan.checkup.lines import Checkup, Line, Mark, Problem

__all__ = ["Checkup", "Line", "Mark", "Problem"]
