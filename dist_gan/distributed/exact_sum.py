"""Sums that are the same to the bit, whoever computed which part.

Floating-point addition depends on its order, and the order on the number of processes. Integers do not: each
microbatch's gradient is rounded to a multiple of one power of two, and the multiples are added as 64-bit integers.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from dist_gan.distributed.processes import Processes

BITS = 62
"""How many bits the magnitude of a sum may have: one less than int64 has, for safety."""
STATISTIC_BITS = 24
"""Bits after the binary point that a statistic keeps (see `fixed_point`)."""


class FixedPointSum:
    """Adds the gradients of fixed microbatches over all processes, without reading anything back to the host.

    The unit is the smallest power of two with which the sum of all microbatches cannot overflow. It follows from the
    largest magnitude in any microbatch, and a maximum does not depend on an order either. With M microbatches the unit
    is 62 - log2(M) bits below that magnitude, so that numbers 2^30 times smaller than the largest still keep float32's
    24 bits. The gradients of all microbatches are kept until they are added: this takes microbatches x parameters of
    memory.
    """

    def __init__(self, processes: Processes, microbatches: int, numbers: int) -> None:
        """`microbatches`: how many a global batch has, over all processes; `numbers`: the most that a sum has."""
        self.processes = processes
        self.headroom = BITS - math.ceil(math.log2(microbatches))
        own = microbatches // processes.count
        self._rows = torch.zeros(own, numbers, dtype=processes.dtype, device=processes.device)
        self._next = 0

    def begin(self) -> None:
        """The next microbatch is the first one of a turn."""
        self._next = 0

    def add(self, gradients: Sequence[Tensor]) -> None:
        """The gradients of this process's next microbatch; after the last one comes the first one again."""
        count = sum(gradient.numel() for gradient in gradients)
        torch.cat([gradient.reshape(-1) for gradient in gradients], out=self._rows[self._next, :count])
        self._next = (self._next + 1) % len(self._rows)

    def result(self, numbers: int) -> Tensor:
        """The sum over all microbatches of all processes, [numbers], in the gradients' type.

        Two reductions. All of it is NaN where any number of any microbatch is not finite.
        """
        assert self._next == 0, "all microbatches were added"
        terms = [row[:numbers] for row in self._rows]
        dtype = terms[0].dtype
        largest = torch.stack([term.abs().amax() for term in terms]).amax().double()
        largest = self.processes.max(largest.nan_to_num(nan=math.inf, posinf=math.inf))
        finite = largest.isfinite()
        exponent = torch.frexp(torch.where(finite, largest, 1.0)).exponent  # largest < 2^exponent
        exponent = (self.headroom - exponent).clamp(max=900)  # 900 is within float64
        total = torch.zeros(len(terms[0]), dtype=torch.int64, device=terms[0].device)
        for term in terms:
            total += torch.ldexp(term.double(), exponent).round_().nan_to_num_().to(torch.int64)
        total = self.processes.sum(total)
        return torch.where(finite, torch.ldexp(total.double(), -exponent), math.nan).to(dtype)


def fixed_point(values: Tensor) -> Tensor:
    """values [N] -> int64 [2]: their sum in units of 2^-24, and how many they are. Such sums may be added in any order.

    Larger magnitudes than 2^22 are clamped to it.
    """
    units = (values.detach().double().nan_to_num().clamp_(-(2.0**22), 2.0**22) * 2**STATISTIC_BITS).round_()
    return torch.stack([units.to(torch.int64).sum(), torch.full((), len(values), device=values.device)])


def mean_of(sums: Tensor) -> Tensor:
    """Sums int64 [2] of `fixed_point`, added over all microbatches and processes -> float64 []: the mean."""
    return sums[0].double() / (sums[1].clamp(min=1).double() * 2**STATISTIC_BITS)
