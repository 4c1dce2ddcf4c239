"""Parts of a user's own, wherever a Part is chosen by name: `name: my_parts.py:MyLoss`, or `package.module:MyLoss`.

`OwnPart` stands beside the discriminator of each union of Parts. It takes what has a colon in its name, finds the
class, checks its base, and validates the rest with it; the reference is the name in everything that is written down.

Code is imported only where the user's own config or command names it. Whoever reads a config that came from elsewhere
(a run's folder, a checkpoint) says so by `reading`: then a class must be known already, or nothing is executed.
"""

import inspect
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args

from pydantic import ConfigDict, GetCoreSchemaHandler
from pydantic_core import core_schema

from dist_gan.own_code import digest, file_of, mistake, module_of_file, module_of_name, real_path
from dist_gan.part import Part, Reference, is_free

Code = Literal["run", "known", "inert"]
"""What may happen to code that a config names. run: it is imported. known: only classes that this process has imported
already are used, others are refused. inert: others are read as data only, which is enough to compare."""

NAME_ALONE = frozenset({"features"})
"""Keys whose value may be a name alone: `features: digits` means `features: {name: digits}`."""

_code: ContextVar[tuple[Code, frozenset[str]]] = ContextVar("code", default=("run", frozenset()))
_known: dict[str, type[Part]] = {}
"""Reference -> class: what the user's own config or call has brought into this process."""


@contextmanager
def reading(code: Code, named: Iterable[str] = ()) -> Iterator[None]:
    """Inside, configs are validated in this way; what is `named` by the user's own command may be imported."""
    token = _code.set((code, frozenset(named)))
    try:
        yield
    finally:
        _code.reset(token)


@dataclass(frozen=True)
class OwnPart:
    """Beside a union of Parts in `Annotated`: classes of the user's own with one of these bases are members too."""

    bases: tuple[type[Part], ...]

    def __init__(self, *bases: type[Part]) -> None:
        object.__setattr__(self, "bases", bases)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        built_in: tuple[type[Part], ...] = get_args(source)
        names = {kind.model_fields["name"].default for kind in built_in}
        schema = handler(source)

        def validate(value: Any, members: core_schema.ValidatorFunctionWrapHandler) -> Any:
            if isinstance(value, self.bases) and type(value) not in built_in:
                return _given(value)
            name = value.get("name") if isinstance(value, dict) else None
            inert = _code.get()[0] == "inert"
            if not isinstance(name, str) or (":" not in name and (name in names or not inert)):
                return members(value)
            fields = {key: item for key, item in value.items() if key != "name"}
            if inert and name not in _known:
                return _placeholder(name, self.bases[0]).model_validate(fields)
            return self._class(name, built_in).model_validate(fields)

        def serialize(value: Any, members: Any, info: core_schema.SerializationInfo) -> Any:
            own = reference_of(type(value))
            return {"name": own.text, **_fields(value, info)} if own else members(value)

        return core_schema.no_info_wrap_validator_function(
            validate,
            schema,
            serialization=core_schema.wrap_serializer_function_ser_schema(serialize, info_arg=True, schema=schema),
        )

    def _class(self, text: str, built_in: tuple[type[Part], ...]) -> type[Part]:
        kind = resolve(text)
        if not isinstance(kind, type) or not issubclass(kind, self.bases):
            raise mistake(self._other(text, kind))
        if kind in built_in:
            raise mistake(f"{text} is built in: name={kind.model_fields['name'].default}")
        if inspect.isabstract(kind):
            missing = ", ".join(sorted(kind.__abstractmethods__))
            raise mistake(f"{text} does not define {missing}, which {self._base} asks for")
        return kind

    @property
    def _base(self) -> str:
        return " or ".join(f"{base.__module__}.{base.__qualname__}" for base in self.bases)

    def _other(self, text: str, kind: Any) -> str:
        """What is said of something that is none of `bases`."""
        wanted = " or ".join(_a(base.__name__) for base in self.bases)
        base = self._base
        if not isinstance(kind, type):
            return f"{text} is no class; here it takes {wanted}: a subclass of {base}"
        built_in = [each for each in kind.__mro__ if issubclass(each, Part) and _is_built_in(each)]
        kinds = [each.__name__ for each in built_in if inspect.isabstract(each) and not each.__name__.startswith("_")]
        if not kinds:
            return f"{text} is no subclass of {base}"
        return f"{text} is {_a(kinds[0])}; here it takes {wanted}: a subclass of {base}"


def known(name: str) -> type[Part] | None:
    """The class that `name` refers to, where this process knows it."""
    return _known.get(anchored_name(name, Path.cwd()))


def reference_of(kind: type) -> Reference | None:
    """How a class of the user's own is referred to; None for a built-in one."""
    found = kind.__dict__.get("reference")
    return found if isinstance(found, Reference) else None


def owned(part: Part, path: str = "", *, learning: bool = False) -> Iterator[tuple[str, Part]]:
    """(dotted key, part) of all parts of the user's own in `part`, at any depth. `learning`: only of those that
    determine what is learnt."""
    for name, field in type(part).model_fields.items():
        if learning and is_free(field):
            continue
        value = getattr(part, name)
        items = enumerate(value) if isinstance(value, tuple | list) else [("", value)]
        for number, item in items:
            if isinstance(item, Part):
                key = ".".join(str(step) for step in (path, name, number) if step != "")
                if reference_of(type(item)):
                    yield key, item
                yield from owned(item, key, learning=learning)


def code_of(part: Part) -> dict[str, tuple[str, str]]:
    """Dotted key -> (file, SHA-256) of the code of each part of the user's own; empty where it cannot be read."""
    references = {key: reference_of(type(own)) for key, own in owned(part, learning=True)}
    return {key: (found.file, found.sha256) for key, found in references.items() if found}


def anchored(tree: Any, folder: Path) -> Any:
    """`tree` with the files that its names refer to looked for in `folder` first: relative to the current directory
    where they are below it, else absolute. So a class is written alike wherever it is referred to. A name that stands
    alone becomes a block."""
    if isinstance(tree, list):
        return [anchored(item, folder) for item in tree]
    if not isinstance(tree, dict):
        return tree
    tree = {
        key: anchored({"name": item} if key in NAME_ALONE and isinstance(item, str) else item, folder)
        for key, item in tree.items()
    }
    name = tree.get("name")
    if isinstance(name, str):
        tree["name"] = anchored_name(name, folder)
    return tree


def names_in(tree: Any) -> Iterator[str]:
    """All references to classes of the user's own in `tree`."""
    if isinstance(tree, dict):
        name = tree.get("name")
        if isinstance(name, str) and ":" in name:
            yield name
    for item in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from names_in(item)


def anchored_name(name: str, folder: Path) -> str:
    """As `anchored`, of one name; what names no file comes back as it is."""
    file, separator, kind = name.rpartition(":")
    if not separator or not file.endswith(".py"):
        return name
    path = Path(file).expanduser()
    beside = folder / path
    path = real_path(beside if beside.exists() else path)
    here = Path.cwd()
    return f"{path.relative_to(here) if path.is_relative_to(here) else path}:{kind}"


def resolve(text: str) -> Any:
    """What `file.py:Class` or `package.module:Class` refers to, imported where that is allowed.

    Raises:
        PydanticCustomError: there is no such file, module or class, its import fails, or it may not be imported.
    """
    text = anchored_name(text, Path.cwd())
    code, named = _code.get()
    if code != "run" and text in _known:
        return _known[text]
    if code != "run" and text not in named:
        raise mistake(
            f"{text} is code that this config, which did not come from your own command, asks to execute. Read that "
            "code first; where you trust it, say trust_code=true (in Python: trust_code=True)"
        )
    source, _, name = text.rpartition(":")
    module = module_of_file(Path(source)) if source.endswith(".py") else module_of_name(source, text)
    kind: Any = module
    for step in name.split("."):
        kind = getattr(kind, step, None)
    if kind is None:
        there = [n for n, value in vars(module).items() if _is_own(value, module)]
        raise mistake(f"{source} has no class {name!r}; it has {', '.join(there) or 'none'}")
    if isinstance(kind, type) and issubclass(kind, Part) and not _is_built_in(kind):
        label = text if not source.endswith(".py") else f"{Path(source).name}:{name}"
        _introduce(kind, Reference(text, label, str(getattr(module, "__file__", None) or source), digest(kind)))
    return kind


def _given(value: Part) -> Part:
    """An instance that came from Python."""
    kind = type(value)
    if not reference_of(kind) and not _is_built_in(kind):
        text = f"{kind.__module__}:{kind.__qualname__}"
        _introduce(kind, Reference(text, text, file_of(kind), digest(kind)))
    return value


def _is_built_in(kind: type[Part]) -> bool:
    return kind.__module__.startswith("dist_gan.")


def _introduce(kind: type[Part], reference: Reference) -> None:
    """`kind` is known by `reference` from now on, and has a name for people where it has no such field."""
    _known[reference.text] = kind
    kind.reference = reference
    if "name" not in kind.model_fields:
        kind.name = kind.__name__  # type: ignore[attr-defined]  # members of the unions have a field of this name


def _placeholder(name: str, base: type[Part]) -> type[Part]:
    """A stand-in for a class whose code must not be executed: its fields as they are, and nothing that it could do."""
    namespace = {
        "__module__": __name__,
        "model_config": ConfigDict(extra="allow"),
        "identity": lambda self: {"name": _label(name), **self.model_dump(mode="json")},
        **{method: lambda *_: None for method in getattr(base, "__abstractmethods__", ())},
    }
    meta: Any = type(base)
    kind: Any = meta("Placeholder", (base,), namespace)
    kind.reference = Reference(name, _label(name), "", "")
    kind.name = name
    return kind


def _label(name: str) -> str:
    file, separator, kind = name.rpartition(":")
    return f"{Path(file).name}:{kind}" if separator and file.endswith(".py") else name


def _fields(value: Part, info: core_schema.SerializationInfo) -> Mapping[str, Any]:
    return {key: item for key, item in value.model_dump(mode=info.mode).items() if key != "name"}


def _a(name: str) -> str:
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"


def _is_own(value: Any, module: ModuleType) -> bool:
    return isinstance(value, type) and value.__module__ == module.__name__
