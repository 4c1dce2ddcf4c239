"""Sums of gradients that are the same to the bit, whoever computed which part.

Floating-point addition depends on its order, and the order on the number of processes. Integers do not: each piece's
gradient is rounded to a multiple of one power of two, and the multiples are added as 64-bit integers.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from dist_gan.distributed.processes import Processes

BITS = 62
"""Of a sum's magnitude."""


class FixedPointSum:
    """Adds the gradients of canonical pieces over all processes.

    The unit is the smallest power of two with which the sum of all pieces cannot overflow; that follows from the
    largest magnitude in any piece, a maximum, which knows no order either. With P pieces it lies 62 - log2(P) bits
    below that magnitude, so that numbers 2^30 times smaller than the largest still keep float32's 24 bits. The pieces'
    gradients are kept until then: the memory is pieces times parameters.
    """

    def __init__(self, processes: Processes, pieces: int) -> None:
        """`pieces`: how many pieces a global batch has, over all processes."""
        self.processes = processes
        self.headroom = BITS - math.ceil(math.log2(pieces))
        self._terms: list[Tensor] = []

    def add(self, gradients: Sequence[Tensor]) -> None:
        """One piece's."""
        self._terms.append(torch.cat([gradient.reshape(-1) for gradient in gradients]))

    def result(self) -> Tensor:
        """The sum over all pieces of all processes, flat, in the gradients' type; begins anew. Two reductions.

        All of it is NaN where any number of any piece is not finite.
        """
        terms, self._terms = self._terms, []
        dtype = terms[0].dtype
        largest_here = torch.stack([term.abs().amax() for term in terms]).amax().double()
        largest = self.processes.max(largest_here.nan_to_num(nan=math.inf, posinf=math.inf)).item()
        if not math.isfinite(largest):
            return torch.full_like(terms[0], math.nan)
        exponent = min(900, self.headroom - math.frexp(largest)[1])  # largest < 2^frexp; 900 is within float64
        total = torch.zeros(len(terms[0]), dtype=torch.int64, device=terms[0].device)
        for term in terms:
            total += torch.ldexp(term.double(), torch.tensor(exponent)).round_().to(torch.int64)
        total = self.processes.sum(total)
        return torch.ldexp(total.double(), torch.tensor(-exponent)).to(dtype)
