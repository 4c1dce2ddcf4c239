"""Which images of many are the same, and which look almost the same.

The same: their pixels have one digest. Almost the same: their dHashes differ in at most `DISTANCE` of 64 bits, and
their thumbnails by little too, because plain pictures (a digit on black) have few hashes between them.

The index: 64 bits are cut into six bands. Where at most four bits differ, at least two bands are equal. So images that
share two given bands are compared, for each of the 15 pairs of bands. Cost, for M images: 15 sorts of M numbers, and at
most 15 * `NEIGHBORS` * M comparisons, in practice a few M; 100 bytes of memory an image. Where more than `NEIGHBORS`
images share two bands, each is compared with that many of them only, and some may be missed.
"""

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
Bytes = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]

DISTANCE = 4
"""Bits of a dHash that may differ between two images that are almost the same."""
NEIGHBORS = 256
"""Images with which each is compared, at most, of those that share two bands with it."""
CLOSE = 8.0
"""Root of the mean squared difference of two thumbnails, in levels of 255, that are almost the same."""
HEIGHT, WIDTH = 8, 9
"""Of a thumbnail: each row gives eight comparisons of neighbors."""
BANDS = (11, 11, 11, 11, 10, 10)
"""Bits of each band."""
_ONES = np.array([value.bit_count() for value in range(1 << 16)], np.uint8)


def difference_hashes(thumbnails: Bytes) -> Words:
    """dHash: whether each pixel is brighter than its right neighbor. [M, 8, 9] -> [M]."""
    bits = thumbnails[:, :, :-1] > thumbnails[:, :, 1:]
    return np.packbits(bits.reshape(len(bits), 64), axis=1).view(np.uint64)[:, 0]


def same(digests: Bytes) -> Indices:
    """[M, D] digests -> [M]: for each image the first one with the same digest, which may be itself."""
    if not len(digests):
        return np.empty(0, np.int64)
    whole = np.ascontiguousarray(digests).view(np.dtype((np.void, digests.shape[1])))[:, 0]
    _, first, inverse = np.unique(whole, return_index=True, return_inverse=True)
    return first[inverse.reshape(-1)].astype(np.int64)


def almost_same(hashes: Words, thumbnails: Bytes) -> Indices:
    """[M], [M, 8, 9] -> [M]: for each image the first one of its group. Images are in one group where a chain of
    images that are almost the same leads from one to the other."""
    leader = np.arange(len(hashes))
    small = thumbnails.reshape(len(thumbnails), -1)
    for left, right in _candidates(hashes):
        similar = _ones(hashes[left] ^ hashes[right]) <= DISTANCE
        a, b = left[similar], right[similar]
        difference = small[a].astype(np.int16) - small[b]
        close = np.square(difference, dtype=np.int32).mean(1) <= CLOSE**2
        _join(leader, a[close], b[close])
    return leader


def _candidates(hashes: Words) -> Iterator[tuple[Indices, Indices]]:
    """Pairs of images that share two bands, in portions of at most M pairs."""
    starts = np.cumsum((0, *BANDS[:-1]))
    bands = [
        (hashes >> np.uint64(start)) & np.uint64((1 << width) - 1) for start, width in zip(starts, BANDS, strict=True)
    ]
    for first, second in combinations(range(len(BANDS)), 2):
        key = (bands[first] << np.uint64(BANDS[second])) | bands[second]
        order = np.lexsort((hashes, key))
        ordered = key[order]
        for shift in range(1, min(NEIGHBORS, len(order) - 1) + 1):
            (place,) = np.nonzero(ordered[:-shift] == ordered[shift:])
            if not len(place):
                break
            yield order[place], order[place + shift]


def _join(leader: Indices, left: Indices, right: Indices) -> None:
    """Put the groups of each pair together; a group's leader is its first image."""
    while len(left):
        a, b = leader[left], leader[right]
        apart = a != b
        left, right, a, b = left[apart], right[apart], a[apart], b[apart]
        np.minimum.at(leader, np.maximum(a, b), np.minimum(a, b))
        while not np.array_equal(shorter := leader[leader], leader):
            leader[:] = shorter


def _ones(words: Words) -> npt.NDArray[np.int64]:
    """How many bits of each are 1."""
    return _ONES[words.view(np.uint16).reshape(len(words), 4)].sum(1, dtype=np.int64)
