"""Folders of runs that never were, in a moment."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def made(folder: Path, lines: int = 3, grids: int = 0, **status: Any) -> Path:
    """A run's folder with this many lines of metrics and grids."""
    (folder / "samples").mkdir(parents=True)
    told = {"state": "finished", "images_seen": 64 * lines, "images": 64 * lines, "restarts": 0, "time": time.time()}
    (folder / "status.json").write_text(json.dumps({**told, **status}))
    (folder / "config.yaml").write_text("images: 640\nbatch_size: 64\nnetworks:\n  name: mlp\n")
    rows = [{"images": 64 * (i + 1), "D/loss": 1 / (i + 1), "G/loss": 0.5 + i} for i in range(lines)]
    write_lines(folder, *rows)
    for i in range(grids):
        picture(folder / f"samples/{i * 64:012d}.png", i)
    return folder


def write_lines(folder: Path, *rows: Mapping[str, Any]) -> None:
    with open(folder / "metrics.jsonl", "a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def picture(path: Path, seed: int, side: int = 24, enlarged: int = 1) -> None:
    """Noise that differs from seed to seed, of side x enlarged pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(pixels.repeat(enlarged, 0).repeat(enlarged, 1)).save(path)
