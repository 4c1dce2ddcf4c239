"""Every random number of a run is a function of (seed, purpose, ordinal): nothing random has state.

The generator is Philox-4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), written in integer
tensor operations, so that the CPU and a GPU give the same bits. Its counter is

    (block, purpose, ordinal low, ordinal high)        key: (seed low, seed high)

where `ordinal` counts samples over the whole run and over all processes. A process therefore draws only for its own
samples, a resumed run needs no saved state, and no two draws of a run can meet.

The unit is 16 random bits (eight to a block): enough for a dropout mask, an augmentation or a latent, and half the
cost of 32. What is drawn stays an int16 tensor of raw bits until `uniform`, `normal` or `keep` reads it.
"""

from collections.abc import Mapping
from enum import IntEnum, unique
from functools import lru_cache

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_CHUNK = 1 << 14  # counters handled at once: temporaries stay in the cache (seen: 9x slower per number at 36,000)

BITS_PER_BLOCK = 8  # 16-bit units in one block of 128 bits


@unique
class Purpose(IntEnum):
    """What a number is for. The values are part of what a seed means: never renumber them."""

    GENERATOR_WEIGHTS = 1
    DISCRIMINATOR_WEIGHTS = 2
    SHUFFLE = 3
    STACK = 4
    FLIP = 5
    GENERATED_DATA = 6
    SAMPLE = 7
    STATISTICS = 8
    # D's turn: latents and G's own noise; augmentation and D's own noise for each kind of image that D sees
    D_TURN_GENERATE = 16
    D_TURN_REAL = 17
    D_TURN_FAKE = 18
    D_TURN_MIXED = 19
    # G's turn
    G_TURN_GENERATE = 24
    G_TURN_REAL = 25
    G_TURN_FAKE = 26


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


def draw(seed: int, purposes: Mapping[Purpose, int], ordinals: Tensor) -> dict[Purpose, Tensor]:
    """16-bit numbers for each sample and purpose, all in one evaluation of Philox.

    Args:
        seed: the run's seed.
        purposes: how many 16-bit numbers a sample needs for each purpose.
        ordinals: int64 [n].

    Returns:
        for each purpose int16 [n, count]: raw bits, the same whatever else is drawn beside them.
    """
    plan = tuple((purpose, -(-count // BITS_PER_BLOCK)) for purpose, count in purposes.items())
    n = len(ordinals)
    block, purpose_word, row = _layout(plan, n, ordinals.device)
    of_row = ordinals[row]
    bits = philox(torch.stack([block, purpose_word, of_row & _MASK, of_row >> 32]), seed).t().to(torch.int32)
    bits = bits.contiguous().view(torch.int16)  # [blocks, 8]
    parts = bits.split([n * blocks for _, blocks in plan])
    return {
        purpose: part.reshape(n, -1)[:, : purposes[purpose]] for (purpose, _), part in zip(plan, parts, strict=True)
    }


def words(seed: int, purpose: Purpose, ordinals: Tensor, count: int) -> Tensor:
    """int64 [n, count] of whole 32-bit numbers in [0, 2^32), for shuffling and choosing."""
    blocks = -(-count // 4)
    block, purpose_word, row = _layout(((purpose, blocks),), len(ordinals), ordinals.device)
    of_row = ordinals[row]
    bits = philox(torch.stack([block, purpose_word, of_row & _MASK, of_row >> 32]), seed)
    return bits.t().reshape(len(ordinals), blocks * 4)[:, :count]


def uniform(bits: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Uniform numbers in (0, 1), the middles of 2^16 cells, from raw bits (int16, any shape)."""
    return (bits.to(dtype) + 32768.5) / 65536


def normal(bits: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal numbers from raw bits (int16, any shape): the quantile of each of 2^16 equally likely cells.

    A look-up and no arithmetic, hence the same bits on every device. Mean 0, variance 1, largest magnitude 4.3.
    """
    return _quantiles(bits.device)[bits.to(torch.int32) + 32768].to(dtype)


def keep(bits: Tensor, drop: float, dtype: torch.dtype) -> Tensor:
    """Dropout's factors from raw bits: 0 with probability `drop` (to 2^-16), else 1 / (1 - drop); mean exactly 1."""
    dropped = round(drop * 65536)
    return (bits >= dropped - 32768).to(dtype).mul_(65536 / (65536 - dropped))


def permutation(seed: int, ordinal: int, n: int) -> Tensor:
    """int64 [n]: a permutation of 0..n-1, one for each ordinal (a pass over the data), on the CPU."""
    index = torch.arange(n)
    constants = [torch.full_like(index, word) for word in (Purpose.SHUFFLE, ordinal & _MASK, ordinal >> 32)]
    high, low = philox(torch.stack([index, *constants]), seed)[:2]
    return torch.argsort((high << 31) ^ low, stable=True)


@lru_cache(maxsize=64)
def _constants(seed: int, device: torch.device) -> tuple[Tensor, tuple[Tensor, ...]]:
    keys = [
        [[((half & _MASK) + turn * weyl) & _MASK] for half, weyl in zip((seed, seed >> 32), _WEYL, strict=True)]
        for turn in range(_ROUNDS)
    ]
    multipliers = torch.tensor([[m] for m in _MULTIPLIERS], device=device)
    return multipliers, tuple(torch.tensor(key, device=device) for key in keys)


@lru_cache(maxsize=64)
def _layout(plan: tuple[tuple[Purpose, int], ...], n: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The parts of the counters that are the same for every batch: block and purpose words, and the row of each."""
    block = torch.cat([torch.arange(blocks).repeat(n) for _, blocks in plan])
    purpose = torch.cat([torch.full((n * blocks,), int(purpose)) for purpose, blocks in plan])
    row = torch.cat([torch.arange(n).repeat_interleave(blocks) for _, blocks in plan])
    return block.to(device), purpose.to(device), row.to(device)


@lru_cache(maxsize=8)
def _quantiles(device: torch.device) -> Tensor:
    cells = (torch.arange(65536, dtype=torch.float64) + 0.5) / 65536
    atoms = torch.special.ndtri(cells)
    return (atoms / atoms.square().mean().sqrt()).float().to(device)
