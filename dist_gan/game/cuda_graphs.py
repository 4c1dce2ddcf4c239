"""Graphs of a CUDA device's work."""

from collections.abc import Callable, Sequence
from contextlib import suppress

import torch

from dist_gan.game.speed import Function


class CudaCapture:
    """CUDA graphs, on a stream of their own. They share one pool of memory: they never run at the same time, and
    nothing is read from it after one has ended."""

    tolerance = 0.01
    """The kernels are the same ones; where torch chooses others, a few numbers that are rounding alone may differ."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()
        self.optimizers: Sequence[torch.optim.Optimizer] = ()
        """Those whose steps are captured."""

    def warm_up(self, function: Function) -> None:
        """On the stream of the capture, so that what a stream or a thread sets up once is there."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            function()
        torch.cuda.current_stream().wait_stream(self._stream)

    def capture(self, function: Function) -> Callable[[], None]:
        """Returns what plays the graph.

        Raises:
            RuntimeError: CUDA or torch refuses to capture something in `function`.
        """
        graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.current_stream(self._device)
        groups = [group for each in self.optimizers for group in each.param_groups if "capturable" in group]
        causes: list[BaseException] = []

        def noting() -> None:
            try:
                function()
            except BaseException as error:
                causes.append(error)
                raise

        for group in groups:  # torch insists on it, though its fused kernels are the same with and without
            group["capturable"] = True
        try:
            # thread_local: other threads (NCCL's watchdog, one that pins memory) may use CUDA meanwhile.
            with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"):
                noting()
        except BaseException:
            self._recover(stream)
            if causes:  # what torch raises at the end of a failed capture hides it
                raise causes[0] from None
            raise
        finally:
            for group in groups:
                group["capturable"] = False
        replay: Callable[[], None] = graph.replay
        return replay

    def forget(self) -> None:
        """A pool is not used again once its graphs are gone."""
        self._pool = torch.cuda.graph_pool_handle()

    def _recover(self, stream: torch.cuda.Stream) -> None:
        """After a capture that failed, torch leaves its stream in use; and up to 2.12 (pytorch#180395) the allocator
        goes on to serve its pool."""
        torch.cuda.set_stream(stream)
        with suppress(RuntimeError, AttributeError):
            torch._C._cuda_endAllocateToPool(self._device.index or 0, self._pool)
        with suppress(RuntimeError):
            torch.cuda.synchronize(self._device)
        self.forget()
