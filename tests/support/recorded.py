"""A stand-in for CUDA graphs on a CPU: it records operations at their addresses, and plays them again.

It refuses what a capture refuses: reading back, tensors made of Python numbers, what processes send each other. After
each replay all memory of its own is garbage, as that of a graph's pool may be.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dist_gan.game.speed import Function

REFUSED = {
    "_local_scalar_dense": "reads a number back",
    "item": "reads a number back",
    "equal": "reads a number back",
    "is_nonzero": "reads a number back",
    "nonzero": "reads a number back",
    "masked_select": "reads a number back",
    "_unique2": "reads a number back",
    "lift_fresh": "makes a tensor of Python numbers",
    "_pin_memory": "pins memory",
}
GARBAGE = -77


class Recorded:
    """Captures by recording. `captured` counts the graphs, `played` how often they were played."""

    tolerance = 0.0

    def __init__(self) -> None:
        self.captured = 0
        self.played = 0

    def forget(self) -> None:
        pass

    def warm_up(self, function: Function) -> None:
        function()

    def capture(self, function: Function) -> Callable[[], None]:
        recorder = _Recorder()
        try:
            with recorder:
                function()
        finally:
            recorder.undo()
        self.captured += 1

        def replay() -> None:
            self.played += 1
            recorder.replay()

        return replay


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self._calls: list[tuple[Any, Any, Any, list[Tensor]]] = []
        self._own: dict[int, Tensor] = {}
        """By address: what was made while it recorded."""
        self._given: dict[int, tuple[Tensor, int]] = {}
        """By identity: tensors that were there before, with their addresses: a graph would go on to use these."""
        self._written: dict[int, tuple[Tensor, Tensor]] = {}
        """By address: what was there before, and is written; and what it was."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        chosen = args[1] if func._opname in ("index", "index_put_") else ()
        masked = any(mask is not None and mask.dtype == torch.bool for mask in chosen)
        if func.namespace == "c10d" or func._opname in REFUSED or masked:
            raise RuntimeError(f"{func}: a graph {REFUSED.get(func._opname, 'cannot hold it')}")
        writes, views = _aliases(func)
        if writes:
            for tensor in _written(func, args, kwargs):
                address = _address(tensor)
                if address not in self._own and address not in self._written:
                    everything = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())  # type: ignore[call-overload]
                    self._written[address] = (everything, everything.clone())
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor) and _address(leaf) not in self._own:
                self._given[id(leaf)] = (leaf, _address(leaf))
        found = func(*args, **kwargs)
        made = [] if writes or views else [leaf for leaf in tree_leaves(found) if isinstance(leaf, Tensor)]
        # An operator without an alias in its schema may return what it was given (contiguous, to).
        given = {_address(t) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        made = [tensor for tensor in made if _address(tensor) not in given]
        self._own |= {_address(tensor): tensor for tensor in made if _address(tensor)}
        if not views:
            self._calls.append((func, args, kwargs, made))
        return found

    def undo(self) -> None:
        """What was there before is as it was; what is its own is garbage."""
        for tensor, before in self._written.values():
            tensor.copy_(before)
        self._spoil()

    def replay(self) -> None:
        moved = [tensor for tensor, address in self._given.values() if _address(tensor) != address]
        assert not moved, f"{len(moved)} tensors are elsewhere than where they were captured"
        with torch.no_grad(), torch._C._AutoDispatchBelowAutograd():
            for func, args, kwargs, made in self._calls:
                found = func(*args, **kwargs)
                if made:
                    leaves = [leaf for leaf in tree_leaves(found) if isinstance(leaf, Tensor)]
                    for own, new in zip(made, leaves, strict=True):
                        if _address(own):
                            own.copy_(new)
        self._spoil()

    def _spoil(self) -> None:
        with torch.no_grad(), torch._C._AutoDispatchBelowAutograd():
            for tensor in self._own.values():
                tensor.fill_(float("nan") if tensor.is_floating_point() else GARBAGE % 2)


def _address(tensor: Tensor) -> int:
    """Of its memory; 0 for what has none, such as a derivative that is zero everywhere."""
    try:
        return tensor.untyped_storage().data_ptr()
    except RuntimeError:
        return 0


def _aliases(func: Any) -> tuple[bool, bool]:
    """Whether it writes to what it is given, and whether it only looks at it in another way."""
    infos = [argument.alias_info for argument in func._schema.arguments if argument.alias_info]
    writes = any(info.is_write for info in infos)
    return writes, not writes and any(info for info in infos)


def _written(func: Any, args: Any, kwargs: Any) -> list[Tensor]:
    found: list[Tensor] = []
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info and argument.alias_info.is_write:
            value = args[place] if place < len(args) else kwargs.get(argument.name)
            found += [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]
    return found
