"""Texts about configs: their keys and meaning, mistakes in them, differences between two."""

import difflib
import types
from collections.abc import Iterator, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from dist_gan.own_code import MISTAKE
from dist_gan.own_parts import known, reference_of
from dist_gan.part import Part

USAGE = """usage: accelerate launch dist_gan/train.py [CONFIG.yaml] [dotted.key=value ...]

  --print-config   print the resolved configuration as YAML and stop
  --help           this text

Without CONFIG.yaml the defaults below are used: the fully-connected GAN on MNIST. Setting a block's name starts that
block from its defaults: networks.name=dcgan. Values are YAML: objective.penalties='[{name: r1, weight: 5}]'.

A name may be a class of your own: objective.loss.name=my_parts.py:MyLoss (a file beside the config, or from the current
directory), or package.module:MyLoss. With the config given, --help shows its keys too. A config in a run's folder may
execute such code only with trust_code=true on the command line.
"""


SAID = {
    "missing": "{key}: must be given",
    "union_tag_not_found": "{key}.name: must be given",
    MISTAKE: "{key}.name: {text}",
}
"""Kinds of mistakes of which there is no more to say."""
PLAIN = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    "string_type": "text",
    **dict.fromkeys(("tuple_type", "list_type"), "a list"),
}
"""Kinds of mistakes -> what was expected, where pydantic's own words are those of a programmer."""
RENAMED = {"piece": "microbatch"}
"""Keys of version 0.1 -> their names now."""


def differences(old: Part, new: Part) -> list[str]:
    """Where two configs differ in what determines the model: `key: old value there, new value here`."""
    return list(_differences(old.identity(), new.identity(), ""))


def help_text(config: Part) -> str:
    """Usage, then every key with its type, its value in `config` and its meaning."""
    return USAGE + "\n" + "\n".join(_describe(type(config), "", config, {}))


def explain_mistakes(error: ValidationError, tree: Any, root: type[Part]) -> list[str]:
    """Why `tree` is no `root` (a config), as lines: key, what was expected, what was given, the nearest key."""
    return [_explain(each, tree, root) for each in error.errors(include_url=False)]


def _explain(error: Any, tree: Any, root: type[Part]) -> str:
    path, block = _path(error["loc"], tree)
    kind, given = error["type"], error["input"]
    dotted = ".".join(path)
    if kind == "extra_forbidden" and dotted in RENAMED:
        return f"{dotted}: {dotted} is called {RENAMED[dotted]} now"
    if kind == "extra_forbidden":
        siblings = list(_fields_at(path[:-1], tree, root))
        parent = ".".join(path[:-1])
        near = difflib.get_close_matches(path[-1], siblings, 1, 0.6)
        if path[-1].isdigit() and _may_be_a_list(path[:-1], tree, root):
            hint = f": {parent} is one here, no list. For several set {parent}=[{{...}}, {{...}}] first"
        elif not near:  # the right name in the wrong place?
            near = [key for key in _all_keys(root, "", tree) if key.split(".")[-1] == path[-1]][:1]
            hint = f"; did you mean {near[0]}?" if near else f"; known here: {', '.join(siblings)}"
        else:
            hint = f"; did you mean {parent + '.' if parent else ''}{near[0]}?"
        return f"{dotted}: unknown key{hint}"
    if kind == "union_tag_invalid" or (kind == "union_tag_not_found" and not isinstance(given, dict)):
        expected = error["ctx"].get("expected_tags", "").replace("'", "") or "keys and values with a name"
        name = given.get("name") if isinstance(given, dict) else given
        near = difflib.get_close_matches(str(name), expected.split(", "), 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"{dotted}.name: expected one of {expected}, got {name!r}{hint}"
    if kind in SAID:
        return SAID[kind].format(key=dotted, text=error["msg"])
    text = PLAIN.get(kind) or error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if block is None and kind not in PLAIN and not error["msg"].startswith("Input should be "):
        return f"{dotted}: {text}"
    whole = kind == "value_error" and isinstance(given, dict)  # all keys of a block would hide the text
    got = "" if whole else f", got {'nothing' if given is None else repr(given)}"
    return f"{dotted}: expected {text}{got}"


def _path(location: Sequence[Any], tree: Any) -> tuple[list[str], Any]:
    """The dotted path of an error, without the union tags that pydantic puts between."""
    path: list[str] = []
    block = tree
    for item in location:
        if _is_tag(item) or (isinstance(block, dict) and item not in block and block.get("name") == item):
            continue
        path.append(str(item))
        try:
            block = block[item]
        except (KeyError, IndexError, TypeError):
            block = None
    return path, block


def _is_tag(item: Any) -> bool:
    """Whether it stands for a member of a union that has no name."""
    return isinstance(item, str) and item.startswith("<")


def _fields_at(path: Sequence[str], tree: Any, root: type[Part]) -> dict[str, FieldInfo]:
    parts: list[type[Part]] = [root]
    for key in path:
        tree = tree[int(key)] if isinstance(tree, list | tuple) else _child(tree, key)
        if not key.isdigit():
            annotations = [part.model_fields[key].annotation for part in parts if key in part.model_fields]
            parts = [part for annotation in annotations for part in parts_of(annotation)]
        parts = _chosen(parts, tree) or parts
    return {name: field for part in parts for name, field in part.model_fields.items()}


def _may_be_a_list(path: Sequence[str], tree: Any, root: type[Part]) -> bool:
    field = _fields_at(path[:-1], tree, root).get(path[-1]) if path else None
    return field is not None and any(get_origin(kind) is tuple for kind in _alternatives(field.annotation))


def _alternatives(annotation: Any) -> list[Any]:
    """The members of a union, without what is said about them."""
    if get_origin(annotation) in (Union, types.UnionType) or hasattr(annotation, "__metadata__"):
        return [one for argument in get_args(annotation) for one in _alternatives(argument)]
    return [annotation]


def _child(tree: Any, key: str) -> Any:
    return tree.get(key) if isinstance(tree, dict) else getattr(tree, key, None)


def _chosen(parts: list[type[Part]], block: Any) -> list[type[Part]]:
    """Which of `parts` the block's name says, or the class of the user's own; empty where it says none."""
    if isinstance(block, Part):
        return [type(block)]
    name = block.get("name") if isinstance(block, dict) else None
    if isinstance(name, str) and (own := known(name)):
        return [own]
    return [p for p in parts if len(parts) == 1 or (isinstance(block, dict) and p.model_fields["name"].default == name)]


def _all_keys(part: type[Part], prefix: str, tree: Any) -> Iterator[str]:
    for name, field in part.model_fields.items():
        yield f"{prefix}{name}"
        value = tree.get(name) if isinstance(tree, dict) else None
        if isinstance(value, dict):
            for p in _chosen(parts_of(field.annotation), value):
                yield from _all_keys(p, f"{prefix}{name}.", value)


def parts_of(annotation: Any) -> list[type[Part]]:
    """The Parts that a field's annotation allows: one, or the members of a union."""
    if isinstance(annotation, type) and issubclass(annotation, Part):
        return [annotation]
    if get_origin(annotation) in (Union, types.UnionType, tuple) or hasattr(annotation, "__metadata__"):
        return list(dict.fromkeys(part for argument in get_args(annotation) for part in parts_of(argument)))
    return []


def _differences(old: Any, new: Any, path: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict) and old.get("name") == new.get("name"):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _differences(old.get(key), new.get(key), f"{path}.{key}" if path else key)
    elif old != new:
        yield f"{path}: {_brief(old)} in the run, {_brief(new)} now"


def _brief(value: Any) -> str:
    return str(value.get("name", value)) if isinstance(value, dict) else repr(value)


def _describe(part: type[Part], prefix: str, default: Part | None, said: dict[Any, str]) -> Iterator[str]:
    """`said`: (the parts that are allowed, the one that is chosen) -> the key where they were described. They are not
    described again."""
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
        if not prefix:
            yield ""
        choice = (tuple(inner), repr(value))
        if first := said.get(choice):
            yield f"  {key}: {meaning} {'As above.' if first == key else f'As {first}.'}"
            continue
        said[choice] = key
        yield f"  {key}: {meaning}"
        items = value if isinstance(value, tuple) else (value,)
        for member in [*inner, *dict.fromkeys(type(item) for item in items if reference_of(type(item)))]:
            own = reference_of(member)
            if own or ("name" in member.model_fields and len(inner) > 1):
                summary = " ".join((member.__doc__ or "").strip().partition("\n\n")[0].split())
                yield f"    {key}.name={own.text if own else member.model_fields['name'].default}: {summary}"
            shown = next((item for item in items if type(item) is member), None)
            yield from ("  " + line for line in _describe(member, f"{key}.", shown, said))


def _type_name(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return " | ".join(map(str, get_args(annotation)))
    return getattr(annotation, "__name__", str(annotation))
