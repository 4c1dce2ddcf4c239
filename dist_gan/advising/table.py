"""What was seen of a folder of images, as rows for people."""

import numpy as np

from dist_gan.data.examination import Examined
from dist_gan.formatting import plural

SHOWN = 5
"""Files named in one row."""


def rows(seen: Examined) -> list[tuple[str, str]]:
    """(what, how it is)"""
    found = [
        ("images", f"{seen.usable:,}" + (f" of {seen.count:,} files" if seen.usable < seen.count else "")),
        ("sizes", _sizes(seen)),
        ("colors", _colors(seen)),
        ("brightness", _brightness(seen)),
        ("copies", _copies(seen)),
        ("classes", _classes(seen)),
        ("left, right", f"asymmetry {seen.asymmetry:.2f} (0: none; digits 0.21, clothes and shoes 0.38)"),
    ]
    if seen.broken:
        files = [f"{name} ({reason})" for name, reason in list(seen.broken.items())[:SHOWN]]
        more = ["..."] if len(seen.broken) > SHOWN else []
        found.append(("cannot be read", f"{len(seen.broken):,}: {', '.join(files + more)}"))
    return found


def _sizes(seen: Examined) -> str:
    sizes, counts = np.unique(np.stack([seen.widths, seen.heights], 1), axis=0, return_counts=True)
    if len(sizes) == 1:
        return f"all {sizes[0][0]}x{sizes[0][1]} (width x height)"
    shorter, ratio = np.minimum(seen.widths, seen.heights), seen.widths / seen.heights
    most, often = sizes[counts.argmax()], counts.max()
    low, middle, high = (int(value) for value in np.percentile(shorter, (0, 50, 100)))
    return (
        f"{len(sizes):,} of them, most often {most[0]}x{most[1]} ({often:,}); shorter side {low:,} to {high:,}, half "
        f"from {middle:,} on; width : height {ratio.min():.2f} to {ratio.max():.2f}"
    )


def _colors(seen: Examined) -> str:
    gray, clear = int(seen.gray.sum()), int(seen.clear.sum())
    text = "all gray" if gray == seen.usable else f"{gray:,} gray, {seen.usable - gray:,} colored"
    return text + (f"; {clear:,} transparent somewhere" if clear else "")


def _brightness(seen: Examined) -> str:
    low, middle, high = np.percentile(seen.brightness, (0, 50, 100))
    return f"{low:.2f} to {high:.2f}, half from {middle:.2f} on (0 black, 1 white)"


def _copies(seen: Examined) -> str:
    if not seen.pairs:
        return "none"
    one, other = seen.pairs[0]
    return (
        f"{seen.copies:,} the same as an earlier one, {seen.alike:,} almost: {one} as {other}"
        f"{', ...' if seen.copies + seen.alike > 1 else ''}"
    )


def _classes(seen: Examined) -> str:
    if not seen.classes:
        return "none: some images are in no sub-folder"
    smallest, largest = min(seen.classes.values()), max(seen.classes.values())
    each = f"{smallest:,}" + (f" to {largest:,}" if largest > smallest else "")
    return f"{plural(len(seen.classes), 'sub-folder')} of {each} images: {', '.join(list(seen.classes)[:SHOWN])}" + (
        ", ..." if len(seen.classes) > SHOWN else ""
    )
