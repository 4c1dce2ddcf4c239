"""What the doctor looks at: each function tells one line of its table."""

from dist_gan.checkup.lines import Checkup, Line, Mark, Unwell

__all__ = ["Checkup", "Line", "Mark", "Unwell"]
