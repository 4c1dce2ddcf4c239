"""The hand-written candidates. Each is an alternating update as a person would write it, without any of dist_gan."""

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
import torch.distributed as dist
from plain import Pair
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.nn.parallel import DistributedDataParallel

LEARNING_RATE, BETAS, REAL_TARGET = 2**-12, (0.5, 0.999), 0.9
# The rate is one that float32 holds exactly. On a GPU dist_gan's optimizers keep it in float32: 2e-4 would be off by a
# part in 1e8, and DCGAN-64 makes a difference of 1e-3 of that in ten updates.
HALF_LIFE, RAMP = 10_000, 0.05  # of the average, in images

Way = Literal["together", "apart", "twice"]
"""D's turn: real and fake in one forward; in two with one backward; in two with a backward each."""
WAYS: tuple[Way, ...] = ("together", "apart", "twice")


class Candidate(Protocol):
    """What is compared."""

    @property
    def pair(self) -> Pair: ...
    @property
    def average(self) -> nn.Module: ...
    def run(self, updates: int) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Setup:
    """What every hand-written candidate is given."""

    pair: Pair
    images: Iterator[Tensor]
    """Real batches [N, C, H, W] in [-1, 1], on the device."""
    latents: Callable[[], Tensor]
    """[N, Z] for D's turn, then for G's turn, and so on."""
    batch: int
    bf16: bool

    @property
    def device(self) -> torch.device:
        return next(self.pair.generator.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.pair.generator.parameters()).dtype

    def autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)


def shuffled(images: Tensor, batch: int, *, channels_last: bool) -> Iterator[Tensor]:
    """Endless passes over uint8 images [M, C, H, W] on their device, each in an order of its own."""
    if channels_last:
        images = images.permute(0, 2, 3, 1).contiguous()
    while True:
        order = torch.randperm(len(images), device=images.device)
        for chosen in order[: len(order) // batch * batch].split(batch):
            real = images[chosen].float().div_(127.5).sub_(1)
            yield real.permute(0, 3, 1, 2) if channels_last else real


def average_weight(images_seen: int, batch: int) -> float:
    """The newest weights' weight in the average, after an update that began at `images_seen`."""
    half_life = min(HALF_LIFE, RAMP * images_seen)
    return float(1 - 0.5 ** (batch / half_life)) if half_life else 1.0


class Classic:
    """PyTorch's DCGAN example, with fresh latents in G's turn, smoothed labels and a moving average."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.pair = setup.pair
        self.average = copy.deepcopy(setup.pair.generator)
        self.criterion = nn.BCEWithLogitsLoss()
        self.optimizer_G, self.optimizer_D = (
            torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, betas=BETAS) for network in setup.pair
        )
        self.images_seen = 0

    def run(self, updates: int) -> None:
        for _ in range(updates):
            self.update()

    def update(self) -> None:
        setup, (G, D) = self.setup, self.pair
        D.zero_grad()
        real = next(setup.images)
        label = torch.full((setup.batch,), REAL_TARGET, device=real.device, dtype=real.dtype)
        with setup.autocast():
            error = self.criterion(D(real), label)
        error.backward()
        label.fill_(0)
        with setup.autocast():
            fake = G(setup.latents())
            error = self.criterion(D(fake.detach()), label)
        error.backward()
        self.optimizer_D.step()

        G.zero_grad()
        label.fill_(1)
        with setup.autocast():
            error = self.criterion(D(G(setup.latents())), label)
        error.backward()
        self.optimizer_G.step()

        weight = average_weight(self.images_seen, setup.batch)
        self.images_seen += setup.batch
        with torch.no_grad():
            for mean, parameter in zip(self.average.parameters(), G.parameters(), strict=True):
                mean.mul_(1 - weight).add_(parameter, alpha=weight)

    def close(self) -> None:
        """Nothing is held."""


class Rules:
    """Losses of the best loop."""

    def __init__(self, setup: Setup, way: Way) -> None:
        self.way = way
        batch = setup.batch
        self.both = torch.tensor([REAL_TARGET] * batch + [0.0] * batch, device=setup.device, dtype=setup.dtype)
        self.real, self.fake = self.both.split(batch)
        self.ones = torch.ones(batch, device=setup.device, dtype=setup.dtype)

    def discriminator(self, D: nn.Module, real: Tensor, fake: Tensor) -> Iterator[Tensor]:
        """D's losses, each to be differentiated before the next is asked for."""
        if self.way == "together":
            yield 2 * binary_cross_entropy_with_logits(D(torch.cat([real, fake])), self.both)
        elif self.way == "apart":
            losses = [binary_cross_entropy_with_logits(D(x), t) for x, t in ((real, self.real), (fake, self.fake))]
            yield losses[0] + losses[1]
        else:
            yield binary_cross_entropy_with_logits(D(real), self.real)
            yield binary_cross_entropy_with_logits(D(fake), self.fake)

    def generator(self, D: nn.Module, fake: Tensor) -> Tensor:
        return binary_cross_entropy_with_logits(D(fake), self.ones)


class Average:
    """The moving average in one kernel (or three)."""

    def __init__(self, generator: nn.Module, batch: int) -> None:
        self.network = copy.deepcopy(generator).requires_grad_(False)
        self._mine: list[Tensor] = list(self.network.parameters())
        self._theirs: list[Tensor] = list(generator.parameters())
        self._batch = batch
        self._images_seen = 0

    def next_weight(self) -> float:
        """That of the newest weights in the next step."""
        weight = average_weight(self._images_seen, self._batch)
        self._images_seen += self._batch
        return weight

    @torch.no_grad()
    def follow(self, weight: float | Tensor) -> None:
        if isinstance(weight, Tensor):
            torch._foreach_lerp_(self._mine, self._theirs, [weight] * len(self._mine))
        else:
            torch._foreach_lerp_(self._mine, self._theirs, weight)


def fast_adam(network: nn.Module) -> torch.optim.Adam:
    return torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, betas=BETAS, fused=True)


class Best:
    """The fastest loop we know how to write by hand; it logs nothing and checks nothing."""

    def __init__(self, setup: Setup, way: Way) -> None:
        self.setup = setup
        self.pair = setup.pair
        self._average = Average(setup.pair.generator, setup.batch)  # a copy, so before anything wraps G
        self.own = self.wrap(setup.pair)
        self.rules = Rules(setup, way)
        self.optimizer_G, self.optimizer_D = (fast_adam(network) for network in setup.pair)

    @property
    def average(self) -> nn.Module:
        return self._average.network

    def wrap(self, pair: Pair) -> Pair:
        """What a player's own turn calls."""
        return pair

    def run(self, updates: int) -> None:
        for _ in range(updates):
            self.update()

    def update(self) -> None:
        setup = self.setup
        self.step(next(setup.images), setup.latents(), setup.latents(), self._average.next_weight())

    def step(self, real: Tensor, latents_D: Tensor, latents_G: Tensor, weight: float | Tensor) -> None:
        setup, (G, D) = self.setup, self.pair
        with torch.no_grad(), setup.autocast():
            fake = G(latents_D)
        losses = self.rules.discriminator(self.own.discriminator, real, fake)
        while (loss := self._next(losses)) is not None:
            loss.backward()
        self.optimizer_D.step()
        self.optimizer_D.zero_grad()

        D.requires_grad_(False)
        with setup.autocast():
            loss = self.rules.generator(D, self.own.generator(latents_G))
        loss.backward()
        self.optimizer_G.step()
        self.optimizer_G.zero_grad()
        D.requires_grad_(True)
        self._average.follow(weight)

    def _next(self, losses: Iterator[Tensor]) -> Tensor | None:
        with self.setup.autocast():
            return next(losses, None)

    def close(self) -> None:
        """Nothing is held."""


class BestDDP(Best):
    """The same under DistributedDataParallel; to be made between `join` and `leave`."""

    def wrap(self, pair: Pair) -> Pair:
        device_ids = [self.setup.device] if self.setup.device.type == "cuda" else None
        wrapped = Pair(*(DistributedDataParallel(n, device_ids, gradient_as_bucket_view=True) for n in pair))
        for network in wrapped:
            network.broadcast_buffers = False  # type: ignore[assignment]  # the argument's name depends on torch's version
        return wrapped


class Capture(Protocol):
    """Makes graphs: dist_gan's, so that both are captured alike."""

    def warm_up(self, function: Callable[[], object]) -> None: ...
    def capture(self, function: Callable[[], object]) -> Callable[[], None]: ...


class BestGraph(Best):
    """The same as one graph, into whose inputs each batch is copied."""

    def __init__(self, setup: Setup, way: Way, capture: Capture) -> None:
        super().__init__(setup, way)
        self._capture = capture
        self._play: Callable[[], None] | None = None
        self._inputs: list[Tensor] = []
        self._weight = torch.zeros((), device=setup.device, dtype=setup.dtype)

    def update(self) -> None:
        setup = self.setup
        given = [next(setup.images), setup.latents(), setup.latents()]
        first = not self._inputs
        self._inputs = self._inputs or [torch.empty_like(tensor) for tensor in given]
        for own, tensor in zip(self._inputs, given, strict=True):
            own.copy_(tensor)
        self._weight.fill_(self._average.next_weight())
        if first:
            self._capture.warm_up(self._step)
            return
        self._play = self._play or self._capture.capture(self._step)
        self._play()

    def _step(self) -> None:
        real, latents_D, latents_G = self._inputs
        self.step(real, latents_D, latents_G, self._weight)


def join(device: torch.device) -> str:
    """Make a process group of this process alone, without a port. Returns why it cannot be made, else nothing."""
    try:
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined, unused-ignore]
    except (RuntimeError, ValueError) as error:
        return f"no process group: {str(error).splitlines()[0]}"
    return ""


def leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
