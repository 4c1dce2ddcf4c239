"""From a command line to a `Config`, and back to YAML."""

import difflib
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dist_gan.config.explain import explain_mistakes
from dist_gan.config.reading import as_written, read_yaml, write_yaml
from dist_gan.config.schema import Config
from dist_gan.errors import ConfigError
from dist_gan.own_parts import Code, anchored, names_in, reading

TRUST = "trust_code"
"""No key of a config, since a config from elsewhere could set it."""
MADE_BY_A_RUN = ("manifest.json", "status.json", "metrics.jsonl", "checkpoints", "ema.safetensors")
"""What lies beside a config.yaml that a run wrote, and that may come from elsewhere."""


def load(path: str | Path | None, overrides: Sequence[str] = ()) -> Config:
    """Defaults <- YAML file <- `dotted.key=value` overrides.

    Files of the user's own parts are looked for beside the YAML file, then in the current directory. A file that lies
    in a run's folder or in a checkpoint may execute none of them, unless `trust_code=true` is among the overrides.

    Raises:
        ConfigError: all mistakes at once, each with its key, what was expected, what was given, the nearest known key.
    """
    tree = Config().model_dump(mode="json")
    mistakes = []
    code: Code = "run"
    if path is not None:
        content = _read(Path(path))
        if content.pop(TRUST, None) is not None:
            mistakes.append(f"{TRUST}: it is given on the command line alone, never in a file")
        merge(tree, anchored(content, Path(path).parent))
        if any((Path(path).parent / name).exists() for name in MADE_BY_A_RUN):
            code = "known"
    named: list[str] = []
    pairs: list[tuple[list[str], Any]] = []
    for text in overrides:
        key, separator, value = text.partition("=")
        if not separator or not key.strip() or key.startswith("-"):
            mistakes.append(f"{text!r}: expected CONFIG.yaml first and then dotted.key=value")
            continue
        try:
            if key.strip() == TRUST:
                code = "run" if read_yaml(value) is True else code
                continue
            _insert(pairs, key.strip().split("."), read_yaml(value))
        except ConfigError as error:
            mistakes.append(f"{key}: {value!r} is no YAML value ({error})")
    for keys, value in pairs:
        block: Any = value
        for key in reversed(keys[1:]):
            block = {key: block}
        block = anchored({keys[0]: block}, Path.cwd())
        named += names_in(block)
        try:
            merge(tree, block)
        except ConfigError as error:
            mistakes.append(str(error))
    return _validated(tree, mistakes, code, named)


def configured(arguments: Sequence[str]) -> Config:
    """What `[CONFIG.yaml] [dotted.key=value ...]` means; raises as `load`."""
    named = bool(arguments) and names_config(arguments[0])
    return load(arguments[0] if named else None, arguments[named:])


def names_config(first: str) -> bool:
    """Whether the first argument is the config's path. That may hold `=` and commas, as in a sweep's folders; so a file
    that is there is the config, and so is what ends in .yaml or .yml and is no key of a config.

    The scripts of launch/ and slurm/ have the same rule.
    """
    if first.startswith("-") or "=" not in first:
        return not first.startswith("-")
    with suppress(OSError):  # a value may be longer than a path
        if Path(first).is_file():
            return True
    return first.endswith((".yaml", ".yml")) and re.split("[.=]", first)[0] not in Config.model_fields


def parse(text: str, code: Code = "known") -> Config:
    """A resolved config from its YAML text. Raises ConfigError.

    `code`: what may happen to code that it names (see `dist_gan.own_parts`).
    """
    return _validated(read_yaml(text), [], code)


def complete(text: str) -> Config:
    """The config of a file with this text, as `load` reads it: what it lacks has its default. Raises ConfigError."""
    tree = Config().model_dump(mode="json")
    merge(tree, read_yaml(text))
    return _validated(tree, [], "known")


def dump(config: Config) -> str:
    """YAML that `parse` reads back as the same config."""
    return write_yaml(_name_first(config.model_dump(mode="json")))


def merge(tree: dict[str, Any], other: dict[str, Any], path: str = "") -> None:
    """Put `other` into `tree`, block by block. A block whose `name` changes starts from its defaults; a list is
    replaced, and its items can be reached by number."""
    for key, value in other.items():
        old = tree.get(key)
        where = f"{path}{key}"
        if isinstance(old, list) and isinstance(value, dict):
            for number, item in value.items():
                if not str(number).isdigit() or int(number) >= len(old):
                    raise ConfigError(f"{where}.{number}: there are {len(old)} items, numbered from 0")
                place = {"item": old[int(number)]}
                merge(place, {"item": item}, f"{where}.{number}: ")
                old[int(number)] = place["item"]
        elif isinstance(old, dict) and _same_block(old, value):
            merge(old, value, f"{where}.")
        else:
            tree[key] = value


def _name_first(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _name_first(value[key]) for key in sorted(value, key=lambda key: key != "name")}
    return [_name_first(item) for item in value] if isinstance(value, list) else value


def _insert(pairs: list[tuple[list[str], Any]], keys: list[str], value: Any) -> None:
    """In the order given, but a block's name before the block's other keys, which it would reset."""
    block = keys[:-1]
    at = len(pairs)
    if keys[-1] == "name":
        inside = (i for i, (other, _) in enumerate(pairs) if other[: len(block)] == block and len(other) > len(block))
        at = next(inside, at)
    pairs.insert(at, (keys, value))


def _same_block(old: dict[str, Any], new: Any) -> bool:
    return isinstance(new, dict) and new.get("name", old.get("name")) == old.get("name")


def _read(path: Path) -> dict[str, Any]:
    try:
        content = read_yaml(path.read_text("utf-8-sig"))
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder. Give the config's file, as in configs/mnist_mlp.yaml") from None
    except OSError as error:
        near = difflib.get_close_matches(path.name, [p.name for p in Path("configs").glob("*.yaml")], 1)
        hint = f". Did you mean configs/{near[0]}?" if near else ""
        raise ConfigError(f"{path}: {error.strerror}{hint}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}, line {line} is no YAML: not UTF-8. Save the file as UTF-8 text") from None
    except ConfigError as error:
        raise ConfigError(f"{path}, {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected keys and values, as in configs/mnist_mlp.yaml")
    return content


def _validated(tree: Any, mistakes: list[str], code: Code, named: Iterable[str] = ()) -> Config:
    config = Config()
    try:
        with reading(code, named):
            try:
                config = Config.model_validate(tree)
            except ValidationError as error:
                if not as_written(tree, error.errors(include_url=False)):
                    raise
                config = Config.model_validate(tree)
    except ValidationError as error:
        mistakes = mistakes + explain_mistakes(error, tree, Config)
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    return config
