"""What goes over the wire between processes, and what for: every collective is claimed by a purpose."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

UNCLAIMED = "unclaimed"
_claims: list[str] = []


class Call(NamedTuple):
    """One collective, as this process made it."""

    purpose: str
    operation: str
    elements: int
    bytes: int


@contextmanager
def claim(purpose: str) -> Iterator[None]:
    """Collectives inside are for `purpose`, where nothing further in claims them."""
    _claims.append(purpose)
    try:
        yield
    finally:
        _claims.pop()


class Wire(TorchDispatchMode):
    """While it is entered every collective is counted, those of DDP's reducer too (its calls pass the dispatcher)."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count what torch.distributed sends; hand everything on."""
        if func.namespace == "c10d":
            given = args[0] if isinstance(args[0], list | tuple) else [args[0]]
            tensors = [tensor for tensor in given if isinstance(tensor, Tensor)]
            purpose = _claims[-1] if _claims else UNCLAIMED
            elements = sum(tensor.numel() for tensor in tensors)
            self.calls.append(Call(purpose, func._opname, elements, sum(tensor.nbytes for tensor in tensors)))
        return func(*args, **(kwargs or {}))

    def totals(self) -> dict[str, tuple[int, int]]:
        """purpose -> (collectives, bytes)."""
        found: dict[str, tuple[int, int]] = {}
        for call in self.calls:
            collectives, size = found.get(call.purpose, (0, 0))
            found[call.purpose] = (collectives + 1, size + call.bytes)
        return found
