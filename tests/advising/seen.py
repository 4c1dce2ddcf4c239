"""What would be seen in folders that nobody makes."""

from typing import Any

import numpy as np

from dist_gan.data.examination import Examined


def seen(count: int = 20_000, width: int = 300, height: int = 300, **changes: Any) -> Examined:
    """Colored square images of one size, no two alike. `clear` and `gray` may be how many are."""
    for name in ("gray", "clear"):
        if isinstance(changes.get(name), int):
            changes[name] = np.arange(count) < changes[name]
    values = {
        "root": "photos",
        "count": count + len(changes.get("broken", {})),
        "looked_at": count,
        "broken": {},
        "heights": np.full(count, height),
        "widths": np.full(count, width),
        "gray": np.zeros(count, bool),
        "clear": np.zeros(count, bool),
        "brightness": np.full(count, 0.5),
        "copies": 0,
        "alike": 0,
        "pairs": (),
        "classes": {},
        "asymmetry": 0.02,
    }
    return Examined(**{**values, **changes})


def shapes(*kinds: tuple[int, int, int]) -> dict[str, Any]:
    """For `seen`: how many images have which width and height."""
    return {
        "count": sum(count for count, _, _ in kinds),
        "widths": np.concatenate([np.full(count, width) for count, width, _ in kinds]),
        "heights": np.concatenate([np.full(count, height) for count, _, height in kinds]),
    }
