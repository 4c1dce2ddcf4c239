"""What each run is, how far it came, and on what."""

from collections.abc import Mapping, Sequence
from typing import Any

from dist_gan.formatting import duration, plural
from dist_gan.metrics.protocol import parsed
from dist_gan.reporting.charts import title_of
from dist_gan.reporting.elements import Element, element, facts
from dist_gan.reporting.reading import Run, when


def runs_section(runs: Sequence[Run], now: float) -> Element:
    """A card for each run. `now`: seconds since the epoch."""
    cards = [_card(run, i if len(runs) > 1 else None, now) for i, run in enumerate(runs)]
    return element("div", *cards, class_="runs several" if len(runs) > 1 else "runs", id="runs")


def _card(run: Run, color: int | None, now: float) -> Element:
    state = run.state(now)
    chip = element("span", class_="chip") if color is not None else Element()
    name = run.label if color is not None else "Run"
    pill = element("span", state, class_=f"state {state}" if state.isalpha() else "state")
    style = None if color is None else f"--color: var(--c{color % 8})"
    return element(
        "div", element("h2", chip, name, pill), _progress(run), _facts(run, state), class_="card run", style=style
    )


def _progress(run: Run) -> Element:
    wanted = _wanted(run)
    if not wanted:
        return Element()
    return element("div", element("i", style=f"width: {min(1, run.images_seen / wanted):.2%}"), class_="progress")


def _facts(run: Run, state: str) -> Element:
    config, known = run.config, run.facts
    restarts = run.status.get("restarts", 0)
    stalled = run.status.get("restarts_without_progress", 0)
    ended = str(run.status.get("reason") or "") if state not in ("finished", "running", "starting") else ""
    return facts(
        {
            "Images": _images(run),
            "Time in training": _time(run),
            "Data": _data(config, known, run.status),
            "Networks": _networks(config, known),
            "Objective": _objective(config),
            "Batch": _batch(config),
            "Device": str(known.get("device") or ""),
            "Processes": run.status.get("processes") or known.get("processes") or "",
            "Checkpoints": _checkpoints(run),
            "Best checkpoint": _best(run),
            "Restarts": f"{restarts}" + (f", the last {stalled} without progress" if stalled else ""),
            "Last heard of": when(run.status.get("time")),
            "How it ended": ended,
            "Versions": ", ".join(f"{name} {version}" for name, version in _block(known, "versions").items()),
            "Folder": str(run.path),
        }
    )


def _images(run: Run) -> str:
    wanted = _wanted(run)
    return f"{run.images_seen:,}" + (f" of {wanted:,} ({run.images_seen / wanted:.0%})" if wanted else "")


def _wanted(run: Run) -> int:
    """The images that it is to see; 0 where no file says it."""
    for told in (run.status.get("images"), run.config.get("images")):
        if isinstance(told, int) and told > 0:
            return told
    return 0


def _time(run: Run) -> str:
    if not run.seconds:
        return ""
    seen = next(reversed(run.columns["images_per_second"]))
    return f"{duration(run.seconds)}, {seen / run.seconds:,.0f} images a second"


def _data(config: Mapping[str, Any], known: Mapping[str, Any], status: Mapping[str, Any]) -> str:
    name = str(_block(config, "data").get("name") or "")
    count, shape = known.get("data_images") or status.get("data_images"), known.get("image_shape")
    classes = known.get("classes")
    parts = [f"{count:,} images" if isinstance(count, int) else ""]
    parts += ["of " + "x".join(map(str, shape)) if isinstance(shape, list) and parts[0] else ""]
    said = " ".join(part for part in parts if part)
    said += f", {plural(len(classes), 'class')}" if isinstance(classes, list) and classes else ""
    return ": ".join(part for part in (name, said) if part)


def _networks(config: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    networks = _block(config, "networks")
    name = str(networks.get("name") or "") + (", conditional" if networks.get("conditional") is True else "")
    counts = [f"{p} {n:,}" for p, n in sorted(_block(known, "parameters").items(), reverse=True) if isinstance(n, int)]
    return ": ".join(part for part in (name, f"{' and '.join(counts)} parameters" if counts else "") if part)


def _objective(config: Mapping[str, Any]) -> str:
    objective = _block(config, "objective")
    penalties = objective.get("penalties")
    blocks = [_block(objective, "loss"), *(penalties if isinstance(penalties, list) else [])]
    names = [str(block.get("name") or "") for block in blocks if isinstance(block, Mapping)]
    augment = str(_block(config, "augment").get("name") or "none")
    return " + ".join(filter(None, names)) + ("" if augment == "none" else f", augmented by {augment}")


def _batch(config: Mapping[str, Any]) -> str:
    size = config.get("batch_size")
    parts = [f"{size:,} images" if isinstance(size, int) else "", str(config.get("precision") or "")]
    return ", ".join(part for part in [*parts, "exact" if config.get("exact") is True else ""] if part)


def _checkpoints(run: Run) -> str:
    if not run.checkpoints:
        return "none"
    return f"{len(run.checkpoints)}, the newest at {run.checkpoints[-1]:,} images"


def _best(run: Run) -> str:
    if run.best is None:
        return ""
    found = parsed(run.best.key)
    name = title_of(found[0]) if found else run.best.key
    return f"{name} {run.best.value:.4g} at {run.best.images:,} images"


def _block(tree: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = tree.get(key)
    return found if isinstance(found, Mapping) else {}
