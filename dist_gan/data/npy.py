"""A `.npy` file of images, as `numpy.save` writes it."""

import hashlib
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from dist_gan.data.durable import BLOCK, block_hashes, read_json, stamp, write_json
from dist_gan.data.fetch import data_root
from dist_gan.data.files import expanded, shown
from dist_gan.data.items import class_names_of, class_numbers
from dist_gan.data.mapped import MappedSource, check_shape, mapped_array, mapped_images, opened
from dist_gan.data.source import READING, Dataset, Reading, fingerprint, throttled
from dist_gan.errors import ConfigError
from dist_gan.part import free
from dist_gan.shapes import ImageShape


class Npy(MappedSource):
    """Images uint8 [M, H, W], [M, H, W, C] or [M, C, H, W] in one `.npy` file; C is 1, 3 or 4. They are used as they
    are.

    The fingerprint is of the file's content (SHA-256). It is computed once, and kept with the file's size and time in
    DIST_GAN_DATA, else in ~/.cache/dist_gan.
    """

    name: Literal["npy"] = "npy"
    path: str = free(...)
    """The file. It may move between starts."""
    labels: bool = False
    """Whether each image has a class: its number from 0 on, in `labels_path`."""
    labels_path: str = free("")
    """A `.npy` file of M integers; empty: `NAME-labels.npy` beside `NAME.npy`."""

    def open(self, device: torch.device, reading: Reading = READING) -> Dataset:
        path = expanded(self.path)
        images = mapped_images(path)
        check_shape(ImageShape(*images.shape[1:]), self.shape, path, "")
        parts = [sha256_of(path, reading)]
        labels = None
        if self.labels:
            beside = expanded(self.labels_path) if self.labels_path else path.with_name(f"{path.stem}-labels.npy")
            labels = _labels(beside, len(images))
            parts.append(sha256_of(beside, reading))
        classes = class_names_of(None, labels)
        return opened(images, labels, device, self.resident_megabytes, fingerprint("npy", *parts), classes)


def _labels(path: Path, count: int) -> Tensor:
    """int64 [count]."""
    try:
        return class_numbers(mapped_array(path, "data.labels_path"), count)
    except ConfigError as error:
        raise ConfigError(f"data.labels_path: {shown(path)}: {str(error).removeprefix('data: ')}") from None


def sha256_of(path: Path, reading: Reading) -> str:
    """Of the SHA-256 of a file's blocks; remembered, as long as its size and time stay the same.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        facts = stamp(path)
        kept = data_root() / "hashes" / f"{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:32]}.json"
        known = read_json(kept)
        if isinstance(known, dict) and known.get("stamp") == facts and isinstance(known.get("sha256"), str):
            return str(known["sha256"])
        digest, report = hashlib.sha256(), throttled(reading.progress)
        for done, (_, block) in enumerate(block_hashes(path), start=1):
            digest.update(block.encode())
            report("fingerprinting blocks", done, -(-facts[0] // BLOCK))
    except OSError as error:
        raise ConfigError(f"data: {shown(path)} cannot be read ({error.strerror or error})") from None
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_json(kept, {"path": shown(path), "stamp": facts, "sha256": digest.hexdigest()})
    except OSError:
        pass  # the next start computes it again
    return digest.hexdigest()
