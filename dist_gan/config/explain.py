"""What people read of a config: its keys and their meaning, mistakes in it, differences between two."""

import difflib
import types
from collections.abc import Iterator, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from dist_gan.config.schema import Config
from dist_gan.part import Part

USAGE = """usage: accelerate launch dist_gan/train.py [CONFIG.yaml] [dotted.key=value ...]

  --print-config   print the resolved configuration as YAML and stop
  --help           this text

Without CONFIG.yaml the defaults below are used: the fully-connected GAN on MNIST. Setting a block's name starts that
block afresh: networks.name=dcgan. Values are YAML: objective.penalties='[{name: r1, weight: 5}]'.
"""


RENAMED = {"piece": "microbatch"}
"""Keys of version 0.1 -> what they are called now."""


def differences(old: Config, new: Config) -> list[str]:
    """Where two configs differ in what determines the model: `key: old value there, new value here`."""
    return list(_differences(old.identity(), new.identity(), ""))


def help_text() -> str:
    """Usage, then every key with its type, default and meaning."""
    return USAGE + "\n" + "\n".join(_describe(Config, "", Config()))


def explain_mistake(error: Any, tree: Any) -> str:
    """One of pydantic's errors about `tree`, as a line: key, what was expected, what was given, the nearest key."""
    path, block = _path(error["loc"], tree)
    kind, given = error["type"], error["input"]
    dotted = ".".join(path)
    if kind == "extra_forbidden" and dotted in RENAMED:
        return f"{dotted}: {dotted} is called {RENAMED[dotted]} now"
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
    if block is None and not error["msg"].startswith("Input should be "):
        return f"{dotted}: {text}"
    return f"{dotted}: expected {text}, got {'nothing' if given is None else repr(given)}"


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
                first = " ".join((member.__doc__ or "").strip().partition("\n\n")[0].split())
                yield f"    {key}.name={member.model_fields['name'].default}: {first}"
            own = value if isinstance(value, member) else None
            yield from ("  " + line for line in _describe(member, f"{key}.", own))


def _type_name(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return " | ".join(map(str, get_args(annotation)))
    return getattr(annotation, "__name__", str(annotation))
