"""ADA by itself: what does nothing, what can be undone, what is drawn, what a strength does, what cannot work."""

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.autograd import forward_ad

from dist_gan.config.schema import Config
from dist_gan.data import given
from dist_gan.errors import ConfigError
from dist_gan.objective.ada import ADA, BLIT, COLOR, GEOMETRY, PIPES
from dist_gan.objective.ada_draws import COUNTS, FIXED, SLOTS, Draws, differs
from dist_gan.objective.ada_geometry import inverse_motion
from dist_gan.optim.schedules import Cosine
from dist_gan.randomness import Purpose, draw, normal, uniform
from tests.support.published import numbers

ALL = PIPES["bgcfnc"]
OFF = dict.fromkeys(ALL, 0.0)
OPEN, SHUT = -32768, 32767
DRAWS = {
    **{switch: (switch,) for switch in ALL},
    "rotate": ("rotate_before", "rotate_after"),
    "imgfilter": tuple(name for name in COUNTS if name.startswith("imgfilter")),
}
"""Which numbers each transformation reads."""


def only(*switches: str, strength: float = 1.0, **more: Any) -> ADA:
    """These transformations alone."""
    return ADA.model_validate({"target": None, "strength": strength, **OFF, **dict.fromkeys(switches, 1.0), **more})


def bits_for(augment: ADA, shape: tuple[int, ...], n: int, seed: int = 3) -> Tensor:
    return draw(seed, {Purpose.D_TURN_REAL: augment.bits(shape)}, range(n))[Purpose.D_TURN_REAL].clone()


def told(bits: Tensor, switch: str, *values: float, by_normal: bool = False) -> Tensor:
    """The same bits, in which the transformation takes place and its numbers are nearly these."""
    bits = bits.clone()
    cells = torch.arange(-32768, 32768).to(torch.int16)
    table = normal(cells, torch.float64) if by_normal else uniform(cells, torch.float64)
    for name in DRAWS[switch]:
        where = SLOTS[name]
        bits[:, where.start] = OPEN
        for slot, value in enumerate(values, where.start + 1):
            bits[:, slot] = cells[(table - value).abs().argmin()]
    return bits


def smooth(n: int, side: int) -> Tensor:
    """[n, 3, side, side], float64, of low frequencies only."""
    x = torch.linspace(0, 2 * math.pi, side, dtype=torch.float64)
    phases = numbers(n, 3, 2, seed=1)
    return 0.6 * (x[:, None] + phases[:, :, :1, None]).cos() * (x / 2 + phases[:, :, 1:, None]).sin()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("adaptive", [True, False])
def test_at_strength_0_it_is_the_identity_to_the_bit(dtype: torch.dtype, channels: int, adaptive: bool) -> None:
    augment = ADA(pipe="bgcfnc", **({} if adaptive else {"target": None, "strength": 0}))
    shape = (channels, 12, 9)
    images = numbers(16, *shape, seed=2, dtype=dtype).requires_grad_()
    weights = numbers(16, *shape, seed=4, dtype=dtype)
    numbers_now = {name: torch.tensor(value) for name, value in augment.numbers(100).items()}
    out = augment(images, bits_for(augment, shape, 16), augment.initial_state() | numbers_now)
    (gradient,) = torch.autograd.grad((out * weights).sum(), images)
    assert out.dtype == dtype
    assert torch.equal(out, images)
    assert torch.equal(gradient, weights)


@pytest.mark.parametrize("switch", ALL)
def test_a_transformation_whose_factor_is_0_does_nothing_and_changes_no_others_numbers(switch: str) -> None:
    images = numbers(8, 3, 16, 16, seed=2)
    alone = only(switch)
    bits = bits_for(alone, (3, 16, 16), 8)
    assert torch.equal(only()(images, bits), images)
    assert not torch.equal(alone(images, bits), images)
    others = [other for other in ALL if other != switch]
    without = only(*others)(images, bits_for(only(*others), (3, 16, 16), 8))
    # Tiny, so that it never takes place, but on.
    never = only(*others, **{switch: 1e-9})
    assert torch.equal(never(images, bits_for(never, (3, 16, 16), 8)), without)
    assert FIXED == sum(COUNTS.values()) == 41


INVERSES = [
    ("xint", (0.9, 0.2), (0.1, 0.8), False, 1e-9),
    ("scale", (0.9,), (-0.9,), True, 2e-3),
    ("rotate", (0.6,), (0.4,), False, 2e-3),
    ("aniso", (0.9,), (-0.9,), True, 5e-3),
    ("xfrac", (0.31, -0.22), (-0.31, 0.22), True, 2e-3),
    ("rotate90", (0.3,), (0.8,), False, 1e-5),
    ("xflip", (0.7,), (0.7,), False, 1e-5),
    ("brightness", (0.9,), (-0.9,), True, 1e-12),
    ("contrast", (0.9,), (-0.9,), True, 1e-12),
    ("saturation", (0.9,), (-0.9,), True, 1e-12),
    ("hue", (0.9,), (0.1,), False, 1e-12),
    ("lumaflip", (0.7,), (0.7,), False, 1e-12),
]


@pytest.mark.parametrize(("switch", "there", "back", "by_normal", "tolerance"), INVERSES, ids=[x[0] for x in INVERSES])
def test_what_can_be_undone_is(
    switch: str, there: tuple[float, ...], back: tuple[float, ...], by_normal: bool, tolerance: float
) -> None:
    """In the middle of a smooth image: what leaves it does not come back, and reading between pixels smooths."""
    augment, images = only(switch), smooth(3, 32)
    bits = bits_for(augment, (3, 32, 32), 3)
    out = augment(images, told(bits, switch, *there, by_normal=by_normal))
    again = augment(out, told(bits, switch, *back, by_normal=by_normal))
    middle = (..., slice(8, 24), slice(8, 24))
    assert (out - images)[middle].abs().max() > 0.05
    assert (again - images)[middle].abs().max() < tolerance


def test_by_hand() -> None:
    images = numbers(2, 3, 16, 20, seed=2)

    def of(switch: str, *values: float, by_normal: bool = False) -> Tensor:
        augment = only(switch)
        return augment(images, told(bits_for(augment, (3, 16, 20), 2), switch, *values, by_normal=by_normal))

    close = {"rtol": 0, "atol": 1e-10}
    assert torch.equal(of("xflip", 0.3), images)
    right_2_up_1 = of("xint", 0.9, 0.25)
    torch.testing.assert_close(right_2_up_1[..., :-1, 2:], images[..., 1:, :-2], **close)
    torch.testing.assert_close(right_2_up_1[..., 5, :2], images[..., 6, [2, 1]], **close)  # by reflection
    brighter = (of("brightness", 1.0, by_normal=True) - images) / 0.2
    torch.testing.assert_close(brighter, torch.ones_like(images), rtol=1e-3, atol=0)
    torch.testing.assert_close(of("contrast", 2.0, by_normal=True), images * 2, rtol=1e-3, atol=0)
    gray = images.mean(1, keepdim=True)
    torch.testing.assert_close(of("lumaflip", 0.7), images - 2 * gray, **close)
    torch.testing.assert_close(of("saturation", 1.0, by_normal=True), gray + 2 * (images - gray), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(of("hue", 0.5 + 1 / 3).mean(1), gray[:, 0], **close)
    torch.testing.assert_close(of("hue", 0.5 + 1 / 3), images.roll(1, 1), rtol=0, atol=1e-3)
    cut = of("cutout", 0.5, 0.25)
    assert torch.equal(cut[..., :8, 5:15], torch.zeros(2, 3, 8, 10, dtype=torch.float64))
    assert torch.equal(cut != images, (cut == 0))
    assert (cut == 0).sum() == 2 * 3 * 80


def test_flips_and_quarter_turns_by_hand() -> None:
    """Which way, in the middle of a smooth image. The filter is not quite symmetric, so a flip also moves an image by a
    small part of a pixel (as in the authors' code)."""
    images, middle = smooth(2, 31), (..., slice(6, 25), slice(6, 25))
    bits = bits_for(only(), (3, 31, 31), 2)
    close = {"rtol": 0, "atol": 0.02}
    for switch, value, expected in (
        ("xflip", 0.7, images.flip(3)),
        ("rotate90", 0.3, images.rot90(1, (2, 3))),
        ("rotate90", 0.6, images.flip(2, 3)),
        ("rotate90", 0.8, images.rot90(-1, (2, 3))),
    ):
        out = only(switch)(images, told(bits, switch, value))
        torch.testing.assert_close(out[middle], expected[middle], **close)


def test_gray_images_have_no_hue_and_no_saturation() -> None:
    images = numbers(8, 1, 12, 12, seed=2)
    augment = only("hue", "saturation")
    assert torch.equal(augment(images, bits_for(augment, (1, 12, 12), 8)), images)
    augment = only("lumaflip", "brightness", "contrast")
    bits = bits_for(augment, (1, 12, 12), 8)
    torch.testing.assert_close(augment(images, bits), augment(images.expand(8, 3, 12, 12), bits)[:, :1])


def test_far_outside_there_is_nothing() -> None:
    """The image is continued by its own width to each side: seen from far away, the rest is 0."""
    augment = only("scale", scale_std=1)
    bits = told(bits_for(augment, (3, 32, 32), 1), "scale", -3.0, by_normal=True)
    out = augment(torch.ones(1, 3, 32, 32, dtype=torch.float64), bits)[0, 0]
    assert out[12:20, 12:20].sub(1).abs().max() < 0.05
    assert out[:6].abs().max() < 0.05
    assert out[:, 26:].abs().max() < 0.05


def test_how_often_each_takes_place() -> None:
    """Half of the flips and a quarter of the turns are none. The two rotations together have the probability."""
    n, strength = 20_000, 0.6
    bits = bits_for(only(), (3, 8, 8), n)
    for switch, part in {**dict.fromkeys(GEOMETRY, 1.0), "xflip": 0.5, "rotate90": 0.75}.items():
        moved = differs(inverse_motion(only(switch), Draws(bits, strength, torch.float32), 8, 8))
        assert moved.double().mean().item() == pytest.approx(strength * part, abs=0.02), switch
    images = numbers(500, 3, 8, 8, seed=2, dtype=torch.float32)
    for switch in ("brightness", "contrast", "hue", "saturation", "noise"):
        augment = only(switch, strength=0.3)
        changed = (augment(images, bits_for(augment, (3, 8, 8), 500)) != images).flatten(1).any(1)
        assert changed.double().mean().item() == pytest.approx(0.3, abs=0.07), switch


def test_pipes_and_single_factors() -> None:
    assert [s for s in ALL if ADA(pipe="bgc").multiplier(s)] == [*BLIT, *GEOMETRY, *COLOR]
    augment = ADA(pipe="bgc", cutout=1, hue=0.5, xflip=0)
    assert [augment.multiplier(s) for s in ("cutout", "hue", "xflip", "scale", "noise")] == [1, 0.5, 0, 1, 0]
    assert (ADA().bits((3, 8, 8)), ADA(pipe="noise").bits((3, 8, 8))) == (FIXED, FIXED + 192)


def test_the_strength_by_a_schedule_and_by_what_is_seen() -> None:
    scheduled = ADA(target=None, strength=0.5, schedule=Cosine(start=0, final=1, end=100))
    assert [scheduled.numbers(x) for x in (0, 50, 100)] == [{"strength": pytest.approx(x)} for x in (0, 0.25, 0.5)]
    assert scheduled.initial_state() == {}
    adaptive = ADA(strength=0.25)
    assert adaptive.numbers(50) == {}
    assert adaptive.initial_state()["strength"].item() == 0.25
    with pytest.raises(ValidationError, match="no schedule beside a target"):
        ADA(schedule=Cosine(end=100))


def test_the_strength_in_the_state_is_the_one_that_is_used() -> None:
    images, augment = numbers(8, 3, 16, 16, seed=2), ADA()
    bits = bits_for(augment, (3, 16, 16), 8)
    out = augment(images, bits, {"strength": torch.tensor(0.7, dtype=torch.float64)})
    assert torch.equal(out, ADA(target=None, strength=0.7)(images, bits))
    assert not torch.equal(out, images)


def test_autocast_changes_nothing() -> None:
    images, augment = numbers(8, 3, 16, 16, seed=2, dtype=torch.float32), ADA(pipe="bgcfnc", target=None, strength=0.8)
    bits = bits_for(augment, (3, 16, 16), 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = augment(images, bits)
    assert torch.equal(inside, augment(images, bits))


def test_what_cannot_work_is_said() -> None:
    data = given(torch.zeros(256, 4, 8, 8, dtype=torch.uint8))
    (mistake,) = Config(run="x", data=data, augment=ADA()).mistakes(1)
    assert "1 or 3 channels, and these have 4" in mistake
    assert Config(run="x", data=data, augment=ADA(pipe="bg")).mistakes(1) == []
    with pytest.raises(ConfigError, match="1 or 3 channels"):
        ADA(target=None, strength=1)(torch.zeros(1, 4, 8, 8), torch.zeros(1, FIXED, dtype=torch.int16))


def test_the_gradient_of_a_forward_derivative_is_the_second_derivative() -> None:
    """So that gradient penalties can be computed by either method."""
    images, direction, augment = (*(numbers(4, 3, 9, 8, seed=seed) for seed in (2, 5)), only(*ALL))
    images.requires_grad_()
    bits = bits_for(augment, (3, 9, 8), 4)
    with forward_ad.dual_level():
        out = augment(forward_ad.make_dual(images, direction), bits).pow(3)
        (found,) = torch.autograd.grad(forward_ad.unpack_dual(out).tangent.sum(), images)  # type: ignore[union-attr]
    (gradient,) = torch.autograd.grad(augment(images, bits).pow(3).sum(), images, create_graph=True)
    (expected,) = torch.autograd.grad((gradient * direction).sum(), images)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)
