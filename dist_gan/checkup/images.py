"""The line about the images of a folder: whether size, channels and augmentation suit them."""

import numpy as np

from dist_gan.checkup.lines import Line, Mark
from dist_gan.config.schema import Config
from dist_gan.data.examination import Examined, examine
from dist_gan.data.files import expanded
from dist_gan.data.folder import Folder
from dist_gan.objective.augment import NoAugment

LOOKED_AT = 512
"""Images, evenly spaced, so that it takes seconds."""
ENLARGED = 1.25
"""Factor from which on enlarging counts."""
MANY = 0.1
"""Part of the images that is many."""
FEW = 10_000
"""Images below which D learns them by heart within most runs, where nothing is done about it."""


def images(config: Config, data: Folder) -> Line:
    """What some of the images are like, compared with the config."""
    seen = examine(expanded(data.path), data.white, most=LOOKED_AT)
    shorter = np.minimum(seen.heights, seen.widths)
    low, middle, high = (int(value) for value in np.percentile(shorter, (0, 50, 100)))
    found = f"{seen.looked_at:,} of {seen.count:,} looked at: " if seen.looked_at < seen.count else ""
    found += f"shorter side {low} to {high}, half from {middle} on" if high > low else f"shorter side {low}"
    gray = int(seen.gray.sum())
    found += "; all gray" if gray == seen.usable else f"; {gray:,} gray" if gray else ""
    found += f"; copies among them: {seen.copies:,}" if seen.copies else ""
    found += f"; {seen.alike:,} almost the same as others" if seen.alike else ""
    advice = [*_of_shape(data, seen), *_of_count(config, seen)]
    if not advice:
        return Line(found)
    return Line(found, Mark.ADVICE, "\n".join([*advice, f"`python -m dist_gan.advise {data.path}` looks at them all"]))


def _of_shape(data: Folder, seen: Examined) -> list[str]:
    found = []
    _, height, width = data.shape
    enlargement = np.maximum(height / seen.heights, width / seen.widths)
    if data.fit == "pad":
        enlargement = np.minimum(height / seen.heights, width / seen.widths)
    share = float((enlargement > ENLARGED).mean())
    if share > MANY:
        found.append(f"data.size: {share:.0%} of the images are enlarged to {data.size}; a smaller size learns as much")
    if data.channels != 1 and seen.gray.all():
        found.append("data.channels: all images are gray, so 1 learns as much, with less work")
    return found


def _of_count(config: Config, seen: Examined) -> list[str]:
    found = []
    if seen.count < FEW and isinstance(config.augment, NoAugment):
        found.append(
            f"augment: {seen.count:,} images are few, and D would learn them by heart. augment.name=diffaugment helps"
        )
    if seen.copies > MANY * seen.usable:
        found.append(f"{seen.copies:,} copies among {seen.usable:,} images are learnt more often: remove them")
    return found
