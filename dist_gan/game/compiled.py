"""Turns whose networks are compiled by torch's inductor."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from dist_gan.game.speed import Function

VARIANTS = 64
"""How often each function may be compiled."""


class CompiledNetworks:
    """While what was captured runs, both networks are compiled; everywhere else they are as they were.

    What is differentiated twice is never compiled: objectives call `uncompiled` networks there, since a second
    derivative of a compiled one is an error, or (torch 2.11 to 2.13, pytorch#181581) silently zero.
    """

    tolerance = 0.25
    """Rounding is another one, and turns around gradients that are zero but for rounding."""

    def __init__(self, networks: Iterable[nn.Module], backend: str = "inductor") -> None:
        self._compiled = []
        for network in networks:
            network.compile(backend=backend, dynamic=False)
            self._compiled.append((network, network._compiled_call_impl))
            network._compiled_call_impl = None

    def warm_up(self, function: Function) -> None:
        function()

    def capture(self, function: Function) -> Callable[[], None]:
        """Returns what runs `function` with compiled networks. It compiles when it is called for the first time."""

        def run() -> None:
            with self._switched_on():
                function()

        return run

    def forget(self) -> None:
        pass

    @contextmanager
    def _switched_on(self) -> Iterator[None]:
        for network, compiled in self._compiled:
            network._compiled_call_impl = compiled
        try:
            # Each player's turns and precisions are variants of the same code; beyond torch's limit (8) it would run as
            # it is written, and say so in a log only.
            with torch._dynamo.config.patch(recompile_limit=VARIANTS):
                yield
        finally:
            for network, _ in self._compiled:
                network._compiled_call_impl = None
