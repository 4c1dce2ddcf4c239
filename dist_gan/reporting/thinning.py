"""Lines with fewer points that look the same, and numbers in few bytes."""

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np

MOST = 2000
"""Points of one line."""
FEWEST = 200
ALL = 300_000
"""Points of all lines of a page, about; each takes 8 bytes, 11 as text."""


def points_each(lines: int) -> int:
    """How many points each line of a page with this many may have."""
    return max(FEWEST, min(MOST, ALL // max(1, lines)))


def thinned(x: Sequence[float], y: Sequence[float], most: int = MOST) -> tuple[list[float], list[float]]:
    """At most `most` (4 or more) of the points, without those whose y is not finite.

    Where there are more, the first and the last stay, and the points between are divided into stretches of equal
    counts, of which the lowest and the highest point stay: no peak is lost, and no value is made up.
    """
    across, up = np.asarray(x, np.float64), np.asarray(y, np.float64)
    drawn = np.isfinite(up)
    across, up = across[drawn], up[drawn]
    if len(up) > most:
        stretches = np.array_split(np.arange(1, len(up) - 1), (most - 2) // 2)
        kept = {0, len(up) - 1}
        for stretch in stretches:
            kept |= {int(stretch[up[stretch].argmin()]), int(stretch[up[stretch].argmax()])}
        index = sorted(kept)
        across, up = across[index], up[index]
    return across.tolist(), up.tolist()


def packed(values: Sequence[float]) -> dict[str, Any]:
    """A typed array as plotly reads it: 4 bytes a number where these are enough for it, else 8.

    float32 keeps seven digits, more than a chart shows. Whole numbers stay exact.
    """
    array = np.asarray(values, np.float64)
    largest = float(np.abs(array).max(initial=0))
    if (array == np.round(array)).all() and largest < 2**31:
        name = "i4"
    elif largest < 3e38 and not (array == np.round(array)).all():
        name = "f4"
    else:
        name = "f8"
    return {"dtype": name, "bdata": base64.b64encode(array.astype(f"<{name}").tobytes()).decode()}
