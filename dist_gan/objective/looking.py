"""How D sees the images of a turn: which of them in one call, in which precision, and what is differentiated by."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from dist_gan.errors import ConfigError
from dist_gan.networks.base import uncompiled
from dist_gan.objective.augment import Augment
from dist_gan.objective.followers import State
from dist_gan.objective.penalty import DifferencePenalty, ImagePenalty, Penalty, Sight
from dist_gan.part import Part
from dist_gan.randomness import Purpose

Bits = Mapping[Purpose, Tensor]
"""For each purpose int16 [N, count]: the random bits of these samples."""
Kinds = Mapping[str, tuple[Tensor, Tensor]]
"""Kind of image (real, fake, mixed) -> images [N, C, H, W], and the bits for looking at them, int16 [N, count]."""


class Sees(Protocol):
    """A discriminator, wrapped or bare."""

    def __call__(
        self, images: Tensor, condition: Tensor | None, noise: Tensor | None, full_precision: bool = False
    ) -> Tensor:
        """The logits of `images`."""


class Microbatch(NamedTuple):
    """N samples of one forward and backward."""

    real: Tensor
    """[N, C, H, W] in [-1, 1]."""
    condition: Tensor | None
    """int64 [N] labels of the real images, which the fake ones are made for too; None without labels."""
    bits: Bits


class Due(NamedTuple):
    """A penalty that belongs to this turn."""

    name: str
    penalty: Any
    factor: Tensor
    """[]: its weight in this turn."""
    state: State
    bits: slice
    """Its own random bits among those of the turn."""


class View(NamedTuple):
    """What D is shown in one call: all of these images, after augmentation."""

    name: str
    images: Tensor
    condition: Tensor | None
    noise: Tensor


def look(
    D: Sees, kinds: Kinds, given: Microbatch, augment: Augment, due: Sequence[Due], state: State
) -> tuple[dict[str, Tensor], Tensor | None]:
    """Logits of each kind [N], and the sum of the weighted penalties that are due ([], None where none is).

    Images that nothing is differentiated by go through D together, in one call for each precision. Batch statistics
    keep them apart, because a group never holds two kinds. Each kind that a gradient penalty differentiates by has a
    call of its own; the loss uses its logits too, so that one backward is enough.
    """
    exact = {each.penalty.at for each in due if isinstance(each.penalty, Penalty)}
    full = {e.penalty.at for e in due if isinstance(e.penalty, ImagePenalty) and e.penalty.precision == "full"}
    nearby = [each for each in due if isinstance(each.penalty, DifferencePenalty)]
    sight = Sight({}, {}, {}, {})
    for full_precision in (False, True):
        plain = {kind: own for kind, own in kinds.items() if kind not in exact and (kind in full) == full_precision}
        near = [each for each in nearby if (each.penalty.at in full) == full_precision]
        views = _augmented(plain, given.condition, augment, state)
        for each in near:
            base = next((view for view in views if view.name == each.penalty.at), None)
            base = base or _augmented({each.penalty.at: kinds[each.penalty.at]}, given.condition, augment, state)[0]
            views.append(_near(each, base, given.bits[Purpose.D_TURN_PENALTY]))
        if views:
            _show(D, views, kinds, sight, full_precision=full_precision)
    for kind in (kind for kind in kinds if kind in exact):
        images, bits = kinds[kind]
        sight.images[kind] = images.detach().requires_grad_()
        again = partial(
            see,
            uncompiled(D),
            condition=given.condition,
            bits=bits,
            augment=augment,
            state=state,
            full_precision=kind in full,
        )
        sight.again[kind] = again
        sight.logits[kind] = again(sight.images[kind])
    penalty = None
    for each in due:
        values = each.penalty.measure(sight, each.name)
        share = each.penalty.used_share
        term = each.factor * share * sum_of(values, len(given.real) // share, each.penalty, "penalty")
        penalty = term if penalty is None else penalty + term
    return sight.logits, penalty


def see(
    D: Sees,
    images: Tensor,
    condition: Tensor | None,
    bits: Tensor,
    augment: Augment,
    state: State,
    *,
    full_precision: bool = False,
) -> Tensor:
    """The logits [N] of images [N, C, H, W], augmented by the first of their random bits."""
    split = augment.bits(images.shape[1:])
    return D(augment(images, bits[:, :split], state), condition, bits[:, split:], full_precision=full_precision)


def sum_of(values: Tensor, count: int, part: Part, method: str) -> Tensor:
    """The sum of one number for each sample. A mean instead would depend on how a batch is cut."""
    if values.shape != (count,):
        raise ConfigError(
            f"objective: {type(part).__name__}.{method} returned values of the shape {list(values.shape)} for {count} "
            f"samples. Return one for each, [{count}], without a mean: the mean of the whole batch is taken later"
        )
    return values.sum()


def _augmented(kinds: Kinds, condition: Tensor | None, augment: Augment, state: State) -> list[View]:
    """Each kind as D is shown it."""
    if not kinds:
        return []
    images, bits = (torch.cat(parts) for parts in zip(*kinds.values(), strict=True))
    split = augment.bits(images.shape[1:])
    count = len(images) // len(kinds)
    parts = zip(augment(images, bits[:, :split], state).split(count), bits[:, split:].split(count), strict=True)
    return [View(kind, shown, condition, noise) for kind, (shown, noise) in zip(kinds, parts, strict=True)]


def _near(each: Due, base: View, bits: Tensor) -> View:
    share = each.penalty.used_share
    images = each.penalty.near(base.images[::share], bits[::share, each.bits])
    condition = None if base.condition is None else base.condition[::share]
    return View(each.name, images, condition, base.noise[::share])


def _show(D: Sees, views: Sequence[View], kinds: Kinds, sight: Sight, *, full_precision: bool) -> None:
    """All of `views` in one call; the logits of kinds, and of what is near them."""
    conditions = [view.condition for view in views if view.condition is not None]
    logits = D(
        torch.cat([view.images for view in views]),
        torch.cat(conditions) if conditions else None,
        torch.cat([view.noise for view in views]),
        full_precision=full_precision,
    )
    for view, own in zip(views, logits.split([len(view.images) for view in views]), strict=True):
        (sight.logits if view.name in kinds else sight.near)[view.name] = own
