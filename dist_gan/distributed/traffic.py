"""What processes send each other, and why: every collective has a purpose."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

UNNAMED = "unnamed"
_purposes: list[str] = []


class Collective(NamedTuple):
    """One collective that this process took part in. An all-reduce sends each number twice and is counted once; so are
    the all-to-all and the all-gather of `Bf16Wire`, which are one together: the latter counts 0 bytes."""

    purpose: str
    operation: str
    elements: int
    bytes: int


@contextmanager
def purpose(name: str) -> Iterator[None]:
    """Collectives inside have the purpose `name`, unless an inner block names another."""
    _purposes.append(name)
    try:
        yield
    finally:
        _purposes.pop()


class Traffic(TorchDispatchMode):
    """Inside, every collective is counted, those of DDP's reducer too (its calls go through torch's dispatcher)."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Collective] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count what torch.distributed sends; pass everything on."""
        if func.namespace == "c10d":
            given = args[0] if isinstance(args[0], list | tuple) else [args[0]]
            tensors = [tensor for tensor in given if isinstance(tensor, Tensor)]
            given_purpose = _purposes[-1] if _purposes else UNNAMED
            elements = sum(tensor.numel() for tensor in tensors)
            self.calls.append(
                Collective(given_purpose, func._opname, elements, sum(tensor.nbytes for tensor in tensors))
            )
        return func(*args, **(kwargs or {}))

    def totals(self) -> dict[str, tuple[int, int]]:
        """purpose -> (collectives, bytes)."""
        found: dict[str, tuple[int, int]] = {}
        for call in self.calls:
            collectives, size = found.get(call.purpose, (0, 0))
            found[call.purpose] = (collectives + 1, size + call.bytes)
        return found
