"""Code of a user's own: a file or a module imported by its name, its SHA-256, and what is told when that fails."""

import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from pathlib import Path
from types import ModuleType

from pydantic_core import PydanticCustomError

MISTAKE = "own_part"
"""The type of the pydantic errors that are raised for a part of the user's own."""


def module_of_file(path: Path) -> ModuleType:
    """The module that a file defines, executed once for each content of it.

    Raises:
        PydanticCustomError: it cannot be read, or its execution fails.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise mistake(
            f"cannot read {path} ({error.strerror}); a file is looked for beside the config, then in the current "
            f"directory ({Path.cwd()})"
        ) from None
    path = real_path(path)
    # By its content too: in a notebook the file may change, and what was made from the old one goes on with it.
    name = f"own_parts_{path.stem}_{hashlib.sha256(str(path).encode() + content).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    _can_import_from(path.parent)
    try:
        exec(compile(content, str(path), "exec"), vars(module))
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise mistake(_failure(error, path)) from error
    return module


def module_of_name(name: str, text: str) -> ModuleType:
    """The module `package.module`; `text` is the whole reference, for the message.

    Raises:
        PydanticCustomError: there is no such module, or its import fails.
    """
    _can_import_from(Path.cwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            raise mistake(
                f"{text}: there is no module {error.name} (neither installed, nor on PYTHONPATH, nor in the current "
                "directory). A file is written with its ending: file.py:Class"
            ) from None
        raise mistake(_failure(error, None)) from error
    except (Exception, SystemExit) as error:
        raise mistake(_failure(error, None)) from error


def real_path(path: Path) -> Path:
    """`path` without links. A file keeps its name where the link hides it, as in the cache of the Hugging Face Hub,
    whose files are links to digests."""
    real = path.resolve()
    return real if real.suffix == path.suffix else path.parent.resolve() / path.name


def _can_import_from(folder: Path) -> None:
    """What lies beside can be imported too. Last: nothing that is installed is hidden."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _failure(error: BaseException, path: Path | None) -> str:
    """Where an import failed: the last line of `path` that was reached, or of any file."""
    kind = f"{type(error).__name__}: {error.msg if isinstance(error, SyntaxError) else error}"
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: {kind}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if path and Path(frame.filename) == path] or frames
    return f"{own[-1].filename}, line {own[-1].lineno}: {kind}"


def file_of(kind: type) -> str:
    """The file that defines `kind`; empty where there is none."""
    try:
        return inspect.getsourcefile(kind) or ""
    except (TypeError, OSError):
        return ""


def digest(kind: type) -> str:
    """SHA-256 of the file that defines `kind`; of its own lines where that is a script or a notebook, which changes
    for other reasons; empty where neither can be had."""
    try:
        if kind.__module__ == "__main__":
            return hashlib.sha256(inspect.getsource(kind).encode()).hexdigest()
        return hashlib.sha256(Path(file_of(kind)).read_bytes()).hexdigest()
    except (TypeError, OSError):
        return ""


def mistake(text: str) -> PydanticCustomError:
    """`text` as a mistake in a config, told among all others of it."""
    # The text is a template there: braces of its own must not be taken for places.
    return PydanticCustomError(MISTAKE, "{text}", {"text": text})
