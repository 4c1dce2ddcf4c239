"""Small whole runs for tests."""

import time
from pathlib import Path
from typing import Any

import torch

from dist_gan.run import checkpoint
from tests.support.commands import train

SMALL = [
    "data={name: generated, size: 8}",
    "networks={name: mlp, width: 4}",
    "track.every=640",
    "track.wandb=disabled",
    "sample={every: 1280, count: 9}",
    "save.every=1280",
]


SMALL_DCGAN = [*SMALL[2:], "data={name: generated, size: 16}", "networks={name: dcgan, width: 4}"]

SMALL_STYLEGAN2 = [
    *SMALL[2:],
    "data={name: generated, size: 16}",
    "networks={name: stylegan2, latent: 6, style: 6, mapping_layers: 2, channel_base: 64, channel_max: 8}",
]


def run(folder: Path, images: int, *more: str, small: list[str] = SMALL) -> int:
    return train.main([*small, f"run={folder}", f"images={images}", *more])


def newest(folder: Path) -> checkpoint.Checkpoint:
    return checkpoint.read(checkpoint.existing(folder / "checkpoints")[-1])


def assert_same(a: checkpoint.Checkpoint, b: checkpoint.Checkpoint) -> None:
    assert a.state["images_seen"] == b.state["images_seen"]
    for file, own in a.tensors.items():
        for name, tensor in own.items():
            assert torch.equal(tensor, b.tensors[file][name]), f"{file}: {name}"


def wait_for(condition: Any, seconds: float = 240) -> None:
    for _ in range(int(seconds * 20)):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("waited in vain")
