"""Gradients that are rounded to bf16 on their way between processes, and added in float32."""

import torch
from torch import Tensor

from dist_gan.distributed.processes import Processes


class Bf16Wire:
    """An all-reduce with half of the bytes: each process adds up one part of all gradients, in the order of ranks, and
    sends the sum back. A number is rounded once on its way there, and the sum once on its way back."""

    def __init__(self, processes: Processes, numbers: int) -> None:
        """`numbers`: how many there are."""
        self.processes = processes
        each = -(-numbers // processes.count)
        self._sent = torch.zeros(processes.count * each, dtype=torch.bfloat16, device=processes.device)
        self._received = torch.zeros_like(self._sent)

    def add_up(self, values: Tensor) -> None:
        """values [numbers]: the sum over all processes, in place; the same on all of them."""
        count = self.processes.count
        self._sent[: len(values)] = values
        torch.distributed.all_to_all_single(self._received, self._sent)
        total = torch.zeros(len(self._sent) // count, dtype=torch.float32, device=values.device)
        for part in self._received.chunk(count):
            total += part
        torch.distributed.all_gather(list(self._sent.chunk(count)), total.bfloat16())
        values.copy_(self._sent[: len(values)])
