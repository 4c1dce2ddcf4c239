"""What `evaluate` and `save.best` of a `Config` mean, which imports this module."""

import difflib
from collections.abc import Iterable
from typing import Any

from dist_gan.metrics.classified import ClassAccuracy
from dist_gan.metrics.metric import Metric
from dist_gan.optim.ema import by_name
from dist_gan.optim.names import NAMES


def judged(config: Any) -> tuple[Metric, ...]:
    """The metrics of `evaluate`, each once: what is asked of the average of G is asked of each of several."""
    return tuple(_different(each for metric in config.evaluate for each in _of_each_average(config, metric)))


def _of_each_average(config: Any, metric: Metric) -> list[Metric]:
    if metric.weights != NAMES[0]:
        return [metric]
    _, *others = by_name(config.ema)
    return [metric, *(metric.model_copy(update={"weights": name}) for name in others)]


def _different(metrics: Iterable[Metric]) -> list[Metric]:
    found: list[Metric] = []
    for metric in metrics:  # those of the user's own may have no hash
        if metric not in found:
            found.append(metric)
    return found


def best_metric(config: Any) -> tuple[Metric, str] | None:
    """The metric and the name of its number that `save.best` means; None where it means none, or not one."""
    found = _meant(config, config.save.best)
    return (found[0], config.save.best.partition("@")[0]) if len(found) == 1 else None


def _meant(config: Any, best: str) -> list[Metric]:
    name, *which = best.split("@")
    of_an_average = any(each in NAMES for each in which)
    return _different(
        one
        for number, metric in enumerate(config.evaluate)
        for one in (_of_each_average(config, metric) if of_an_average else [metric])
        if name in one.values and all(w in ("", one.features_name, str(number), one.weights) for w in which)
    )


def _names(config: Any) -> list[str]:
    """The shortest name of each number that `save.best` may mean."""
    found = []
    for number, metric in enumerate(config.evaluate):
        for one in _of_each_average(config, metric):
            average = "" if one is metric else f"@{one.weights}"
            for value in one.values:
                names = (f"{value}{which}{average}" for which in ("", f"@{one.features_name}", f"@{number}"))
                found.append(next(name for name in names if _meant(config, name) == [one]))
    return list(dict.fromkeys(found))


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
        names = _names(config)
        expected = f"expected one of {', '.join(names)}" if names else "nothing is evaluated (evaluate=[...])"
        near = difflib.get_close_matches(config.save.best, names, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        found.append(f"save.best: {expected}, got {config.save.best!r}{hint}")
    return found
