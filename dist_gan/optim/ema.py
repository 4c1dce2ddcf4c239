"""The moving average of G's weights, whose half-life is stated in images."""

import copy
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
from pydantic import BeforeValidator, Discriminator, Field, Tag
from torch import Tensor, nn

from dist_gan.distributed.numerics import one_thread
from dist_gan.distributed.shards import Owners, Shards
from dist_gan.errors import ConfigError
from dist_gan.networks.base import BufferRule, Generator, Measured
from dist_gan.networks.measured import measure
from dist_gan.optim.names import NAMES
from dist_gan.optim.schedules import AnySchedule, Constant
from dist_gan.part import Part
from dist_gan.randomness import Purpose, draw, normal, words

MEASURED = 512
"""Samples from which batch statistics are measured; a multiple of every group that divides it, else rounded up."""


class EMA(Part):
    """How the average forgets old weights. Each average needs memory for one more copy of G's weights."""

    half_life_images: int = Field(10_000, ge=0)
    """After this many images, old weights count half. 0: no average, but the newest weights."""
    ramp: float = Field(0.05, ge=0)
    """At the start, the half-life is at most this part of the images seen (Karras et al. 2020), so that the first
    weights are forgotten soon. 0 is off."""
    schedule: AnySchedule = Constant()
    """Factor of the half-life, by images seen: R3GAN's goes from 0 to 1. Set ramp to 0 with it."""
    begin: int = Field(0, ge=0)
    """Until this many images are seen, the average is the newest weights (Brock et al. 2019 begin it after 1,000
    updates)."""

    def half_life(self, images_seen: int) -> float:
        """In images, of the update that begins at `images_seen`."""
        if images_seen < self.begin:
            return 0.0
        half_life = self.half_life_images * self.schedule.factor(images_seen)
        return min(half_life, self.ramp * images_seen) if self.ramp else half_life

    def weight(self, images_seen: int, images: int) -> float:
        """The weight of the newest weights after an update over `images` images that ended at `images_seen`."""
        half_life = self.half_life(images_seen - images)
        return 1 - 0.5 ** (images / half_life) if half_life else 1.0


def _one_of_a_list(value: Any) -> Any:
    if isinstance(value, list | tuple) and not 1 <= len(value) <= len(NAMES):
        raise ValueError(f"one average, or a list of 1 to {len(NAMES)}")
    return value[0] if isinstance(value, list | tuple) and len(value) == 1 else value


Averages = Annotated[
    Annotated[EMA, Tag("<one>")] | Annotated[tuple[EMA, ...], Tag("<several>")],
    Discriminator(lambda value: "<several>" if isinstance(value, list | tuple) else "<one>"),
    BeforeValidator(_one_of_a_list),
]
"""One average, or a list of them."""


def by_name(averages: EMA | Sequence[EMA]) -> dict[str, EMA]:
    """The averages of a config by their names."""
    listed = [averages] if isinstance(averages, EMA) else averages
    return dict(zip(NAMES[: len(listed)], listed, strict=True))


class Average:
    """A generator whose weights are the average of another's; its buffers follow by the rule that their layer states.
    Only `follow` changes its weights."""

    def __init__(
        self,
        recipe: EMA,
        generator: Generator,
        seed: int,
        batch_multiple: int = 1,
        owners: Owners | None = None,
    ) -> None:
        """Must be made before `generator` is wrapped: a copy of a wrapped one would still call the original.

        Args:
            recipe: how it forgets.
            generator: whose average it is.
            seed: of the latents from which batch statistics are measured.
            batch_multiple: the number of samples in a forward in training mode must be a multiple of this.
            owners: those among which it is sharded; None: each process has all of it.
        """
        self.recipe = recipe
        self.network = copy.deepcopy(generator).requires_grad_(False).eval()
        self._seed = seed
        self._measured_on = -(-MEASURED // batch_multiple) * batch_multiple
        parameters: list[Tensor] = list(self.network.parameters())
        self._shards = Shards(owners, parameters) if owners else None
        own = self._shards.own if self._shards else range(len(parameters))
        self._weights = [parameters[place] for place in own]
        sources: list[Tensor] = list(generator.parameters())
        self._sources = [sources[place] for place in own]
        for name, rule in buffer_rules(generator).items():
            layer = generator.get_submodule(name.rpartition(".")[0])
            if rule == "measure" and not isinstance(layer, Measured):
                raise ConfigError(
                    f"networks: G.{name}: {type(layer).__name__} states `measure` in buffer_rules, and does not say "
                    "how: it needs group, gather and measured (dist_gan.networks.base.Measured). Or state copy, average"
                )
        self._buffers = {
            rule: [pair for name, pair in _paired(self.network, generator).items() if rules[name] == rule]
            for rules in [buffer_rules(generator)]
            for rule in ("copy", "average")
        }

    @torch.no_grad()
    def follow(self, weight: Tensor) -> None:
        """One step towards the generator. weight: [] of the newest; 0 where G skipped its move."""
        weights, sources = self._weights, self._sources
        if averaged := self._buffers["average"]:
            both = [_both(pair) for pair in averaged]
            weights, sources = weights + [own for own, _ in both], sources + [other for _, other in both]
        # One pass over memory, where the arithmetic written out is three; exact at the weights 0 and 1.
        if weights:
            torch._foreach_lerp_(weights, sources, [weight] * len(weights))
        for pair in self._buffers["copy"]:
            own, other = _both(pair)
            own.copy_(other)

    def tensors(self) -> list[Tensor]:
        """What `follow` changes."""
        return [*self._weights, *self.network.buffers()]

    def release(self) -> None:
        """Where it is sharded: give up the memory of what belongs to other processes, until it is needed again."""
        if self._shards:
            self._shards.release()

    def _restore(self) -> None:
        if self._shards:
            self._shards.restore()

    def state(self) -> dict[str, Tensor]:
        """Weights and buffers, batch statistics measured for the weights as they are. Where it is sharded, all
        processes must call this, as all else that gives the whole network."""
        self._restore()
        return {**self.network.state_dict(), **self.measure()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `state`."""
        self._restore()
        self.network.load_state_dict(dict(state))

    def measure(self, network: Generator | None = None) -> dict[str, Tensor]:
        """Measured buffers (batch statistics, say) from fixed latents, of the average or of `network`: equal on all
        ranks, and nothing is communicated."""
        network = network or self.network
        weight = next(network.parameters())
        ordinals, latent = range(self._measured_on), network.latent
        bits = draw(self._seed, {Purpose.STATISTICS: latent}, ordinals, weight.device)[Purpose.STATISTICS]
        condition = None
        if classes := network.classes:
            drawn = words(self._seed, Purpose.STATISTICS_CLASS, ordinals, 1, weight.device)[:, 0]
            condition = (drawn * classes) >> 32
        with one_thread():  # the same on any number of processes, which share the cores
            return measure(network, normal(bits, weight.dtype), condition)

    @torch.no_grad()
    def ready(self) -> Generator:
        """The averaged generator with batch statistics that fit its weights, for making images."""
        self._restore()
        return self._measured(self.network)

    @torch.no_grad()
    def with_weights(self, state: Mapping[str, Tensor]) -> Generator:
        """A copy of the averaged generator with other weights, such as the newest, and batch statistics that fit."""
        self._restore()
        network = copy.deepcopy(self.network)
        network.load_state_dict(dict(state))
        return self._measured(network)

    def _measured(self, network: Generator) -> Generator:
        buffers = dict(network.named_buffers())
        for name, value in self.measure(network).items():
            buffers[name].copy_(value)
        return network


Pair = tuple[nn.Module, nn.Module, str]
"""A layer of the average, the same layer of the generator, and the name of a buffer. Not the buffers themselves,
because DDP replaces them."""


def _paired(average: nn.Module, generator: nn.Module) -> dict[str, Pair]:
    layers = dict(average.named_modules())
    return {
        f"{path}.{name}" if path else name: (layers[path], layer, name)
        for path, layer in generator.named_modules()
        for name, _ in layer.named_buffers(recurse=False)
    }


def _both(pair: Pair) -> tuple[Tensor, Tensor]:
    own, other, name = pair
    return own.get_buffer(name), other.get_buffer(name)


def buffer_rules(generator: Generator) -> dict[str, BufferRule]:
    """Each buffer's name, and how an average follows it: as its layer states in `buffer_rules`, else by copying."""
    return {
        f"{path}.{name}" if path else name: getattr(layer, "buffer_rules", {}).get(name, "copy")
        for path, layer in generator.named_modules()
        for name, _ in layer.named_buffers(recurse=False)
    }
