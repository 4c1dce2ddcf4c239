"""What a launcher states about this process before anything starts, and how the process ends."""

import os
import sys
from contextlib import suppress
from typing import NoReturn

import torch

from dist_gan.errors import PeerFailed

REFUSED = ("DEEPSPEED", "FSDP", "MEGATRON_LM", "PARALLELISM_CONFIG")
"""Accelerate's plugins that cannot train two networks in one run."""
CHANGING = {
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": ("1", "divide every gradient by that number"),
    "ACCELERATE_DYNAMO_BACKEND": ("no", "break gradient penalties"),
    "ACCELERATE_FP8_BACKEND": ("no", "replace layers of the networks"),
    "ACCELERATE_TORCH_DEVICE": (None, "give all processes that one device"),
}
"""Environment variables through which Accelerate would change a run -> the harmless value, and what others would do."""
YES = ("1", "true", "t", "yes", "y", "on")
"""What Accelerate reads as yes, in upper or lower case."""


def world() -> tuple[int, int]:
    """(rank, number of processes) as the launcher states them, without starting anything."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def check_launch(precision: str, speed: str = "auto") -> list[str]:
    """What the launcher or the machine cannot do with this configuration; empty where there is nothing."""
    mistakes = [
        f"launch: ACCELERATE_USE_{kind} is set, and only DDP (or one process) can train two networks in one run. "
        "Launch with the files in launch/, or without that plugin"
        for kind in REFUSED
        if os.environ.get(f"ACCELERATE_USE_{kind}", "").lower() in YES
    ]
    mistakes += [
        f"launch: {name}={value} would {why}. Unset it, or launch with the files in launch/"
        for name, (harmless, why) in CHANGING.items()
        if (value := os.environ.get(name)) is not None and value.strip().lower() != harmless
    ]
    if precision == "fp16" and not has_gpu():
        mistakes.append("precision: fp16 needs a GPU, and this process has none. Use precision=fp32")
    if speed == "graph" and not has_gpu():
        mistakes.append("speed: graph needs a GPU, and this process has none. Use speed=auto")
    return mistakes


def launch_plainly() -> None:
    """From now on, act as if this process had been launched without what `check_launch` refuses."""
    for kind in REFUSED:
        os.environ.pop(f"ACCELERATE_USE_{kind}", None)
    for name in CHANGING:
        os.environ.pop(name, None)


def has_gpu() -> bool:
    """Whether this process would train on a CUDA device."""
    return torch.cuda.is_available() and os.environ.get("ACCELERATE_USE_CPU", "").lower() not in YES


def is_peer_failure(error: BaseException) -> bool:
    """Whether `error` only means that another process is gone, which has the cause."""
    if isinstance(error, torch.distributed.DistError | PeerFailed):
        return True
    text = str(error)
    signs = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "gloo", "NCCL", "Socket Timeout")
    return isinstance(error, RuntimeError) and any(sign in text for sign in signs)


def leave(code: int) -> NoReturn:
    """End this process now, without the exit handlers of the interpreter and of libraries.

    With several processes these abort about one time in ten, after all is done, and on a busy machine with one process
    too (seen: "terminate called without an active exception", torch 2.14), and a launcher takes that for a failure.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)
