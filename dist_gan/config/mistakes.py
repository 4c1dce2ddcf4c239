"""Combinations in a `Config`, which imports this module, that cannot work. Each sentence says what to change."""

from typing import Any

from dist_gan.config.judging import evaluation_mistakes
from dist_gan.objective.ada import ADA
from dist_gan.objective.augment import DiffAugment
from dist_gan.objective.penalty import DifferencePenalty


def mistakes(config: Any, world: int) -> list[str]:
    """Those that show on `world` processes."""
    return [
        *config.data.mistakes(config.run),
        *config.networks.mistakes(config.data.shape),
        *_of_the_launch(config, world),
        *_of_the_speed(config),
        *_of_shards(config),
        *_of_labels(config),
        *_of_the_objective(config),
        *evaluation_mistakes(config),
        *_of_augmentations(config),
    ]


def _of_the_launch(config: Any, world: int) -> list[str]:
    found = []
    if config.processes and config.processes != world:
        found.append(
            f"processes: {config.processes} expected, and the launcher started {world}. Use launch/local.sh or "
            "launch/multi_node.sh (`accelerate launch --cpu --num_processes 2` starts one process), or set "
            f"processes={world}"
        )
    each, multiple = config.used_microbatch, config.batch_multiple
    if config.batch_size % (world * max(1, each)) or (each or config.batch_size // world) % multiple:
        found.append(_split(config, world, multiple))
    if config.begin_from and config.resume not in ("auto", "never"):
        found.append(
            "begin_from: resume names a checkpoint too. begin_from begins another run from weights; resume goes on "
            "with the same one. Set one of them"
        )
    if config.debug and world > 1:
        found.append(f"debug: one process, and the launcher started {world}. Use launch/debug.sh")
    return found


def _of_the_speed(config: Any) -> list[str]:
    found = []
    if config.speed in ("graph", "compile") and (why := config.only_eager()):
        found.append(f"speed: {config.speed} is not possible here: {why}. Use speed=auto")
    if config.wire == "bf16" and config.exact:
        found.append("wire: exact=true sends integers, which bf16 cannot hold. Use wire=fp32")
    if config.wire == "bf16" and config.precision in ("fp64", "fp16"):
        found.append(f"wire: bf16 is for gradients in float32, and precision={config.precision} has others")
    if config.speed == "compile" and config.exact:
        found.append("speed: compile rounds in another way than exact=true promises. Use speed=auto, or exact=false")
    return found


def _of_shards(config: Any) -> list[str]:
    found = []
    for name in ("generator_optimizer", "discriminator_optimizer") if config.shard else ():
        if not getattr(config, name).separate:
            found.append(
                f"shard: each process moves some of the parameters, and {name} ({getattr(config, name).name}) may look "
                "at all of them together. Use shard=false; or, if it moves each by itself, state `separate = True` in "
                "its class"
            )
    if config.shard and config.precision == "fp16":
        found.append("shard: the loss scale of fp16 follows all gradients of a process. Use precision=bf16")
    return found


def _of_labels(config: Any) -> list[str]:
    found = []
    labels = getattr(config.data, "labels", None)
    if labels and not config.networks.is_conditional:
        how = "networks.conditional=true" if config.networks.can_be_conditional else "other networks"
        found.append(
            f"data.labels: {config.networks.name} is not conditional, so labels would change nothing. Set {how}, or "
            "data.labels=false"
        )
    if config.networks.is_conditional and not config.data.has_labels:
        how = "Set data.labels=true too" if labels is False else f"{config.data.name} has no labels"
        found.append(f"networks.conditional: these networks are given each sample's class. {how}")
    return found


def _of_the_objective(config: Any) -> list[str]:
    found = []
    for name, player in (("generator_optimizer", "G"), ("discriminator_optimizer", "D")):
        moves_alone = any(p.of == player and p.alone for p in config.objective.penalties)
        if getattr(getattr(config, name), "rescaled", False) and not moves_alone:
            found.append(
                f"{name}.rescaled: it is for a player one of whose penalties has moves of its own, and no penalty "
                f"of {player} has alone=true. Leave it out"
            )
    named = {penalty.name: penalty for penalty in config.objective.penalties}
    shared = [name for name, p in named.items() if isinstance(p, DifferencePenalty) and p.used_share > 1]
    if shared and config.networks.mixes_samples:
        found.append(
            f"objective.penalties: {', '.join(shared)} with a share: this D's logits depend on the other images of "
            "a group, and a share has other groups. Set share=1"
        )
    if config.objective.fresh_reals and not config.objective.loss.pairs:
        found.append(
            f"objective.fresh_reals: {config.objective.loss.name} does not show real images to D in G's turn, so "
            "fresh ones would change nothing but labels. Leave it out, or use a loss of pairs (relativistic)"
        )
    return found


def _of_augmentations(config: Any) -> list[str]:
    found = []
    if isinstance(config.augment, DiffAugment) and min(config.data.shape[1:]) < 8:
        found.append("augment: diffaugment needs images of at least 8x8")
    if isinstance(config.augment, ADA) and config.augment.recolors and config.data.shape[0] not in (1, 3):
        found.append(
            f"augment: the colors of ada need images with 1 or 3 channels, and these have {config.data.shape[0]}. "
            "Set augment.pipe=bg"
        )
    return found


def _why_multiple(config: Any) -> str:
    groups, all_ = config.networks.batch_multiple, config.batch_multiple
    causes = {"networks.group": groups > 1, "share of penalties": all_ > groups}
    return ", ".join(cause for cause, holds in causes.items() if holds)


def _split(config: Any, world: int, multiple: int) -> str:
    if config.microbatch % multiple:
        near = multiple * max(1, round(config.microbatch / multiple))
        return (
            f"microbatch: {config.microbatch} is no multiple of {multiple} ({_why_multiple(config)}). The nearest is "
            f"{near}; 0 is all of a process's part of the batch"
        )
    step = world * (config.used_microbatch or multiple)
    each = config.used_microbatch or multiple
    fitting = [n for n in range(1, config.batch_size // each + 1) if config.batch_size % (n * each) == 0]
    nearest = sorted({max(step, config.batch_size // step * step), -(-config.batch_size // step) * step})
    microbatches = f" in microbatches of {each}" if config.used_microbatch else ""
    groups = f", each part in full groups of {multiple} ({_why_multiple(config)})" if multiple > 1 else ""
    counts = ", ".join(map(str, fitting)) or "none"
    part = config.batch_size // world if config.batch_size % world == 0 else 0
    sizes = [size for size in range(multiple, part + 1, multiple) if part % size == 0]
    other = f" Or microbatch={min(sizes, key=lambda size: abs(size - each))}." if microbatches and sizes else ""
    return (
        f"batch_size: {config.batch_size} cannot be split over {world} processes{microbatches}{groups}. The nearest "
        f"batch_size that can: {' or '.join(map(str, nearest))}.{other} Numbers of processes that it "
        f"works with: {counts}"
    )
