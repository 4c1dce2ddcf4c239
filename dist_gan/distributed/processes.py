"""The only code around Accelerate: device, ranks, wrapping, mixed precision, reductions, rank 0."""

import atexit
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from datetime import timedelta
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs, broadcast_object_list, gather_object
from torch import Tensor, nn

from dist_gan.distributed.launch import has_gpu, world
from dist_gan.distributed.numerics import deterministic, set_float32_precision
from dist_gan.distributed.pulse import Pulse
from dist_gan.distributed.traffic import purpose
from dist_gan.errors import InputOutputError, PeerFailed, RunError
from dist_gan.formatting import plural

T = TypeVar("T")
AGREEMENT = "agreement"
"""The purpose of what processes exchange at the start and the end of a run."""


_left_open = False
"""Whether a process group that a run of ours has made is there."""


def _leave_at_exit() -> None:
    if _left_open and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


atexit.register(_leave_at_exit)


@contextmanager
def accelerate_preserved() -> Iterator[None]:
    """Afterwards Accelerate's state is as before: its next user, a second run too, makes its own choices.

    A process group stays until the process ends, and the next run uses it: a launcher's store still holds the addresses
    of the first one, and a second one would meet them (seen: it waits for ever, now and then).
    """
    kinds: tuple[Any, ...] = (AcceleratorState, GradientState, PartialState)
    before = [dict(kind._shared_state) for kind in kinds]
    try:
        yield
    finally:
        for kind, state in zip(kinds, before, strict=True):
            if kind is not PartialState or not _left_open:
                kind._shared_state.clear()
                kind._shared_state.update(state)


class Processes:
    """This process among all of a run. Every method that reduces or broadcasts must be called by all of them."""

    def __init__(self, precision: str = "fp32", *, exact: bool = False, timeout_seconds: float = 600) -> None:
        """Join the other processes, if the launcher started any. `exact`: deterministic kernels, in one thread.

        Raises:
            PeerFailed: not all of them joined within `timeout_seconds`, which is also how long a collective may take.
        """
        # In a process that had an Accelerator before (a second run in one process), its precision would stay.
        AcceleratorState._reset_state(reset_partial_state=False)
        global _left_open  # noqa: PLW0603  # of the process, as its group is
        self._owns_group = _left_open or not torch.distributed.is_initialized()
        set_float32_precision(precision)
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
                _not_all_came(timeout_seconds, error), reports=os.environ.get("LOCAL_RANK", "0") == "0"
            ) from error
        _left_open = self._owns_group and torch.distributed.is_initialized()
        self.rank = self.accelerator.process_index
        self.count = self.accelerator.num_processes
        self.exact = exact
        self.device = self.accelerator.device
        self.dtype = torch.float64 if precision == "fp64" else torch.float32
        self.is_first = self.accelerator.is_main_process
        if exact or self.device.type == "cuda":
            # On a GPU always: else a resumed run of convolutions does not end in the bits of one that never stopped.
            deterministic(strict=exact)
        if exact:
            torch.set_num_threads(1)  # the order of sums in a CPU's matrix products depends on it
        self.pulse = Pulse()

    def wrap(self, network: nn.Module, *, reduced: bool) -> nn.Module:
        """Mixed precision into `network`'s forward, in place; and where `reduced`, DDP around it.

        Its parameters must require gradients at this moment, else DDP never reduces them.
        """
        with purpose(AGREEMENT):
            wrapped: nn.Module = self.accelerator.prepare_model(network, evaluation_mode=not reduced)
        if wrapped is not network:
            # Buffers are equal by construction. Not an argument: its name depends on torch's version.
            wrapped.broadcast_buffers = False  # type: ignore[assignment]
        return wrapped

    def backward(self, loss: Tensor) -> None:
        """Backward, scaled where the precision is fp16. Accelerate's own would divide by its accumulation."""
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()

    @property
    def scaler(self) -> Any:
        """torch's GradScaler in fp16, else None. There is one; each player unscales, steps and updates it in turn."""
        return self.accelerator.scaler

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, of a tensor of the same shape in each."""
        return self.accelerator.reduce(values, "sum") if self.count > 1 else values

    def add_up(self, values: Tensor) -> None:
        """As `sum`, in place."""
        if self.count > 1:
            torch.distributed.all_reduce(values)

    def max(self, values: Tensor) -> Tensor:
        """The maximum over all processes, number by number."""
        if self.count > 1:
            torch.distributed.all_reduce(values, torch.distributed.ReduceOp.MAX)
        return values

    def broadcast(self, value: T) -> T:
        """Rank 0's value, on every rank."""
        if self.count == 1:
            return value
        with purpose(AGREEMENT):
            return broadcast_object_list([value])[0]

    def gather(self, value: T) -> list[T]:
        """Every rank's value, by rank, on every rank."""
        if self.count == 1:
            return [value]
        with purpose(AGREEMENT):
            return list(gather_object([value]))

    def gather_rows(self, rows: Tensor) -> list[Tensor] | None:
        """Every rank's tensor, by rank, on the CPU of rank 0; None on others. All have the same shape and type."""
        if self.count == 1:
            return [rows.cpu()]
        rows = rows.to(self.device)
        found = [torch.empty_like(rows) for _ in range(self.count)] if self.is_first else None
        torch.distributed.gather(rows, found)
        return None if found is None else [other.cpu() for other in found]

    def alone(self) -> "Processes":
        """This process as if there were no other: nothing is reduced."""
        alone = copy(self)
        alone.rank, alone.count, alone.is_first = 0, 1, True
        return alone

    def on_all_ranks(self, action: Callable[[], T]) -> T:
        """Run `action` on every rank; where it fails on any with a RunError or OSError, every rank raises the first
        one's error, with `everywhere` set.

        For what may fail on one rank only (a file that is missing on one machine), so that no rank waits for another.
        """
        result: T | None = None
        failure: Exception | None = None
        try:
            result = action()
        except (RunError, OSError) as error:
            failure = error
        if self.count > 1:
            failure = next((f for f in self.gather(failure) if f is not None), None)
        if failure is not None:
            failure = failure if isinstance(failure, RunError) else InputOutputError(str(failure))
            failure.everywhere = True
            raise failure
        return result  # type: ignore[return-value]  # it is there when nothing failed

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            with purpose(AGREEMENT):
                # Not Accelerate's barrier: where there are GPUs it takes one for each process, used or not.
                self.sum(torch.zeros((), device=self.device)).item()

    def unwise(self, precision: str) -> list[str]:
        """What works on this device, but most likely is not what was meant."""
        if self.device.type == "cpu" and precision == "bf16":
            return ["precision: bf16 on a CPU is many times slower than fp32 unless it has AMX; use precision=fp32"]
        if self.device.type == "cpu" and precision == "tf32":
            return ["precision: there is no TF32 on a CPU; this is fp32"]
        return []

    def describe(self) -> str:
        """The device, as text."""
        if self.device.type == "cuda":
            return f"{torch.cuda.get_device_name(self.device)} (torch {torch.__version__})"
        return f"CPU, {plural(torch.get_num_threads(), 'thread')} a process (torch {torch.__version__})"

    def close(self, *, stays: bool = False) -> None:
        """Leave the other processes, once all are here. `stays`: this process goes on, and may train again."""
        if self.count > 1:
            self.wait()
            if self._owns_group and not stays:
                global _left_open  # noqa: PLW0603
                self.accelerator.end_training()
                _left_open = torch.distributed.is_initialized()


def _not_all_came(seconds: float, error: Exception) -> str:
    rank, count = world()
    head = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    return (
        f"rank {rank} did not meet the other {count - 1} of {count} processes at {head} within {seconds:g} s. Was the "
        f"same command started on every node, and can they reach that address and port? "
        f"({str(error).strip().splitlines()[0]})"
    )
