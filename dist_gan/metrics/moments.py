"""Mean and covariance of features, exactly summed: the same bits whoever saw which image, in whatever order.

Each number becomes three integers of 20 bits, in units of 2^6, 2^-14 and 2^-34 (so float32 numbers from 2^-11 to 2^26
are kept whole). Products of such integers, and sums of 2^13 of them, are whole numbers below 2^53: matrix products in
float64 have no rounding, whatever the library, the number of threads or the order. Sums of blocks are int64.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from dist_gan.distributed.processes import Processes

EXPONENTS = (6, -14, -34)
"""The units of the three integers, the largest first, as powers of two."""
LARGEST = 2.0**26
"""Features must be smaller than this."""
BLOCK = 1024
"""Rows of one matrix product: enough to keep it busy, few enough to be exact (8,192 would be)."""


class Moments(NamedTuple):
    """Mean float64 [F] and covariance float64 [F, F], divided by N - 1, of N feature vectors, on the CPU."""

    samples: int
    mean: Tensor
    covariance: Tensor


class ExactMoments:
    """Adds up feature vectors. Memory does not grow with their number: up to 6 F^2 integers of 64 bits."""

    def __init__(self, size: int, device: torch.device) -> None:
        """`size`: F, the length of a vector."""
        self.size = size
        self.device = device
        self.count = 0
        self._sums = torch.zeros(len(EXPONENTS), size, dtype=torch.int64, device=device)
        self._products: dict[tuple[int, int], Tensor] = {}
        self._rows: list[Tensor] = []
        self._waiting = 0

    def add(self, features: Tensor) -> None:
        """features [n, F]. Raises ValueError where one is not finite or too large."""
        if not bool((features.abs() < LARGEST).all()):  # NaN is not smaller either
            raise ValueError(f"features must be finite and smaller than {LARGEST:g}")
        self._rows.append(features)
        self._waiting += len(features)
        if self._waiting >= BLOCK:
            self._flush()

    def _flush(self) -> None:
        rows = torch.cat(self._rows).to(self.device, torch.float64) if self._rows else torch.empty(0)
        self._rows, self._waiting = [], 0
        for block in rows.split(BLOCK):
            self._add_block(block)

    def _add_block(self, rest: Tensor) -> None:
        digits = []
        for place, exponent in enumerate(EXPONENTS):
            digit = torch.ldexp(rest, torch.tensor(-exponent)).round_()
            rest = rest - torch.ldexp(digit, torch.tensor(exponent))
            digits.append(digit)
            self._sums[place] += digit.sum(0).to(torch.int64)
        self.count += len(rest)
        present = [place for place, digit in enumerate(digits) if bool(digit.any())]
        for i in present:
            for j in (place for place in present if place >= i):
                product = (digits[i].T @ digits[j]).to(torch.int64)
                before = self._products.get((i, j))
                self._products[i, j] = product if before is None else before + product

    def reduce(self, processes: Processes) -> None:
        """Add up over all processes. Called by all of them; afterwards each has everything."""
        self._flush()
        pairs = [(i, j) for i in range(len(EXPONENTS)) for j in range(i, len(EXPONENTS))]
        header = [self.count, *((pair in self._products) * 1 for pair in pairs)]
        total = processes.sum(torch.tensor(header, device=self.device)).tolist()
        self.count = total[0]
        self._sums = processes.sum(self._sums)
        for pair, there in zip(pairs, total[1:], strict=True):
            if there:
                own = self._products.get(pair)
                own = torch.zeros(self.size, self.size, dtype=torch.int64, device=self.device) if own is None else own
                self._products[pair] = processes.sum(own)

    def result(self) -> Moments:
        """Of everything that was added. Needs two vectors at least."""
        self._flush()
        assert self.count > 1, "a covariance needs two vectors"
        total = sum(torch.ldexp(s.cpu().double(), torch.tensor(e)) for s, e in zip(self._sums, EXPONENTS, strict=True))
        assert isinstance(total, Tensor)
        products = torch.zeros(self.size, self.size, dtype=torch.float64)
        for (i, j), product in sorted(self._products.items()):
            part = torch.ldexp(product.cpu().double(), torch.tensor(EXPONENTS[i] + EXPONENTS[j]))
            products += part if i == j else part + part.T
        mean = total / self.count
        return Moments(self.count, mean, (products - torch.outer(total, mean)) / (self.count - 1))


def moments(features: Tensor) -> Moments:
    """Of features [N, F] in one process."""
    exact = ExactMoments(features.shape[1], features.device)
    exact.add(features)
    return exact.result()
