"""The machine that a config is meant for."""

from dataclasses import dataclass

import torch

from dist_gan.errors import ConfigError
from dist_gan.formatting import size

GB = 10**9


@dataclass(frozen=True)
class Machine:
    """What decides how large a model can be."""

    memory: float
    """GB of one GPU; 0: there is none."""
    has_bf16: bool
    """Whether it computes in bfloat16."""
    what: str
    """For people."""


NO_GPU = Machine(0, False, "no GPU")


def machine(gpu: str) -> Machine:
    """The machine that `gpu` means: auto, what is found here; no; or a number, a newer GPU with this many GB.

    Raises:
        ConfigError: it is none of these.
    """
    if gpu == "no":
        return NO_GPU
    if gpu == "auto":
        if not torch.cuda.is_available():
            return NO_GPU
        found = torch.cuda.get_device_properties(0)
        name = f"{found.name} with {size(found.total_memory)}"
        return Machine(found.total_memory / GB, torch.cuda.is_bf16_supported(including_emulation=False), name)
    if gpu.isascii() and gpu.isdecimal() and 1 <= int(gpu) <= 1000:
        return Machine(float(gpu), True, f"a GPU with {int(gpu)} GB (of 2020 or newer)")
    raise ConfigError(f"gpu: expected auto, no, or the GB of one GPU, such as gpu=24, got {gpu!r}")
