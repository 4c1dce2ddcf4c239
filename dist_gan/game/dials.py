"""The numbers that change from update to update, in one small tensor on the device."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


class Dials:
    """Learning rates, the average's weight, factors of penalties: filled before a turn, read inside it.

    A turn is a function of tensors. It must not contain a Python number that changes, so that the same function runs
    eagerly, compiled, or as a CUDA graph. `dials[name]` is a [] view, the same tensor throughout the run.
    """

    def __init__(self, names: Sequence[str], device: torch.device, dtype: torch.dtype) -> None:
        self._numbers = dict.fromkeys(names, 0.0)
        self._pinned = device.type == "cuda"
        self.values = torch.zeros(len(self._numbers), dtype=dtype, device=device)
        self._views = dict(zip(self._numbers, self.values.unbind(), strict=True))

    def __getitem__(self, name: str) -> Tensor:
        return self._views[name]

    def fill(self, values: Mapping[str, float]) -> None:
        """Set some of them, in one copy that does not wait for the device."""
        assert values.keys() <= self._numbers.keys()
        self._numbers |= values
        # A new host tensor each time: the last copy may not have been made yet, and still reads its own.
        host = torch.tensor(list(self._numbers.values()), dtype=self.values.dtype, pin_memory=self._pinned)
        self.values.copy_(host, non_blocking=True)
