"""From a command line to a `Config`: read, merge, explain mistakes, --help, --print-config."""

import difflib
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from dist_gan.config.schema import Config
from dist_gan.part import ConfigError, Part

USAGE = """usage: accelerate launch dist_gan/train.py [CONFIG.yaml] [dotted.key=value ...]

  --print-config   print the resolved configuration as YAML and stop
  --help           this text

Without CONFIG.yaml the defaults below are used: the fully-connected GAN on MNIST. Setting a block's name starts that
block afresh: networks.name=dcgan. Values are YAML: objective.penalties='[{name: r1, weight: 5}]'.
"""


def load(path: str | Path | None, overrides: Sequence[str] = ()) -> Config:
    """Defaults <- YAML file <- `dotted.key=value` overrides.

    Raises:
        ConfigError: all mistakes at once, each with its key, what was expected, what was given, the nearest known key.
    """
    tree = Config().model_dump(mode="json")
    if path is not None:
        merge(tree, _read(Path(path)))
    mistakes = []
    pairs: list[tuple[list[str], Any]] = []
    for text in overrides:
        key, separator, value = text.partition("=")
        if not separator or not key.strip() or key.startswith("-"):
            mistakes.append(f"{text!r}: expected CONFIG.yaml first and then dotted.key=value")
            continue
        try:
            _insert(pairs, key.strip().split("."), yaml.safe_load(value))
        except yaml.YAMLError:
            mistakes.append(f"{key}: {value!r} is no YAML value")
    for keys, value in pairs:
        block: Any = value
        for key in reversed(keys[1:]):
            block = {key: block}
        try:
            merge(tree, {keys[0]: block})
        except ConfigError as error:
            mistakes.append(str(error))
    return _validated(tree, mistakes)


def configured(arguments: Sequence[str]) -> Config:
    """What `[CONFIG.yaml] [dotted.key=value ...]` means; raises as `load`."""
    named = bool(arguments) and "=" not in arguments[0] and not arguments[0].startswith("-")
    return load(arguments[0] if named else None, arguments[named:])


def parse(text: str) -> Config:
    """A resolved config from its YAML text."""
    return _validated(yaml.safe_load(text), [])


def dump(config: Config) -> str:
    """YAML that `parse` reads back as the same config."""
    return yaml.safe_dump(_name_first(config.model_dump(mode="json")), sort_keys=False, width=120)


def merge(tree: dict[str, Any], other: dict[str, Any], path: str = "") -> None:
    """Put `other` into `tree`, block by block. A block whose `name` changes starts afresh; a list is replaced, and its
    items can be reached by number."""
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


def differences(old: Config, new: Config) -> list[str]:
    """Where two configs differ in what determines the model: `key: old value there, new value here`."""
    return list(_differences(old.identity(), new.identity(), ""))


def help_text() -> str:
    """Usage, then every key with its type, default and meaning."""
    return USAGE + "\n" + "\n".join(_describe(Config, "", Config()))


def _name_first(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _name_first(value[key]) for key in sorted(value, key=lambda key: key != "name")}
    return [_name_first(item) for item in value] if isinstance(value, list) else value


def _insert(pairs: list[tuple[list[str], Any]], keys: list[str], value: Any) -> None:
    """In the order given, but a block's name before the block's other keys: it must not sweep these away."""
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
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        near = difflib.get_close_matches(path.name, [p.name for p in Path("configs").glob("*.yaml")], 1)
        hint = f". Did you mean configs/{near[0]}?" if near else ""
        raise ConfigError(f"{path}: {error.strerror}{hint}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no YAML: {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigError(f"{path}: expected keys and values, as in configs/mnist_mlp.yaml")
    return content


def _validated(tree: Any, mistakes: list[str]) -> Config:
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        mistakes = mistakes + [_explain(e, tree) for e in error.errors(include_url=False)]
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    return config


def _explain(error: Any, tree: Any) -> str:
    path, block = _path(error["loc"], tree)
    kind, given = error["type"], error["input"]
    dotted = ".".join(path)
    if kind == "extra_forbidden":
        siblings = list(_fields_at(path[:-1], tree))
        parent = ".".join(path[:-1])
        near = difflib.get_close_matches(path[-1], siblings, 1, 0.6)
        if not near:  # the right name in the wrong place?
            near = [key for key in _all_keys(Config, "", tree) if key.split(".")[-1] == path[-1]][:1]
            hint = f"; did you mean {near[0]}?" if near else f"; known here: {', '.join(siblings)}"
        else:
            hint = f"; did you mean {parent + '.' if parent else ''}{near[0]}?"
        return f"{dotted}: unknown key{hint}"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        expected = error["ctx"].get("expected_tags", "").replace("'", "")
        name = given.get("name") if isinstance(given, dict) else given
        near = difflib.get_close_matches(str(name), expected.split(", "), 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"{dotted}.name: expected one of {expected}, got {name!r}{hint}"
    if kind == "missing":
        return f"{dotted}: must be given"
    text = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return f"{dotted}: expected {text}, got {given!r}" if block is not None else f"{dotted}: {text}"


def _path(location: Sequence[Any], tree: Any) -> tuple[list[str], Any]:
    """The dotted path of an error, without the union tags that pydantic puts between."""
    path: list[str] = []
    block = tree
    for item in location:
        if isinstance(block, dict) and item not in block and block.get("name") == item:
            continue
        path.append(str(item))
        try:
            block = block[item]
        except (KeyError, IndexError, TypeError):
            block = None
    return path, block


def _fields_at(path: Sequence[str], tree: Any) -> dict[str, FieldInfo]:
    parts: list[type[Part]] = [Config]
    for key in path:
        tree = tree[int(key)] if isinstance(tree, list | tuple) else tree.get(key)
        if key.isdigit():
            continue
        parts = [p for part in parts if key in part.model_fields for p in parts_of(part.model_fields[key].annotation)]
    if isinstance(tree, dict) and len(parts) > 1:
        parts = [part for part in parts if part.model_fields["name"].default == tree.get("name")] or parts
    return {name: field for part in parts for name, field in part.model_fields.items()}


def _all_keys(part: type[Part], prefix: str, tree: Any) -> Iterator[str]:
    for name, field in part.model_fields.items():
        yield f"{prefix}{name}"
        value = tree.get(name) if isinstance(tree, dict) else None
        if isinstance(value, dict):
            inner = parts_of(field.annotation)
            chosen = [p for p in inner if len(inner) == 1 or p.model_fields["name"].default == value.get("name")]
            for p in chosen:
                yield from _all_keys(p, f"{prefix}{name}.", value)


def parts_of(annotation: Any) -> list[type[Part]]:
    """The Parts that a field's annotation admits: one, or the members of a union."""
    if isinstance(annotation, type) and issubclass(annotation, Part):
        return [annotation]
    if get_origin(annotation) in (Union, types.UnionType, tuple) or hasattr(annotation, "__metadata__"):
        return [part for argument in get_args(annotation) for part in parts_of(argument)]
    return []


def _differences(old: Any, new: Any, path: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict) and old.get("name") == new.get("name"):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _differences(old.get(key), new.get(key), f"{path}.{key}" if path else key)
    elif old != new:
        yield f"{path}: {_brief(old)} in the run, {_brief(new)} now"


def _brief(value: Any) -> str:
    return str(value.get("name", value)) if isinstance(value, dict) else repr(value)


def _describe(part: type[Part], prefix: str, default: Part | None) -> Iterator[str]:
    for name, field in part.model_fields.items():
        key = f"{prefix}{name}"
        inner = parts_of(field.annotation)
        value = getattr(default, name, None) if default else field.default
        meaning = " ".join((field.description or "").split())
        if not inner:
            if name != "name":
                shown = "required" if field.is_required() else value
                yield f"  {key}={shown}  ({_type_name(field.annotation)})  {meaning}"
            continue
        yield f"\n  {key}: {meaning}"
        for member in inner:
            if "name" in member.model_fields and len(inner) > 1:
                first = (member.__doc__ or "").strip().split("\n")[0]
                yield f"    {key}.name={member.model_fields['name'].default}: {first}"
            own = value if isinstance(value, member) else None
            yield from ("  " + line for line in _describe(member, f"{key}.", own))


def _type_name(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return " | ".join(map(str, get_args(annotation)))
    return getattr(annotation, "__name__", str(annotation))
