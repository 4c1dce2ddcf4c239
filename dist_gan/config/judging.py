"""What `evaluate` and `save.best` of a `Config` mean, which imports this module."""

import difflib
from typing import Any

from dist_gan.metrics.classified import ClassAccuracy
from dist_gan.metrics.metric import Metric
from dist_gan.optim.ema import by_name
from dist_gan.optim.names import NAMES


def judged(config: Any) -> tuple[Metric, ...]:
    """The metrics of `evaluate`: what is asked of the average of G is asked of each of several."""
    return tuple(each for metric in config.evaluate for each in _of_each_average(config, metric))


def _of_each_average(config: Any, metric: Metric) -> list[Metric]:
    if metric.weights != NAMES[0]:
        return [metric]
    _, *others = by_name(config.ema)
    return [metric, *(metric.model_copy(update={"weights": name}) for name in others)]


def best_metric(config: Any) -> tuple[Metric, str] | None:
    """The metric and the name of its number that `save.best` means; None where it means none, or not one."""
    name, *which = config.save.best.split("@")
    of_an_average = any(each in NAMES for each in which)
    found = [
        one
        for number, metric in enumerate(config.evaluate)
        for one in (_of_each_average(config, metric) if of_an_average else [metric])
        if name in one.values and all(w in ("", one.features_name, str(number), one.weights) for w in which)
    ]
    return (found[0], name) if len(found) == 1 else None


def evaluation_mistakes(config: Any) -> list[str]:
    """What of `evaluate` and `save.best` cannot work; each says what to change."""
    found = [
        f"evaluate.{number}{'' if metric.held_out else '.split'}: {config.data.name} has no splits, so there are no "
        "images that are not learnt from. Leave it out"
        for number, metric in enumerate(config.evaluate)
        if (metric.split or metric.held_out) and not hasattr(config.data, "split")
    ]
    found += [
        f"evaluate.{number}: class_accuracy judges the classes that were asked for, and {config.networks.name} is "
        "not conditional here. Set networks.conditional=true, or leave it out"
        for number, metric in enumerate(config.evaluate)
        if isinstance(metric, ClassAccuracy) and not config.networks.is_conditional
    ]
    averages = list(by_name(config.ema))
    found += [
        f"evaluate.{number}.weights: there is no {metric.weights} here; ema has {', '.join(averages)}"
        for number, metric in enumerate(config.evaluate)
        if metric.weights not in (*averages, "newest")
    ]
    if config.save.best and best_metric(config) is None:
        values = [value for metric in config.evaluate for value in metric.values]
        full = [f"{v}@{m.features_name}" for m in config.evaluate for v in m.values]
        numbered = [f"{v}@{i}" for i, m in enumerate(config.evaluate) for v in m.values]
        names = [
            next(n for n, all_ in zip(own, (values, full, numbered), strict=True) if all_.count(n) == 1)
            for own in zip(values, full, numbered, strict=True)
        ]
        expected = f"expected one of {', '.join(names)}" if names else "nothing is evaluated (evaluate=[...])"
        near = difflib.get_close_matches(config.save.best, names, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        found.append(f"save.best: {expected}, got {config.save.best!r}{hint}")
    return found
