"""The augmentations of StyleGAN2-ADA, with a strength that follows a schedule or adapts."""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from dist_gan.objective.ada_color import recolored, recoloring
from dist_gan.objective.ada_draws import FIXED, Draws, differs
from dist_gan.objective.ada_geometry import inverse_motion, moved
from dist_gan.objective.ada_pixels import cut, filtered, noisy
from dist_gan.objective.augment import NOTHING, Augment
from dist_gan.objective.followers import State
from dist_gan.optim.schedules import AnySchedule, Constant

BLIT = ("xflip", "rotate90", "xint")
GEOMETRY = ("scale", "rotate", "aniso", "xfrac")
COLOR = ("brightness", "contrast", "lumaflip", "hue", "saturation")
PIPES: dict[str, tuple[str, ...]] = {
    "blit": BLIT,
    "geom": GEOMETRY,
    "color": COLOR,
    "filter": ("imgfilter",),
    "noise": ("noise",),
    "cutout": ("cutout",),
    "bg": BLIT + GEOMETRY,
    "bgc": BLIT + GEOMETRY + COLOR,
    "bgcf": (*BLIT, *GEOMETRY, *COLOR, "imgfilter"),
    "bgcfn": (*BLIT, *GEOMETRY, *COLOR, "imgfilter", "noise"),
    "bgcfnc": (*BLIT, *GEOMETRY, *COLOR, "imgfilter", "noise", "cutout"),
}
"""Which transformations each preset uses."""
Band = Annotated[float, Field(ge=0)]


class ADA(Augment):
    """Adaptive discriminator augmentation (Karras et al. 2020, "Training generative adversarial networks with limited
    data"). Each transformation takes place with the probability strength * its own factor, for each sample by itself.

    G does not learn the augmentations as long as each may be skipped: then more of what D sees is upright than turned,
    and G can only match that with upright images (section 2.2). In the paper nothing leaks while the strength stays
    below 0.8.
    """

    name: Literal["ada"] = "ada"
    pipe: Literal["blit", "geom", "color", "filter", "noise", "cutout", "bg", "bgc", "bgcf", "bgcfn", "bgcfnc"] = "bgc"
    """Which transformations have the factor 1: b: flip, quarter turns, whole shifts (`blit`); g: scaling, rotation,
    stretching, fractional shifts (`geom`); c: colors; f: filters; n: noise; the last c: cutout. All others have 0."""

    strength: float = Field(0.0, ge=0)
    """The overall probability: times the schedule, or with a target what it is at the start."""
    schedule: AnySchedule = Constant()
    """Factor of the strength, by images seen; without a target."""
    target: float | None = Field(0.6, ge=-1, le=1)
    """The strength rises while the mean sign of D's logits of real images is above this, which shows that D learns them
    by heart, and falls while it is below. null: the strength follows the schedule."""
    rise_images: int = Field(500_000, gt=0)
    """Images in which the strength rises or falls by 1, with a target."""
    every: int = Field(256, gt=0)
    """Images between two changes of the strength, with a target; the signs of all of them are used."""

    xflip: float | None = Field(None, ge=0)
    """Factor of the strength for flips. This and all factors below: null is what the pipe says."""
    rotate90: float | None = Field(None, ge=0)
    """Factor for quarter turns."""
    xint: float | None = Field(None, ge=0)
    """Factor for shifts by whole pixels."""
    xint_max: float = Field(0.125, ge=0)
    """Their largest length, as a part of the image's side."""
    scale: float | None = Field(None, ge=0)
    """Factor for scaling."""
    scale_std: float = Field(0.2, ge=0)
    """Standard deviation of the scale's logarithm of base 2."""
    rotate: float | None = Field(None, ge=0)
    """Factor for rotation."""
    rotate_max: float = Field(1.0, ge=0, le=1)
    """The largest angle; 1 is half a turn to either side."""
    aniso: float | None = Field(None, ge=0)
    """Factor for stretching one side and shrinking the other."""
    aniso_std: float = Field(0.2, ge=0)
    """Standard deviation of its logarithm of base 2."""
    xfrac: float | None = Field(None, ge=0)
    """Factor for shifts by any length."""
    xfrac_std: float = Field(0.125, ge=0)
    """Their standard deviation, as a part of the image's side."""

    brightness: float | None = Field(None, ge=0)
    """Factor for brightness."""
    brightness_std: float = Field(0.2, ge=0)
    """Standard deviation of what is added, for images in [-1, 1]."""
    contrast: float | None = Field(None, ge=0)
    """Factor for contrast."""
    contrast_std: float = Field(0.5, ge=0)
    """Standard deviation of its logarithm of base 2."""
    lumaflip: float | None = Field(None, ge=0)
    """Factor for turning light into dark and keeping the color."""
    hue: float | None = Field(None, ge=0)
    """Factor for turning the hue; not for gray images."""
    hue_max: float = Field(1.0, ge=0, le=1)
    """The largest angle; 1 is half a turn to either side."""
    saturation: float | None = Field(None, ge=0)
    """Factor for saturation; not for gray images."""
    saturation_std: float = Field(1.0, ge=0)
    """Standard deviation of its logarithm of base 2."""

    imgfilter: float | None = Field(None, ge=0)
    """Factor for filters that amplify some frequencies."""
    imgfilter_bands: tuple[Band, Band, Band, Band] = (1.0, 1.0, 1.0, 1.0)
    """Further factors for each band, from the lowest frequencies to the highest."""
    imgfilter_std: float = Field(1.0, ge=0)
    """Standard deviation of a band's gain, as logarithm of base 2."""
    noise: float | None = Field(None, ge=0)
    """Factor for noise on every pixel."""
    noise_std: float = Field(0.1, ge=0)
    """Its standard deviation is this times the magnitude of a normal number."""
    cutout: float | None = Field(None, ge=0)
    """Factor for a rectangle of zeros."""
    cutout_size: float = Field(0.5, ge=0)
    """Its sides, as a part of the image's."""

    @model_validator(mode="after")
    def _one_way(self) -> "ADA":
        if self.target is not None and self.schedule != Constant():
            raise ValueError(
                "no schedule beside a target, by which the strength moves: set target to null, or leave it out"
            )
        return self

    def multiplier(self, switch: str) -> float:
        """The factor of the strength for one transformation."""
        own: float | None = getattr(self, switch)
        return float(switch in PIPES[self.pipe]) if own is None else own

    @property
    def recolors(self) -> bool:
        """Whether it changes colors, which needs images with 1 or 3 channels."""
        return any(map(self.multiplier, COLOR))

    def bits(self, shape: Sequence[int]) -> int:
        """As many for each transformation, whether it is used or not; with noise one more for each pixel's channel."""
        channels, height, width = shape
        return FIXED + (channels * height * width if self.multiplier("noise") else 0)

    def numbers(self, images_seen: int) -> dict[str, float]:
        """The strength, where there is no target."""
        return {"strength": self.strength * self.schedule.factor(images_seen)} if self.target is None else {}

    def initial_state(self) -> dict[str, Tensor]:
        """The strength, and what has been seen since its last change: the sum of signs, and of how many images."""
        if self.target is None:
            return {}
        return {"strength": torch.tensor(self.strength), "signs": torch.zeros(()), "images": torch.zeros(())}

    def follow(self, state: State, mean: Tensor, samples: Tensor) -> dict[str, Tensor]:
        """The strength moves by images / rise_images towards the target, at most once in `every` images."""
        if self.target is None:
            return dict(state)
        signs, images = state["signs"] + mean * samples, state["images"] + samples
        step = (signs / images - self.target).sign() * images / self.rise_images
        due = images >= self.every
        return {
            "strength": torch.where(due, (state["strength"] + step).clamp(min=0), state["strength"]),
            "signs": torch.where(due, 0, signs),
            "images": torch.where(due, 0, images),
        }

    def __call__(self, images: Tensor, bits: Tensor, state: State = NOTHING) -> Tensor:
        """images [N, C, H, W] in [-1, 1], bits int16 [N, self.bits((C, H, W))] -> [N, C, H, W] (may leave [-1, 1]).
        `state` has the strength; without one it is that of the start. It is computed in float32 or float64. A sample
        for which nothing takes place stays as it is, to the bit."""
        dtype = images.dtype
        seen = images if dtype == torch.float64 else images.float()
        draws = Draws(bits, state.get("strength", self.strength), seen.dtype)
        with torch.autocast(images.device.type, enabled=False):
            if any(map(self.multiplier, BLIT + GEOMETRY)):
                inverse = inverse_motion(self, draws, *seen.shape[2:])
                seen = torch.where(differs(inverse)[:, None, None, None], moved(seen, inverse), seen)
            if self.recolors:
                colors = recoloring(self, draws, seen.shape[1])
                seen = torch.where(differs(colors)[:, None, None, None], recolored(seen, colors), seen)
            if self.multiplier("imgfilter"):
                seen = filtered(seen, self, draws)
            if self.multiplier("noise"):
                seen = noisy(seen, self, draws)
            if self.multiplier("cutout"):
                seen = cut(seen, self, draws)
        return seen.to(dtype)
