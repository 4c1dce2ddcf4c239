"""What a feature network sees in many images, computed by all processes: exactly the same on any number of them.

Images come in chunks of one fixed shape, since a kernel's rounding depends on the shape. On a CPU each chunk is
computed in one thread, as many at a time as this process has threads: the bits then do not depend on that number
either, and it is faster than many threads for one chunk. Chunk k is computed by process k mod W.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import torch
from torch import Tensor

from dist_gan.distributed.processes import Processes
from dist_gan.distributed.traffic import purpose
from dist_gan.errors import DataError
from dist_gan.metrics.features import FeatureNetwork, plain_float32
from dist_gan.metrics.metric import Need, Summary
from dist_gan.metrics.moments import ExactMoments
from dist_gan.sampling.generate import FORWARD

Images = Callable[[], tuple[Tensor, Tensor]]
"""Makes or hands over the images uint8 [n, C, H, W] of a chunk, and their classes int64 [n], or empty."""
Source = Callable[[Iterable[range]], Iterator[Images]]
"""Ranges of ordinals -> the images of each."""


def chunk_size(device: torch.device) -> int:
    """Images of one forward of a feature network."""
    return FORWARD if device.type == "cpu" else 8 * FORWARD


class Extraction:
    """Extracts features on all processes. Every method must be called by all of them."""

    def __init__(self, processes: Processes, pause: Callable[[int], None]) -> None:
        """`pause`: called by all after the same rounds of work, about every second or more often, with how many images
        all have seen since the last call; it may raise on all alike, which ends the work."""
        self.processes = processes
        self.pause = pause
        here = torch.get_num_threads() if processes.device.type == "cpu" else 1
        self.threads = here
        self.per_round = int(processes.max(torch.tensor([here], device=processes.device)).item())

    def summaries(
        self, network: FeatureNetwork, source: Source, wanted: Mapping[int, set[Need]], total: int
    ) -> dict[int, Summary]:
        """What is `wanted` of the first `n` images, for each n; `total` is the largest n.

        Returns:
            n -> the summary, on rank 0; others get empty ones.
        """
        size = chunk_size(self.processes.device)
        starts = range(0, total, size)
        ranges = [range(start, min(start + size, total)) for start in starts]
        mine = ranges[self.processes.rank :: self.processes.count]
        rounds = -(-len(ranges) // (self.processes.count * self.per_round))
        gatherers = {n: _Gatherer(n, needs, network, self.processes) for n, needs in wanted.items()}
        with self._seeing(network, source(mine)) as seen, purpose("evaluation"):
            for ordinals, part in zip(_padded(mine, rounds * self.per_round), itertools.count(1), strict=False):
                if ordinals is not None:
                    features, logits, labels = next(seen)
                    for gatherer in gatherers.values():
                        gatherer.add(ordinals, features, logits, labels)
                if part % self.per_round == 0:
                    self.pause(min(size * self.processes.count * self.per_round, total))
            return {n: gatherer.finish(len(ranges)) for n, gatherer in gatherers.items()}

    @contextmanager
    def _seeing(self, network: FeatureNetwork, chunks: Iterator[Images]) -> Iterator[Iterator[tuple[Tensor, ...]]]:
        """Features, logits and labels of each chunk, in order, computed ahead by the threads."""
        size = chunk_size(self.processes.device)

        def see(images_of: Images) -> tuple[Tensor, ...]:
            with torch.inference_mode():
                images, labels = images_of()
                padded = torch.cat([images, images[:1].expand(size - len(images), -1, -1, -1)])
                found = network(padded.to(self.processes.device))
                logits = torch.empty(0) if found.logits is None else found.logits[: len(images)].float().cpu()
                return found.features[: len(images)].float(), logits, labels.cpu()

        def ahead(pool: ThreadPoolExecutor) -> Iterator[tuple[Tensor, ...]]:
            waiting: deque[Future[tuple[Tensor, ...]]] = deque()
            for images_of in chunks:
                waiting.append(pool.submit(see, images_of))
                if len(waiting) > 2 * self.threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

        if self.processes.device.type != "cpu":
            with plain_float32(self.processes.device):
                yield (see(images_of) for images_of in chunks)
            return
        threads = torch.get_num_threads()
        pool = ThreadPoolExecutor(self.threads, "features", initializer=torch.set_num_threads, initargs=(1,))
        try:
            yield ahead(pool)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            torch.set_num_threads(threads)  # threads that start from now on have as many as before


def _padded(ranges: list[range], count: int) -> Iterator[range | None]:
    return itertools.islice(itertools.chain(ranges, itertools.repeat(None)), count)


class _Gatherer:
    """What is wanted of the first `count` images, as far as this process sees them."""

    def __init__(self, count: int, needs: set[Need], network: FeatureNetwork, processes: Processes) -> None:
        self.count = count
        self.needs = needs
        self.processes = processes
        self.moments = ExactMoments(network.size, processes.device) if "moments" in needs else None
        self.widths = {"features": network.size, "logits": len(network.classes), "labels": 1}
        self.rows: dict[str, list[Tensor]] = {kind: [] for kind in self.widths if kind in needs}

    def add(self, ordinals: range, features: Tensor, logits: Tensor, labels: Tensor) -> None:
        here = max(0, min(self.count, ordinals.stop) - ordinals.start)
        if not here:
            return
        if self.moments is not None:
            try:
                self.moments.add(features[:here])
            except ValueError as error:
                raise DataError(f"features of the images from {ordinals.start} on: {error}") from None
        assert "labels" not in self.rows or len(labels), "images of classes"
        found = {"features": features, "logits": logits, "labels": labels[:, None]}
        for kind, rows in self.rows.items():
            rows.append(found[kind][:here].cpu())

    def finish(self, chunks: int) -> Summary:
        """All of it, on rank 0. `chunks`: of the complete pass, over all processes."""
        found = {kind: self._ordered(kind, rows, chunks) for kind, rows in self.rows.items()}
        labels = found.get("labels")
        result = None
        if self.moments is not None:
            self.moments.reduce(self.processes)
            result = self.moments.result() if self.processes.is_first else None
        return Summary(
            self.count,
            result,
            found.get("features"),
            found.get("logits"),
            None if labels is None else labels[:, 0],
        )

    def _ordered(self, kind: str, rows: list[Tensor], chunks: int) -> Tensor | None:
        """The rows of all processes in the order of the ordinals, on rank 0."""
        size, count = chunk_size(self.processes.device), self.processes.count
        dtype = torch.int64 if kind == "labels" else torch.float32
        each = -(-chunks // count) * size
        own = torch.zeros(each, self.widths[kind], dtype=dtype)
        if rows:
            together = torch.cat(rows)
            own[: len(together)] = together
        gathered = self.processes.gather_rows(own)
        if gathered is None:
            return None
        # [W, chunk of a process, row] -> chunk k at place k // W of process k mod W
        return (
            torch.stack(gathered).view(count, -1, size, self.widths[kind]).transpose(0, 1).flatten(0, 2)[: self.count]
        )
