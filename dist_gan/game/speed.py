"""How a turn's functions of tensors run: as they are written, or prepared once and repeated (as a graph that a GPU
plays again, or with compiled networks).

What is repeated works at the same addresses. So what goes in is copied to tensors that stay where they are (`hold`, and
whatever is filled in from outside), and what comes out stays in such tensors too.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from dist_gan.data.source import Batch
from dist_gan.distributed.processes import Processes
from dist_gan.randomness import Ordinals

Function = Callable[[], object]
"""Changes tensors that stay where they are, and nothing else. What it returns is not used."""
StateOf = Callable[[], Sequence[Tensor]]
"""All tensors that any of the functions changes."""


@dataclass(frozen=True)
class Part:
    """A part of a turn."""

    function: Function
    kind: Literal["device", "sends", "host"] = "device"
    """sends: to other processes, where there are some; host: it changes what is in Python, each time."""


REPLACED = (
    "something that changes is a new tensor after each turn. Change it in place (copy_), as `after_move` of a layer "
    "must do with a buffer"
)


class Runner(Protocol):
    """Runs the parts of a turn. The same key means the same work: whatever differs is in tensors."""

    watched: bool
    """Whether hooks of layers are called in every turn."""
    flat: bool
    """Whether gradients must be in tensors that stay where they are, without DDP."""
    prepared: int
    """How many functions it has prepared so far."""

    def hold(self, batch: Batch) -> Batch:
        """`batch` as it is given to functions."""

    def play(self, key: str, parts: Sequence[Part], state: StateOf) -> None:
        """A whole turn: these parts in this order."""

    def run(self, key: str, function: Function, state: StateOf) -> None:
        """Run one function."""

    def forget(self) -> None:
        """Tensors that functions read or change are others now."""


class Eager:
    """As they are written."""

    watched = True
    prepared = 0

    def __init__(self, *, flat: bool = False) -> None:
        self.flat = flat

    def hold(self, batch: Batch) -> Batch:
        return batch

    def play(self, key: str, parts: Sequence[Part], state: StateOf) -> None:
        for part in parts:
            part.function()

    def run(self, key: str, function: Function, state: StateOf) -> None:
        function()

    def forget(self) -> None:
        pass


class Capture(Protocol):
    """Prepares functions to be repeated."""

    tolerance: float
    """How far what is repeated may be from what is written, when it is played for the first time: the mean over all
    tensors that change, as a part of each one's change. What is wrong is off by a whole change."""

    def warm_up(self, function: Function) -> None:
        """Run `function` as it is written, where and how it will be captured."""

    def capture(self, function: Function) -> Callable[[], None]:
        """Returns what does the same as `function`; does nothing of it yet.

        Raises:
            RuntimeError: it does something that cannot be repeated so. What is returned may raise it too.
        """

    def forget(self) -> None:
        """Nothing that was captured is used any more."""


class Repeated:
    """Each function is captured when its key comes for the first time, and compared then with what it does as it is
    written. Where that fails it runs as it is written from then on, on all processes."""

    watched = False
    flat = True

    def __init__(self, capture: Capture, processes: Processes, report: Callable[[str], None]) -> None:
        """`report`: called with the reason for each key that runs as it is written."""
        self._capture = capture
        self._processes = processes
        self._report = report
        self._captured: dict[tuple[object, str], Callable[[], None] | None] = {}
        self._held: dict[object, tuple[Tensor, Tensor, Tensor]] = {}
        self._shapes: object = None
        """Those of the batch that was held last: with others, everything is captured anew."""
        self.differences: dict[str, float] = {}
        """By key: how far the first repetition was from what is written (see `Capture.tolerance`); 0: equal to the
        bit."""
        self.prepared = 0
        self._off = False

    def hold(self, batch: Batch) -> Batch:
        """Its tensors are the same for all batches of one shape."""
        assert isinstance(batch.ordinals, range)
        self._shapes = shapes = (batch.images.shape, batch.images.dtype, batch.labels.shape)
        if shapes not in self._held:
            first = torch.zeros((), dtype=torch.int64, device=batch.images.device)
            self._held[shapes] = (torch.empty_like(batch.images), torch.empty_like(batch.labels), first)
        images, labels, first = self._held[shapes]
        images.copy_(batch.images)
        labels.copy_(batch.labels)
        start = torch.tensor(batch.ordinals.start, pin_memory=first.device.type == "cuda")
        first.copy_(start, non_blocking=True)
        return Batch(images, labels, Ordinals(first, len(batch.ordinals)))

    def play(self, key: str, parts: Sequence[Part], state: StateOf) -> None:
        """All of the device's parts in one piece, but for what is between two processes."""
        alone = self._processes.count == 1
        for part in parts:
            if part.kind == "host" and alone:
                part.function()
        piece: list[Function] = []
        pieces = 0
        for part in parts:
            if part.kind == "device" or (part.kind == "sends" and alone):
                piece.append(part.function)
            elif not alone:
                pieces += self._run_all(f"{key} ({pieces + 1})", piece, state)
                part.function()
        self._run_all(f"{key} ({pieces + 1})" if pieces else key, piece, state)

    def _run_all(self, key: str, piece: list[Function], state: StateOf) -> bool:
        """Run these functions as one, and forget them; returns whether there are any."""
        functions = list(piece)
        piece.clear()
        if functions:
            self.run(key, lambda: [function() for function in functions], state)
        return bool(functions)

    def run(self, key: str, function: Function, state: StateOf) -> None:
        if self._off:
            function()
            return
        what = (self._shapes, key)
        if what not in self._captured:
            self._captured[what] = self._made(key, function, state)
        (self._captured[what] or function)()

    def forget(self) -> None:
        self._captured.clear()
        self._capture.forget()

    def _made(self, key: str, function: Function, state: StateOf) -> Callable[[], None] | None:
        """What was seen to do the same as `function`, or None. Everything is as before when it returns."""
        self.prepared += 1
        captured, problem = None, ""
        try:
            captured = self._captured_and_compared(key, function, state)
        except RuntimeError as error:
            problem = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if problems := [reason for reason in self._processes.gather(problem) if reason]:
            if REPLACED in problems:  # whatever reads it would read the old one
                self._off = True
            what = f"from {key} on, everything" if self._off else key
            self._report(f"speed: {what} runs eagerly: {problems[0]}")
            return None
        return captured

    def _captured_and_compared(self, key: str, function: Function, state: StateOf) -> Callable[[], None]:
        with undone(state) as before:
            addresses = [tensor.data_ptr() for tensor in state()]
            for _ in range(2):  # the second time, nothing is set up any more
                _set(state(), before)
                self._capture.warm_up(function)
            if [tensor.data_ptr() for tensor in state()] != addresses:
                raise RuntimeError(REPLACED)
            expected = _copies(state())
            _set(state(), before)
            captured = self._capture.capture(function)
            captured()
            self.differences[key] = apart = _apart(before, expected, _copies(state()))
            if not apart <= self._capture.tolerance:
                raise RuntimeError(f"what was captured does something else ({apart:.2g} of the change is wrong)")
        return captured


@contextmanager
def undone(state: StateOf) -> Iterator[list[Tensor]]:
    """Afterwards these tensors are as before, whatever the block does with them, or puts in their places. Gives copies
    of what they were, in main memory."""
    before = _copies(state())
    try:
        yield before
    finally:
        _set(state(), before)


def _copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.detach().to("cpu", copy=True) for tensor in tensors]


@torch.no_grad()
def _set(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)


@torch.no_grad()
def _apart(before: Sequence[Tensor], expected: Sequence[Tensor], found: Sequence[Tensor]) -> float:
    """The mean over all tensors that change of |found - expected| / |expected - before|, each at most 1."""
    parts = [0.0]
    for old, right, new in zip(before, expected, found, strict=True):
        a, b, c = (tensor.double().nan_to_num() for tensor in (old, right, new))
        change, error = (b - a).norm(), (c - b).norm()
        if change + error > 0:
            parts.append(float((error / change).clamp(max=1)))
    return sum(parts) / max(1, len(parts) - 1)
