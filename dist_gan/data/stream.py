"""From ordinals to batches: which samples of the run are this process's, and what they look like.

Sample `o` of the run is image `permutation(seed, o // M)[o % M]` of the M images: an endless stream of passes, each in
its own order, without partial batches. Rank r of W takes the r-th of W equal parts of each global batch.

Where G's turn has real images of its own, that of ordinal `o` has sample `o + FRESH`, far away in the same stream.
"""

from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor

from dist_gan.data.source import Batch, Dataset
from dist_gan.errors import ConfigError
from dist_gan.randomness import Purpose, draw, permutation, words

FRESH = 1 << 39
"""No run sees as many images: half of all ordinals."""


class Stream:
    """This process's part of every global batch."""

    def __init__(
        self,
        dataset: Dataset,
        *,
        seed: int,
        batch_size: int,
        rank: int,
        processes: int,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        flip: bool = False,
        fresh_every: int = 0,
    ) -> None:
        """`batch_size` is that of all processes, a multiple of `processes`. Raises ConfigError for fewer images.
        `fresh_every`: each batch of this number has real images for G's turn beside it; 0: none."""
        if len(dataset) < batch_size:
            raise ConfigError(
                f"data: {len(dataset)} images are fewer than one batch of {batch_size}. "
                f"Give more images, or batch_size={len(dataset)} or less"
            )
        self.dataset = dataset
        self.seed = seed
        self.batch_size = batch_size
        self.per_process = batch_size // processes
        self.first = rank * self.per_process
        self.device = device
        self.dtype = dtype
        self.flip = flip
        self.fresh_every = fresh_every
        self._permutation = lru_cache(maxsize=4 if fresh_every else 2)(self._permute)  # two passes at once, of each

    def batches(self, images_seen: int) -> Iterator[Batch]:
        """This process's part of the global batch that starts at `images_seen`, and of all after it (endless)."""
        each = self.fresh_every
        if not each:
            yield from self._from(images_seen, self.batch_size)
        fresh = self._from(images_seen + FRESH + (each - 1) * self.batch_size, each * self.batch_size)
        for number, batch in enumerate(self._from(images_seen, self.batch_size), start=1):
            yield batch if number % each else batch._replace(fresh=next(fresh))

    def _from(self, images_seen: int, step: int) -> Iterator[Batch]:
        raw = self.dataset.batches(self._ranges(images_seen, step), self._order, self._choose)
        for ordinals, (images, labels) in zip(self._ranges(images_seen, step), raw, strict=True):
            yield self._batch(ordinals, images, labels)

    def _batch(self, ordinals: range, images: Tensor, labels: Tensor) -> Batch:
        images = images.to(self.device, non_blocking=True).to(self.dtype).div_(127.5).sub_(1)
        if self.flip:
            mirrored = draw(self.seed, {Purpose.FLIP: 1}, ordinals, self.device)[Purpose.FLIP] < 0
            images = torch.where(mirrored[:, :, None, None], images.flip(3), images)
        return Batch(images, labels.to(self.device, non_blocking=True), ordinals)

    def _ranges(self, images_seen: int, step: int) -> Iterator[range]:
        start = images_seen + self.first
        while True:
            yield range(start, start + self.per_process)
            start += step

    def _order(self, ordinals: range) -> Tensor:
        count = len(self.dataset)
        parts = []
        start = ordinals.start
        while start < ordinals.stop:
            epoch, position = divmod(start, count)
            taken = min(ordinals.stop - start, count - position)
            parts.append(self._permutation(epoch)[position : position + taken].long())
            start += taken
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _choose(self, ordinals: range, k: int) -> Tensor:
        return (words(self.seed, Purpose.STACK, ordinals, k, self.device) * len(self.dataset)) >> 32

    def _permute(self, epoch: int) -> Tensor:
        kept = torch.int32 if len(self.dataset) < 2**31 else torch.int64  # half of the memory, and of the way to a GPU
        return permutation(self.seed, epoch, len(self.dataset)).to(self.device, kept)
