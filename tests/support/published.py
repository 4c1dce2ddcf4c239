"""What the authors' own code gave, as files of numbers, and how ours is held against it.

A file `tests/published/NAME.safetensors` has the outputs of a run of the authors' code on inputs that come from our own
Philox. Its metadata say which repository, which commit, and which command.
"""

import math
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from dist_gan.randomness import Purpose, draw, normal
from tests.support.commands import ROOT

FOLDER = ROOT / "tests" / "published"
DIRECTIONS = 3


class Published:
    """The numbers of one file."""

    def __init__(self, name: str) -> None:
        with safe_open(FOLDER / f"{name}.safetensors", "pt") as file:
            self.metadata: dict[str, str] = file.metadata()
            self.numbers: dict[str, Tensor] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        assert self.metadata.keys() >= {"repository", "commit", "command", "torch"}

    def difference(self, name: str, ours: Tensor) -> float:
        """The largest difference, relative to the largest magnitude of theirs."""
        theirs = self.numbers[name].double()
        assert theirs.shape == ours.shape, f"{name}: {tuple(ours.shape)} is not {tuple(theirs.shape)}"
        scale = theirs.abs().max().clamp(min=1e-300)
        return ((ours.detach().double() - theirs).abs().max() / scale).item()

    def check(self, name: str, ours: Tensor, tolerance: float = 1e-9) -> None:
        """Ours is theirs, to `tolerance` of the largest magnitude."""
        found = self.difference(name, ours)
        assert found <= tolerance, f"{name} differs by {found:.1e} of its largest magnitude"

    def check_all(self, prefix: str, ours: dict[str, Tensor], tolerance: float = 1e-9) -> None:
        """Everything whose name begins with `prefix/`: the same names, and `fingerprint` of each of ours as theirs."""
        theirs = {key.removeprefix(f"{prefix}/") for key in self.numbers if key.startswith(f"{prefix}/")}
        assert theirs == ours.keys(), f"{prefix}: {sorted(theirs ^ ours.keys())}"
        for name, tensor in ours.items():
            self.check(f"{prefix}/{name}", fingerprint(tensor), tolerance)


def numbers(*shape: int, seed: int, **kind: Any) -> Tensor:
    """Standard normal numbers of this shape from Philox, float64: the inputs of both codes."""
    rows, count = shape[0], math.prod(shape[1:])
    bits = draw(seed, {Purpose.SAMPLE: count}, range(rows))[Purpose.SAMPLE]
    return normal(bits, torch.float64).view(shape).to(**kind)


def fingerprint(tensor: Tensor) -> Tensor:
    """A tensor of any size -> float64 [4]: its norm, and its products with fixed directions of the same length.

    Any change of any number changes them; they take the place of a tensor that is too large to keep.
    """
    flat = tensor.detach().double().flatten()
    directions = numbers(DIRECTIONS, len(flat), seed=1) / max(1, len(flat)) ** 0.5
    return torch.cat([flat.norm()[None], directions @ flat])
