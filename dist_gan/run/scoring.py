"""Metrics of what is on disk already: the checkpoints of a run, or two sets of images."""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps
from pydantic import TypeAdapter, ValidationError

from dist_gan.config.command_line import parse
from dist_gan.config.reading import read_yaml
from dist_gan.config.schema import Config
from dist_gan.data import AnySource, Dataset, Folder, Source
from dist_gan.data.files import expanded, find
from dist_gan.data.source import Reading
from dist_gan.distributed.processes import Processes
from dist_gan.errors import ConfigError
from dist_gan.metrics.any_metric import METRICS, AnyMetric
from dist_gan.metrics.classified import ClassAccuracy
from dist_gan.metrics.evaluation import Evaluation, Pause
from dist_gan.metrics.fakes import Fakes
from dist_gan.metrics.metric import Metric
from dist_gan.metrics.opening import open_networks
from dist_gan.metrics.reference import Cache, RealOrder
from dist_gan.metrics.tasks import Reals
from dist_gan.networks import Generator
from dist_gan.optim.ema import EMA, Average, by_name
from dist_gan.optim.names import NAMES
from dist_gan.run import checkpoint
from dist_gan.run.restore import find_checkpoint, load_generator
from dist_gan.run.scores import images_of

DEFAULT = "fid"
"""The metric where neither the command nor the run's config names one."""
DEFAULT_FEATURES = "efficientnet_lite0"
SETS = ("mnist", "fashion_mnist", "cifar10", "stacked_mnist")
"""Data sets that can be named in place of a folder."""
Numbers = dict[str, float]
METRIC_LIST: TypeAdapter[tuple[Metric, ...]] = TypeAdapter(tuple[AnyMetric, ...])


@dataclass(frozen=True)
class Work:
    """With what metrics are computed."""

    processes: Processes
    pause: Pause
    reading: Reading
    warn: Callable[[str], None]

    @property
    def cache(self) -> Cache:
        """Of statistics of reals."""
        return Cache(self.warn)

    def opened(self, source: Source) -> Dataset:
        """The images of `source`, on all ranks. Raises ConfigError on all alike."""
        return self.processes.on_all_ranks(lambda: source.open(self.processes.device, self.reading))


def metrics_asked(
    names: str | None, features: str | None, changes: Mapping[str, Any], given: Sequence[Metric] = ()
) -> list[Metric]:
    """The metrics that a command line asks for.

    Args:
        names: with commas between them: of metrics, or of their numbers; or a YAML list as in a config. None: `given`,
            or FID.
        features: their features, a name or YAML; None: as in `given`.
        changes: other keys of all of them, such as images.
        given: those of the run's config.

    Raises:
        ConfigError: there is no such metric, or a value cannot be used.
    """
    tree: Any = METRIC_LIST.dump_python(tuple(given), mode="json")
    usual = tree[0]["features"] if given else DEFAULT_FEATURES
    if names is not None and names.lstrip().startswith(("[", "{")):
        tree = read_yaml(names)
    elif names is not None or not tree:
        tree = [{"name": name} for name in dict.fromkeys(map(_metric, (names or DEFAULT).split(",")))]
    for item in tree if isinstance(tree, list) else []:
        if isinstance(item, dict):
            item.setdefault("features", usual)
            item.update({"features": read_yaml(features)} if features is not None else {})
            item.update({key: value for key, value in changes.items() if value is not None})
    try:
        return list(METRIC_LIST.validate_python(tree))
    except ValidationError as error:
        lines = [_mistake(each, tree) for each in error.errors(include_url=False)]
        raise ConfigError("\n".join(dict.fromkeys(lines))) from None


def score_run(
    run: Path, which: str, metrics: Callable[[Config], list[Metric]], work: Work, *, trust_code: bool
) -> Iterator[tuple[Path, int, Numbers]]:
    """The numbers of a run's checkpoints, one after the other: checkpoint, images it had seen, numbers (on rank 0).

    Args:
        run: its folder, or one checkpoint.
        which: `last`, `best`, the images of a checkpoint, or `all`.
        metrics: what is computed, given the run's config.
        work: with what.
        trust_code: whether code of a user's own, which the run's config names, may be executed.

    Raises:
        ConfigError, CheckpointError, InputOutputError: on all ranks, before anything is computed where possible.
    """
    processes = work.processes
    paths = processes.on_all_ranks(lambda: _checkpoints(run, which, work.warn))
    config = processes.on_all_ranks(lambda: parse(checkpoint.read(paths[-1]).config, "run" if trust_code else "known"))
    asked = processes.on_all_ranks(lambda: metrics(config))
    if not config.networks.is_conditional:
        _no_classes(asked, f"{run} is not conditional")
    there = (*by_name(config.ema), "newest")
    if missing := [metric.weights for metric in asked if metric.weights not in there]:
        raise ConfigError(f"weights: {run} has {', '.join(there)}; got {missing[0]!r}")
    dataset = work.opened(config.data)
    evaluation = _evaluation(asked, config.data, dataset, work)
    reals = evaluation.order_of(Reals(dataset, config.data))
    for path in paths:
        sources = {
            weights: Fakes(network, config.seed, reals).source
            for weights, network in processes.on_all_ranks(
                lambda p=path: _generators(p, config, evaluation.weights(), processes, trust_code)  # type: ignore[misc]
            ).items()
        }
        yield path, images_of(path), evaluation.run(sources)


def score_images(images: Source, against: Source, metrics: list[Metric], work: Work) -> Numbers:
    """The numbers of images against others, on rank 0. Raises ConfigError on all ranks alike."""
    dataset = work.opened(images)
    others = work.opened(against)
    _no_classes(metrics, "images of a folder were made for no class")
    counted = [metric.model_copy(update={"images": len(dataset)}) for metric in metrics]
    if dataset.shape != others.shape:
        sizes = [f"{shape.height}x{shape.width}" for shape in (dataset.shape, others.shape)]
        work.warn(f"images of {sizes[0]} are compared with images of {sizes[1]}: the features scale each by itself")
    evaluation = _evaluation(counted, against, others, work, weights="images")
    return evaluation.run(dict.fromkeys(evaluation.weights(), RealOrder(dataset).source))


def _no_classes(metrics: Sequence[Metric], why: str) -> None:
    if any(isinstance(metric, ClassAccuracy) for metric in metrics):
        raise ConfigError(f"metrics: class_accuracy judges the classes that were asked for, and {why}. Leave it out")


def source_named(text: str, key: str, size: str | None) -> Source:
    """A data set by its name, or a folder of images, as they are or scaled to `size`.

    Raises:
        ConfigError: there is neither, or the images have several sizes.
    """
    if text in SETS and not Path(text).exists():
        found: Source = TypeAdapter(AnySource).validate_python({"name": text})
        return found
    if not expanded(text).is_dir():
        near = difflib.get_close_matches(text, SETS, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"{key}: {text} is no folder, and none of the data sets {', '.join(SETS)}{hint}")
    try:
        return Folder(path=text, size=size or _common_size(text, key))
    except ValidationError as error:
        raise ConfigError(f"size: {error.errors()[0]['msg'].removeprefix('Value error, ')}, got {size!r}") from None


def _common_size(folder: str, key: str) -> str:
    """HEIGHTxWIDTH of all images of a folder."""
    sizes: dict[tuple[int, int], str] = {}
    found = find(expanded(folder))
    for index, name in enumerate(found.names):
        try:
            with Image.open(found.path(index)) as image:
                sizes.setdefault(ImageOps.exif_transpose(image).size if _is_turned(image) else image.size, name)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{key}: {found.path(index)} cannot be used ({error}). Repair or remove it") from None
        if len(sizes) > 1:
            (a, first), (b, second) = sizes.items()
            raise ConfigError(
                f"{key}: the images of {folder} have several sizes: {first} is {a[1]}x{a[0]}, {second} {b[1]}x{b[0]} "
                "(height x width). Scale all of them: size=64, for example"
            )
    (width, height), *_ = sizes
    return f"{height}x{width}"


def _is_turned(image: Image.Image) -> bool:
    return image.getexif().get(0x0112, 1) in (5, 6, 7, 8)


def _evaluation(
    metrics: Sequence[Metric], source: Source, dataset: Dataset, work: Work, weights: str = ""
) -> Evaluation:
    known = {"": Reals(dataset, source), str(getattr(source, "split", "train")): Reals(dataset, source)}

    def reals_of(split: str) -> Reals:
        if split not in known:
            if not hasattr(source, "split"):
                raise ConfigError(f"split: {getattr(source, 'name', 'this data')} has no split {split!r}. Leave it out")
            other = source.model_copy(update={"split": split})
            known[split] = Reals(work.opened(other), other)
        return known[split]

    networks = open_networks((metric.features for metric in metrics), work.processes, None, work.reading.progress)  # type: ignore[attr-defined]
    evaluation = Evaluation(metrics, reals_of, networks, work.processes, work.pause, work.cache, weights)
    for line in evaluation.unwise():
        work.warn(line)
    return evaluation


def _checkpoints(run: Path, which: str, warn: Callable[[str], None]) -> list[Path]:
    if which == "all":
        there = checkpoint.existing(run / "checkpoints")
        if not there:
            raise ConfigError(f"{run} is no run with a checkpoint")
        problems = {path: checkpoint.verify(path) for path in there}
        for path, problem in problems.items():
            if problem:
                warn(f"{path} is passed over: {problem}")
        if valid := [path for path, problem in problems.items() if not problem]:
            return valid
    passed_over: list[str] = []
    found = find_checkpoint(run, passed_over, "last" if which == "all" else which)
    for line in passed_over:
        warn(line)
    return [found]


def _generators(
    path: Path, config: Config, weights: Sequence[str], processes: Processes, trust_code: bool
) -> dict[str, Generator]:
    found = {
        name: load_generator(path, processes.device, trust_code=trust_code, average=name)
        for name in {NAMES[0], *weights} - {"newest"}
    }
    if "newest" in weights:
        whole = Average(EMA(), found[NAMES[0]], config.seed, config.networks.batch_multiple)
        found["newest"] = whole.with_weights(checkpoint.read(path).tensors["generator"])
    return found


def _metric(name: str) -> str:
    """The metric of this name, or the one that gives the number of this name."""
    name = name.strip()
    kinds = {kind.model_fields["name"].default: kind for kind in METRICS}
    for own, kind in kinds.items():
        if name == own or name in kind.values:
            return str(own)
    near = difflib.get_close_matches(name, kinds, 1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ConfigError(f"metrics: expected some of {', '.join(kinds)}, got {name!r}{hint}")


def _mistake(error: Any, tree: Any) -> str:
    where = [str(step) for step in error["loc"]]
    number = int(where[0]) if where and where[0].isdecimal() else 0
    name = tree[number].get("name", "") if isinstance(tree, list) and isinstance(tree[number], dict) else ""
    key = ".".join(["metrics", *([name] if name else []), *(step for step in where[1:] if step != name)])
    given = error["input"]
    if error["type"] == "union_tag_invalid":
        expected = error["ctx"]["expected_tags"].replace("'", "")
        near = difflib.get_close_matches(str(given.get("name")), expected.split(", "), 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"{key}: expected one of {expected}, got {given.get('name')!r}{hint}"
    text = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return f"{key}: {text}, got {given!r}"
