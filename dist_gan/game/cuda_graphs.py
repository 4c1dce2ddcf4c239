"""Graphs of a CUDA device's work."""

from collections.abc import Callable, Sequence

import torch

from dist_gan.game.speed import Function


class CudaCapture:
    """CUDA graphs, on a stream of their own. They share one pool of memory: they never run at the same time, and
    nothing is read from it after one has ended."""

    def __init__(self, device: torch.device) -> None:
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
        groups = [group for each in self.optimizers for group in each.param_groups if "capturable" in group]
        for group in groups:  # torch insists on it, though its fused kernels are the same with and without
            group["capturable"] = True
        try:
            # thread_local: other threads (NCCL's watchdog, one that pins memory) may use CUDA meanwhile.
            with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"):
                function()
        finally:
            for group in groups:
                group["capturable"] = False
        replay: Callable[[], None] = graph.replay
        return replay
