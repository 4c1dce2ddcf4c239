"""What works in a `Config`, which imports this module, but most likely is not what was meant."""

from typing import Any

from dist_gan.objective.ada import ADA
from dist_gan.objective.losses import Wasserstein
from dist_gan.objective.penalty import DifferencePenalty, ImagePenalty
from dist_gan.optim.ema import by_name
from dist_gan.optim.schedules import Constant


def unwise(config: Any) -> list[str]:
    """One sentence for each."""
    found = []
    penalties = [each for each in config.objective.penalties if isinstance(each, ImagePenalty)]
    if penalties and config.networks.normalizes_batches:
        found.append(
            "objective.penalties: a gradient penalty is per sample, and this D mixes samples by batch statistics; "
            "its gradient then is not that of one sample"
        )
    found += _precisions(config, penalties)
    if isinstance(config.augment, ADA) and config.augment.target is None and not config.augment.strength:
        found.append("augment.strength: it is 0 and there is no target, so nothing is augmented, at the price of all")
    for name, ema in by_name(config.ema).items():
        if ema.ramp and not isinstance(ema.schedule, Constant):
            found.append(
                f"{name}.ramp: the smaller of the ramp and the schedule counts; {name}.ramp=0 leaves the schedule"
            )
    if isinstance(config.objective.loss, Wasserstein) and not penalties:
        found.append("objective.loss: wasserstein without a penalty has no Lipschitz bound; add wgan_gp or r1")
    for name, ema in by_name(config.ema).items() if config.begin_from else ():
        keys = [key for key in ("ramp", "begin") if getattr(ema, key) and ema.half_life_images]
        found += [
            f"begin_from: {name}.{key} lets the average forget its first weights within some thousand images, here "
            f"the parent's; {name}.{key}=0 keeps them"
            for key in keys
        ]
    if config.freeze_discriminator_layers and not config.begin_from:
        found.append("freeze_discriminator_layers: without begin_from these layers keep their random weights")
    for name in ("generator_optimizer", "discriminator_optimizer"):
        rate = getattr(config, name).learning_rate
        if not 1e-6 <= rate <= 5e-3:
            found.append(f"{name}.learning_rate: {rate:g} is far from any recipe (1e-5 to 2e-3)")
    return found


def _precisions(config: Any, penalties: list[Any]) -> list[str]:
    found = []
    mixed = [each for each in penalties if each.precision == "mixed"]
    if mixed and config.precision == "fp16":
        found.append(
            f"objective.penalties: {_names(mixed)} in fp16: gradients of gradients leave its range. Safer: "
            "precision=bf16, or precision=full of the penalty"
        )
    low = {"tf32": penalties, "bf16": mixed, "fp16": mixed}.get(config.precision, [])
    if rough := [each for each in low if isinstance(each, DifferencePenalty)]:
        found.append(
            f"objective.penalties: {_names(rough)} in {config.precision}: a small difference of logits is lost in "
            "their rounding. Take a larger sigma, or precision=full (not of use in tf32)"
        )
    return found


def _names(parts: list[Any]) -> str:
    return ", ".join(part.name for part in parts)
