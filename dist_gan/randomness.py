"""Every random number of a run is a function of (seed, purpose, ordinal). There is no random state.

The generator is Philox-4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"). The seed is its
key, and its counter of 128 bits is

    purpose << 58 | block << 40 | ordinal

where `ordinal` counts samples over the complete run and all processes (up to 10^12), and `block` counts the 128-bit
blocks of one sample (up to 2^18). So a process draws only for its own samples, a resumed run needs no saved state, and
no two draws of a run use the same counter.

Recent releases of torch have this generator as an operator, which is private and may change. It is used only where a
test shows that it gives the right bits; elsewhere integer tensor operations give the same ones, on a CPU and on a GPU.

The unit is 16 random bits (eight units in a block): enough for a dropout mask, an augmentation or a latent, and half
the cost of 32. Drawn bits stay an int16 tensor until `uniform`, `normal` or `keep` reads them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, unique
from functools import cache

import torch
from torch import Tensor

CPU = torch.device("cpu")

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_BLOCK_BITS, _ORDINAL_BITS = 18, 40
_CHUNK = 1 << 14  # counters computed at once: temporaries stay in the cache (measured: 9x slower per number at 36,000)

BITS_PER_BLOCK = 8  # 16-bit units in one block of 128 bits
MOST_NUMBERS = BITS_PER_BLOCK << _BLOCK_BITS
"""Of 16 bits, for one purpose of one sample."""


@unique
class Purpose(IntEnum):
    """What a number is for. The values, below 32, are part of the meaning of a seed: never change them."""

    GENERATOR_WEIGHTS = 1
    DISCRIMINATOR_WEIGHTS = 2
    SHUFFLE = 3
    STACK = 4
    FLIP = 5
    GENERATED_DATA = 6
    SAMPLE = 7
    STATISTICS = 8
    STATISTICS_CLASS = 9
    LAYER_STATE = 10
    SAMPLE_CLASS = 11
    # The digit network of the metrics: its initial weights, and how its training images are moved and turned
    DIGIT_WEIGHTS = 12
    DIGIT_WARP = 13
    # D's turn: latents and G's own noise; augmentation and D's own noise for each kind of image that D sees
    D_TURN_GENERATE = 16
    D_TURN_REAL = 17
    D_TURN_FAKE = 18
    D_TURN_MIXED = 19
    D_TURN_PENALTY = 20
    # G's turn
    G_TURN_GENERATE = 24
    G_TURN_REAL = 25
    G_TURN_FAKE = 26
    G_TURN_PENALTY = 27
    # Metrics: subsets and directions that are drawn, and the latents of the images that are judged
    METRIC_DIRECTION = 28
    METRIC = 29
    EVALUATION = 30


@dataclass(frozen=True)
class Ordinals:
    """Consecutive samples of a run, the first of which is a number on the device: the same code then draws other
    numbers whenever another one is filled in."""

    first: Tensor
    """int64 []."""
    count: int

    def __len__(self) -> int:
        return self.count


Plan = tuple[tuple[Purpose, int], ...]
"""How many blocks for each purpose."""


def philox(counter: Tensor, seed: int) -> Tensor:
    """Philox-4x32-10.

    Args:
        counter: int64 [4, n], each value in [0, 2^32).
        seed: 64 bits; its low half is the first key word.

    Returns:
        int64 [4, n], each value in [0, 2^32).
    """
    if counter.shape[1] > _CHUNK:
        return torch.cat([philox(chunk, seed) for chunk in counter.split(_CHUNK, dim=1)], dim=1)
    multipliers, keys = _constants(seed & 0xFFFFFFFFFFFFFFFF, counter.device)
    even, odd = counter[0::2], counter[1::2]
    for key in keys:
        # 64-bit products may wrap to negative numbers: their bits are right, and the mask removes the sign's copies.
        # The low words keep garbage above bit 32, which the next mask removes too.
        product = (even * multipliers).flip(0)
        even = (product >> 32).bitwise_xor_(odd).bitwise_xor_(key).bitwise_and_(_MASK)
        odd = product
    return torch.stack([even[0], odd[0] & _MASK, even[1], odd[1] & _MASK])


def draw(
    seed: int, purposes: Mapping[Purpose, int], ordinals: range | Ordinals, device: torch.device = CPU
) -> dict[Purpose, Tensor]:
    """16-bit numbers for each sample and purpose, all in one evaluation of Philox.

    Args:
        seed: the run's seed.
        purposes: how many 16-bit numbers a sample needs for each purpose.
        ordinals: of n consecutive samples.
        device: of the numbers.

    Returns:
        for each purpose int16 [n, count]: raw bits, the same whatever else is drawn in the same call.
    """
    plan = tuple((purpose, -(-count // BITS_PER_BLOCK)) for purpose, count in purposes.items())
    bits = _blocks(seed, plan, ordinals, device).view(torch.int16).flatten(1)
    drawn = {}
    start = 0
    for purpose, blocks in plan:
        drawn[purpose] = bits[:, start : start + purposes[purpose]]
        start += blocks * BITS_PER_BLOCK
    return drawn


def words(seed: int, purpose: Purpose, ordinals: range, count: int, device: torch.device = CPU) -> Tensor:
    """int64 [n, count] of 32-bit numbers in [0, 2^32), for choosing."""
    bits = _blocks(seed, ((purpose, -(-count // 4)),), ordinals, device)
    return bits.view(torch.int32).flatten(1)[:, :count].to(torch.int64) & _MASK


def uniform(bits: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Uniform numbers in (0, 1), the middles of 2^16 cells, from raw bits (int16, any shape)."""
    return (bits.to(dtype) + 32768.5) / 65536


def normal(bits: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal numbers from raw bits (int16, any shape): the quantile of each of 2^16 equally likely cells.

    A table is read and nothing is computed, so the bits are the same on every device.
    Mean 0, variance 1, largest magnitude 4.3.
    """
    cells = (bits.to(torch.int32) + 32768).flatten()
    return _quantiles(bits.device).index_select(0, cells).view(bits.shape).to(dtype)


def keep(bits: Tensor, drop: float, dtype: torch.dtype) -> Tensor:
    """Dropout's factors from raw bits: 0 with probability `drop` (to 2^-16), else 1 / (1 - drop); mean exactly 1."""
    dropped = round(drop * 65536)
    above = bits.to(dtype).sub_(dropped - 32768.5)  # never 0; stretched and clamped it costs half of a comparison
    return above.mul_(2**18).clamp_(0, 65536 / (65536 - dropped))


def permutation(seed: int, epoch: int, n: int) -> Tensor:
    """int64 [n]: a permutation of 0..n-1, one for each epoch (pass over the data), on the CPU."""
    ordinals = range(epoch * n, (epoch + 1) * n)
    return torch.argsort(_blocks(seed, ((Purpose.SHUFFLE, 1),), ordinals, CPU)[:, 0, 0], stable=True)


def _blocks(seed: int, plan: Plan, ordinals: range | Ordinals, device: torch.device) -> Tensor:
    """int64 [n, blocks, 2]: the blocks of each ordinal, those of the first purpose first."""
    keys, one = _first_keys(seed, plan, device)
    if isinstance(ordinals, Ordinals):
        keys = keys + one * ordinals.first
    else:
        assert ordinals.step == 1
        assert ordinals.stop <= 1 << _ORDINAL_BITS, "a run has at most 2^40 samples"
        keys = torch.add(keys, one, alpha=ordinals.start)
    if _is_built_in(device):
        return torch.ops.aten._philox_key_split(keys.view(torch.uint64), len(ordinals)).view(torch.int64)
    return _split(keys, seed, len(ordinals))


def _split(keys: Tensor, seed: int, n: int) -> Tensor:
    """keys int64 [blocks, 2] (seed, counter) -> int64 [n, blocks, 2]: the blocks at n counters from each one on."""
    counters = (keys[:, 1] + torch.arange(n, device=keys.device)[:, None]).flatten()
    zeros = torch.zeros_like(counters)
    a, b, c, d = philox(torch.stack([counters & _MASK, (counters >> 32) & _MASK, zeros, zeros]), seed)
    return torch.stack([a | (b << 32), c | (d << 32)], dim=1).view(n, len(keys), 2)


@cache
def _constants(seed: int, device: torch.device) -> tuple[Tensor, tuple[Tensor, ...]]:
    keys = [
        [[((half & _MASK) + turn * weyl) & _MASK] for half, weyl in zip((seed, seed >> 32), _WEYL, strict=True)]
        for turn in range(_ROUNDS)
    ]
    multipliers = torch.tensor([[m] for m in _MULTIPLIERS], device=device)
    return multipliers, tuple(torch.tensor(key, device=device) for key in keys)


@cache
def _first_keys(seed: int, plan: Plan, device: torch.device) -> tuple[Tensor, Tensor]:
    """int64 [blocks, 2]: (seed, counter at ordinal 0) of each block; and what one ordinal more adds."""
    counters = []
    for purpose, blocks in plan:
        assert blocks <= 1 << _BLOCK_BITS, f"{purpose.name} needs too many numbers for one sample"
        first = int(purpose) << (_BLOCK_BITS + _ORDINAL_BITS)
        counters += [first | block << _ORDINAL_BITS for block in range(blocks)]
    # From pinned memory, so that a GPU does not wait where a turn is played for the first time in the middle of a run.
    keys = torch.tensor([[seed, counter] for counter in counters], dtype=torch.int64, pin_memory=device.type == "cuda")
    return keys.view(-1, 2).to(device, non_blocking=True), torch.arange(2, device=device)


@cache
def _is_built_in(device: torch.device) -> bool:
    """Whether torch has its own operator, and it gives the right bits on `device`."""
    keys = torch.tensor([[3, 5], [1 << 40, (1 << 32) - 2]], device=device)
    try:
        found = torch.ops.aten._philox_key_split(keys.view(torch.uint64), 3).view(torch.int64)
        return all(torch.equal(found[:, i], _split(keys[i : i + 1], int(keys[i, 0]), 3)[:, 0]) for i in range(2))
    except (AttributeError, RuntimeError, TypeError):
        return False


@cache
def _quantiles(device: torch.device) -> Tensor:
    cells = (torch.arange(65536, dtype=torch.float64) + 0.5) / 65536
    atoms = torch.special.ndtri(cells)
    return (atoms / atoms.square().mean().sqrt()).float().to(device)
