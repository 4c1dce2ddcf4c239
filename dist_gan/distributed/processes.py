"""The only wrapper of Accelerate: device, ranks, wrapping, mixed precision, reductions, rank 0, signals."""

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from copy import copy
from datetime import timedelta
from types import FrameType
from typing import Any, Literal, NoReturn, TypeVar

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import TensorBoardTracker, WandBTracker
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs, broadcast_object_list, gather_object
from torch import Tensor, nn

from dist_gan.run.checkpoint import CheckpointError
from dist_gan.part import ConfigError
from dist_gan.distributed.pulse import Pulse
from dist_gan.distributed.traffic import claim

T = TypeVar("T")
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)
AGREEMENT = "agreement"
"""The purpose of what processes tell each other at the start and the end of a run."""
AGREE_SECONDS = 5.0
"""About so often several processes ask each other whether one was told to stop."""
REFUSED = ("DEEPSPEED", "FSDP", "MEGATRON_LM", "PARALLELISM_CONFIG")


def world() -> tuple[int, int]:
    """(rank, number of processes) as the launcher states them, without starting anything."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def check_launch(precision: str) -> list[str]:
    """What the launcher or the machine cannot do with this configuration; empty where all is well."""
    mistakes = [
        f"launch: ACCELERATE_USE_{kind} is set, and only DDP (or one process) can train two networks in one run. "
        "Launch with the files in launch/, or without that plugin"
        for kind in REFUSED
        if os.environ.get(f"ACCELERATE_USE_{kind}", "false").lower() == "true"
    ]
    if os.environ.get("ACCELERATE_DYNAMO_BACKEND", "no").lower() not in ("", "no"):
        mistakes.append("launch: Accelerate's dynamo plugin breaks gradient penalties. Launch with --dynamo_backend no")
    if precision == "fp16" and not has_gpu():
        mistakes.append("precision: fp16 needs a GPU, and this process has none. Use precision=fp32")
    return mistakes


def launch_plainly() -> None:
    """From now on this process is as if it had been launched without what `check_launch` refuses."""
    for kind in REFUSED:
        os.environ.pop(f"ACCELERATE_USE_{kind}", None)
    os.environ.pop("ACCELERATE_DYNAMO_BACKEND", None)


def has_gpu() -> bool:
    """Whether this process would train on a CUDA device."""
    return torch.cuda.is_available() and os.environ.get("ACCELERATE_USE_CPU", "false").lower() not in ("true", "1")


class PeerFailed(RuntimeError):
    """Another process died, hangs, or cannot be reached (exit code 6)."""

    def __init__(self, text: str, *, speaks: bool = True) -> None:
        """`speaks`: whether this process is the one that tells it."""
        super().__init__(text)
        self.speaks = speaks


def is_peer_failure(error: BaseException) -> bool:
    """Whether `error` only says that another process is gone: the cause is to be found there."""
    if isinstance(error, torch.distributed.DistError | PeerFailed):
        return True
    text = str(error)
    signs = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "gloo", "NCCL", "Socket Timeout")
    return isinstance(error, RuntimeError) and any(sign in text for sign in signs)


def deterministic() -> None:
    """Kernels that give the same bits each time, in this process from now on; an error where there is none."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # products on a GPU want it
    torch.use_deterministic_algorithms(True)


def leave(code: int) -> NoReturn:
    """End this process now, without the exit handlers of the interpreter and of libraries.

    With several processes these abort about one time in ten, after all is done (seen: "terminate called without an
    active exception", torch 2.14 with gloo), and a launcher takes that for a failure.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)


class Processes:
    """This process among all of a run. Every method that reduces or shares must be called by all of them alike."""

    def __init__(self, precision: str = "fp32", *, exact: bool = False, timeout_seconds: float = 600) -> None:
        """Join the other processes, if the launcher started any. `exact`: deterministic kernels, in one thread.

        Raises:
            PeerFailed: not all of them came within `timeout_seconds`, which is also how long a collective may take.
        """
        # In a process that had an Accelerator before (a second run in one process), its precision would stay.
        AcceleratorState._reset_state(reset_partial_state=False)
        _set_float32_precision(precision)
        try:
            self.accelerator = Accelerator(
                cpu=not has_gpu(),
                mixed_precision=precision if precision in ("bf16", "fp16") else "no",
                kwargs_handlers=[
                    DistributedDataParallelKwargs(gradient_as_bucket_view=True),
                    InitProcessGroupKwargs(timeout=timedelta(seconds=timeout_seconds)),
                ],
            )
        except torch.distributed.DistError as error:
            raise PeerFailed(
                _not_all_came(timeout_seconds, error), speaks=os.environ.get("LOCAL_RANK", "0") == "0"
            ) from error
        self.rank = self.accelerator.process_index
        self.count = self.accelerator.num_processes
        self.exact = exact
        self.device = self.accelerator.device
        self.dtype = torch.float64 if precision == "fp64" else torch.float32
        self.is_first = self.accelerator.is_main_process
        if exact:
            deterministic()
            torch.set_num_threads(1)  # how a CPU's products are cut into sums depends on it
        self.stop_signal = 0
        """The number of the signal that asked this process to stop; 0: none."""
        self.pulse = Pulse()
        self._updates_between = self._updates_left = 1
        self._asked = time.perf_counter()

    def wrap(self, network: nn.Module) -> nn.Module:
        """DDP around `network` where there are several processes; mixed precision goes into its forward in place.

        Its parameters must require gradients at this moment, else DDP never reduces them. No DDP where all is `exact`:
        it adds floating-point numbers.
        """
        with claim(AGREEMENT):
            wrapped: nn.Module = self.accelerator.prepare_model(network, evaluation_mode=self.exact or self.count == 1)
        if wrapped is not network:
            # Buffers are equal by construction. Not an argument: its name depends on torch's version.
            wrapped.broadcast_buffers = False  # type: ignore[assignment]
        return wrapped

    def unreduced(self, wrapped: nn.Module) -> AbstractContextManager[None]:
        """Forward and backward inside reduce nothing; gradients add up until one outside does."""
        return wrapped.no_sync() if self.count > 1 else nullcontext()  # type: ignore[operator]  # DDP's own

    def backward(self, loss: Tensor) -> None:
        """Backward, scaled where the precision is fp16."""
        self.accelerator.backward(loss)

    @property
    def scaler(self) -> Any:
        """torch's GradScaler in fp16, else None. There is one; each player unscales, steps and updates it in turn."""
        return self.accelerator.scaler

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, of a tensor of the same shape in each."""
        return self.accelerator.reduce(values, "sum") if self.count > 1 else values

    def max(self, values: Tensor) -> Tensor:
        """The largest of all processes, number by number."""
        if self.count > 1:
            torch.distributed.all_reduce(values, torch.distributed.ReduceOp.MAX)
        return values

    def share(self, value: T) -> T:
        """Rank 0's value, on every rank."""
        if self.count == 1:
            return value
        with claim(AGREEMENT):
            return broadcast_object_list([value])[0]

    def gather(self, value: T) -> list[T]:
        """Every rank's value, by rank, on every rank."""
        if self.count == 1:
            return [value]
        with claim(AGREEMENT):
            return list(gather_object([value]))

    def alone(self) -> "Processes":
        """This process as if there were no other: nothing of what it does is reduced."""
        alone = copy(self)
        alone.rank, alone.count, alone.is_first = 0, 1, True
        return alone

    def together(self, action: Callable[[], T]) -> T:
        """Run `action` on every rank; where it fails on any, every rank raises the first one's error (a
        ConfigError, CheckpointError or OSError), marked with `everywhere`.

        For what may fail on one rank only (a file that one machine lacks), so that none waits for the others.
        """
        result: T | None = None
        failure: Exception | None = None
        try:
            result = action()
        except (ConfigError, CheckpointError, OSError) as error:
            failure = error
        if self.count > 1:
            failure = next((f for f in self.gather(failure) if f is not None), None)
        if failure is not None:
            failure.everywhere = True  # type: ignore[attr-defined]  # rank 0 alone needs to tell it
            raise failure
        return result  # type: ignore[return-value]  # it is there when nothing failed

    def wait(self) -> None:
        """Until all are here."""
        with claim(AGREEMENT):
            self.accelerator.wait_for_everyone()

    def listen(self) -> None:
        """From now on SIGTERM, SIGUSR1, SIGHUP and the first Ctrl-C only ask to stop after an update, in good order."""
        for number in STOP_SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # as with nohup
                signal.signal(number, self._asked_to_stop)

    def stop_after_update(self) -> int:
        """The signal that asked any process to stop, or 0; equal on all. To be called by all, after each update.

        They ask each other about every `AGREE_SECONDS`, after the same update: how many updates come between is made of
        the time that the slowest took for the last ones, which they tell each other too.
        """
        if self.count == 1:
            return self.stop_signal
        self._updates_left -= 1
        if self._updates_left:
            return 0
        self.pulse.enter("the agreement whether to stop")
        local = [time.perf_counter() - self._asked, float(self.stop_signal)]
        with claim(AGREEMENT):
            seconds, stop = self.max(torch.tensor(local, dtype=torch.float64, device=self.device)).tolist()
        fitting = int(self._updates_between * AGREE_SECONDS / seconds)
        self._updates_between = self._updates_left = max(1, min(fitting, 2 * self._updates_between))
        self._asked = time.perf_counter()
        return int(stop)

    def _asked_to_stop(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.stop_signal == signal.SIGINT:
            raise KeyboardInterrupt
        self.stop_signal = number

    def tracker(self, kind: Literal["wandb", "tensorboard"], project: str, /, **options: Any) -> Any:
        """One of Accelerate's trackers, started. To be called by rank 0 alone."""
        tracker = WandBTracker(project, **options) if kind == "wandb" else TensorBoardTracker(project, **options)
        if hasattr(tracker, "start"):
            tracker.start()
        return tracker

    def unwise(self, precision: str) -> list[str]:
        """What works on this device, and is most likely not what was meant."""
        if self.device.type == "cpu" and precision == "bf16":
            return ["precision: bf16 on a CPU is many times slower than fp32 unless it has AMX; use precision=fp32"]
        if self.device.type == "cpu" and precision == "tf32":
            return ["precision: there is no TF32 on a CPU; this is fp32"]
        return []

    def describe(self) -> str:
        """The device, for people."""
        if self.device.type == "cuda":
            return f"{torch.cuda.get_device_name(self.device)} (torch {torch.__version__})"
        return f"CPU, {torch.get_num_threads()} threads a process (torch {torch.__version__})"

    def close(self) -> None:
        """Leave the other processes, in good order."""
        if self.count > 1:
            self.wait()
            self.accelerator.end_training()


def _not_all_came(seconds: float, error: Exception) -> str:
    rank, count = world()
    head = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    return (
        f"rank {rank} did not meet the other {count - 1} of {count} processes at {head} within {seconds:g} s. Was the "
        f"same command started on every node, and can they reach that address and port? "
        f"({str(error).strip().splitlines()[0]})"
    )


def _set_float32_precision(precision: str) -> None:
    """TF32 only where it is asked for: torch's own default uses it in convolutions."""
    mode = "tf32" if precision == "tf32" else "ieee"
    torch.backends.cuda.matmul.fp32_precision = mode
    torch.backends.cudnn.conv.fp32_precision = mode  # type: ignore[attr-defined]
