"""The files of networks of a user's own, which may travel along with a model."""

import ast
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dist_gan.errors import ConfigError
from dist_gan.own_parts import anchored_name, names_in
from dist_gan.run.handed_on import CODE


def with_labels(tree: Any) -> Any:
    """`tree` with files named without their folders, which mean nothing on other machines."""
    return _renamed(tree, lambda file: Path(file).name)


def with_copies(tree: Any) -> tuple[Any, dict[str, bytes]]:
    """(`tree`, whose names refer to the copies, {path below the model's folder: content} of these).

    With a file travels what it imports from beside it.

    Raises:
        ConfigError: a class is not in a file, or two files have one name.
    """
    copies: dict[str, bytes] = {}
    for name in names_in(tree):
        source, _, kind = anchored_name(name, Path.cwd()).rpartition(":")
        if not source.endswith(".py"):
            raise ConfigError(
                f"code: {name} is in a package or a notebook, and only files (file.py:{kind}) travel along. Leave code "
                "out: the model card then says which class is needed"
            )
        folder = Path(source).resolve().parent
        for path in _with_what_it_imports(Path(source).resolve(), folder, set()):
            copy, content = f"{CODE}/{path.relative_to(folder).as_posix()}", path.read_bytes()
            if copies.setdefault(copy, content) != content:
                raise ConfigError(f"code: two different files would be {copy}. Rename one of them, {path} for example")
    return _renamed(tree, lambda file: f"{CODE}/{Path(file).name}"), copies


def _with_what_it_imports(path: Path, folder: Path, seen: set[Path]) -> Iterator[Path]:
    if path in seen:
        return
    seen.add(path)
    yield path
    for name in _imported(path):
        try:
            spec = importlib.util.find_spec(name)  # as an import in that file would find it
        except (ImportError, ValueError):
            continue
        origin = Path(spec.origin).resolve() if spec and spec.origin and spec.origin.endswith(".py") else None
        if origin is None or not origin.is_relative_to(folder):
            continue
        if origin.parent == folder:
            yield from _with_what_it_imports(origin, folder, seen)
        elif origin == folder / name / "__init__.py":
            for inner in sorted(origin.parent.rglob("*.py")):
                yield from _with_what_it_imports(inner, folder, seen)


def _imported(path: Path) -> set[str]:
    """The first parts of the names of all modules that a file imports anywhere."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def _renamed(tree: Any, file: Any) -> Any:
    if isinstance(tree, list):
        return [_renamed(item, file) for item in tree]
    if not isinstance(tree, Mapping):
        return tree
    tree = {key: _renamed(item, file) for key, item in tree.items()}
    source, colon, kind = str(tree.get("name", "")).rpartition(":")
    if colon and source.endswith(".py"):
        tree["name"] = f"{file(source)}:{kind}"
    return tree
