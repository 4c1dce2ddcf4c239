"""How this process computes: TF32, deterministic kernels, threads. All of it can be restored."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def preserved() -> Iterator[None]:
    """Afterwards this process computes as it did before, whatever the block has set. Inside, numbers are float32 where
    nothing else is said, and gradients can be computed, whatever the caller has set."""
    workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    filled, benchmark = torch.utils.deterministic.fill_uninitialized_memory, torch.backends.cudnn.benchmark  # type: ignore[attr-defined]
    anomaly = torch.is_anomaly_enabled()
    products, convolutions = torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision  # type: ignore[attr-defined]
    dtype, random = (
        torch.get_default_dtype(),
        torch.get_rng_state(),
    )  # torch's layers draw weights that are then replaced
    torch.set_default_dtype(torch.float32)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_rng_state(random)
        if workspace is None:
            os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.utils.deterministic.fill_uninitialized_memory, torch.backends.cudnn.benchmark = filled, benchmark  # type: ignore[attr-defined]
        torch.autograd.set_detect_anomaly(anomaly)
        torch.backends.cuda.matmul.fp32_precision = products
        torch.backends.cudnn.conv.fp32_precision = convolutions  # type: ignore[attr-defined]


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside, operations on a CPU run in one thread: the order of sums, and so their bits, depend on how many there
    are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def deterministic(*, strict: bool = True) -> None:
    """From now on use kernels that give the same bits each time. An operation that has none is an error where `strict`,
    else a warning."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS needs it for products on a GPU
    torch.use_deterministic_algorithms(True, warn_only=not strict)
    # Nothing reads such memory, and to fill it takes time
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False  # it may choose another kernel the next time


@contextmanager
def torch_defaults() -> Iterator[None]:
    """Inside, float32 is computed as torch does where nobody has said anything. torch.export raises elsewhere (2.14),
    since it still reads an older flag for all of cuDNN, and that is then of no single value."""
    before = torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision  # type: ignore[attr-defined]
    torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision = "none", "tf32"  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision = before  # type: ignore[attr-defined]


def set_float32_precision(precision: str) -> None:
    """Use TF32 only where `precision` is tf32: by default torch uses it in convolutions."""
    mode = "tf32" if precision == "tf32" else "ieee"
    torch.backends.cuda.matmul.fp32_precision = mode
    torch.backends.cudnn.conv.fp32_precision = mode  # type: ignore[attr-defined]
