"""The name of a number: everything that it depends on. Two numbers of different protocols never share a name.

    fid/efficientnet_lite0-57934424-bicubic224/10000-ema-vs-60000-train-1a2b3c4d
    inception_score/digits-0a1b2c3d-none/5000-ema
    kid,subsets=50/efficientnet_lite0-57934424-bicubic224/10000-ema-vs-10000-train-1a2b3c4d

The parts: what was computed, with the options that are not the default ones; features, the first 8 digits of the
SHA-256 of their weights, and the filter; how many fakes, of which weights of G; how many reals, of which split, of
which data (8 digits for its content and how images are made of it).
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

KEY = re.compile(
    r"(?P<value>[a-z][a-z0-9_]*)(?P<options>(?:,[a-z0-9_]+=[^,/]+)*)/(?P<features>.+)-(?P<sha256>[0-9a-f]{8})-(?P<resizing>[A-Za-z0-9._]+)"
    r"/(?P<fakes>\d+)-(?P<weights>[a-z0-9_]+)(?:-vs-(?P<reals>\d+)-(?P<split>[a-z0-9_]+)-(?P<data>[0-9a-f]{8}))?"
)


class Protocol(NamedTuple):
    """How a number was computed."""

    features: str
    sha256: str
    """The first 8 digits."""
    resizing: str
    fakes: int
    weights: str
    """`ema`: of the average of G; `ema_2`: of the second of several; `newest`: of G itself; `images`: a folder of
    images, no generator."""
    reals: int = 0
    """0: the metric needs none."""
    split: str = ""
    data: str = ""
    """8 digits for the data's content, and how images are made of it."""
    options: str = ""
    """Those of the metric that are not the default ones: `,k=4,size=10`."""

    def key(self, value: str) -> str:
        """The name of the number `value` in metrics.jsonl, W&B and everywhere else."""
        reals = f"-vs-{self.reals}-{self.split}-{self.data}" if self.reals else ""
        return f"{value}{self.options}/{self.features}-{self.sha256}-{self.resizing}/{self.fakes}-{self.weights}{reals}"

    def text(self) -> str:
        """The same for people."""
        of = {"ema": " of the average of G", "newest": " of G", "images": ""}
        fakes = f"{self.fakes:,} images" + of.get(self.weights, f" of the average {self.weights} of G")
        reals = f" against {self.reals:,} real ones ({self.split}, data {self.data})" if self.reals else ""
        scaled = "" if self.resizing == "none" else f", scaled by {self.resizing}"
        options = self.options.replace(",", ", ")
        return f"{fakes}{reals}; features {self.features} {self.sha256}{scaled}{options}"


def parsed(key: str) -> tuple[str, Protocol] | None:
    """(value's name, protocol) of a name that `Protocol.key` made; None for any other metric."""
    found = KEY.fullmatch(key)
    if found is None:
        return None
    parts = {name: text or "" for name, text in found.groupdict().items()}
    value = parts.pop("value")
    counts = {name: int(parts.pop(name) or 0) for name in ("fakes", "reals")}
    return value, Protocol(**parts, **counts)  # type: ignore[arg-type]  # the pattern names the fields


def rows_of(numbers: Mapping[str, float]) -> list[tuple[str, str, str]]:
    """(name, number, protocol) of each, for a table. A protocol that is that of the row above is not repeated."""
    rows: list[tuple[str, str, str]] = []
    above = ""
    for key, number in numbers.items():
        value, protocol = parsed(key) or (key, None)
        text = protocol.text() if protocol else ""
        rows.append((value, f"{number:.4g}", "" if text == above else text))
        above = text
    return rows
