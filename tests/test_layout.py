"""The order of the house, read from its folders: which wing may import which, and what modules may be called."""

import ast
import importlib.metadata
import re
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.support.children import finished
from tests.support.commands import ROOT

PACKAGE = ROOT / "dist_gan"
FILES = sorted(PACKAGE.rglob("*.py"))
WINGS = (
    {"networks", "data", "distributed"},
    {"optim"},
    {"objective"},
    {"sampling"},
    {"game", "metrics"},
    {"config"},
    {"run"},
    {"checkup", "reporting", "handing_on", "advising", "planning"},
)
"""From the lowest to the highest. Below them are the ground files, above them the commands: the files at the root."""
ONLY_IN = {"accelerate": ("distributed/", "run/tracker.py"), "wandb": ("run/tracker.py",), "rich": ("console.py",)}
LIGHT = ["dist_gan", "dist_gan.run", "dist_gan.distributed.timing", "dist_gan.status"]
LIGHT += [f"dist_gan.{ground}" for ground in ("errors", "shapes", "formatting", "console")]
HEAVY = {"torch", "numpy", "accelerate", "torchvision", "wandb", "tensorboard"}


def place(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def module(path: Path) -> str:
    """`dist_gan.run.tracker`; a folder's `__init__.py` is the folder."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module(path): path for path in FILES}


def imports(path: Path) -> Iterator[str]:
    """The modules of this package, and the other packages, that a file imports anywhere."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & MODULES.keys()
            yield from inner
            if len(inner) < len(node.names):
                yield node.module


GRAPH = {name: {used for used in imports(path) if used in MODULES} - {name} for name, path in MODULES.items()}
SIZE = f"the house has {len(MODULES)} modules, and {sum(map(len, GRAPH.values()))} imports between them"


def is_command(path: Path) -> bool:
    return path.parent == PACKAGE and '__name__ == "__main__"' in path.read_text()


def level(path: Path) -> float:
    """How high in the house a file is. The package's own face and `python -m dist_gan` are above all."""
    if path.parent != PACKAGE:
        wing = path.relative_to(PACKAGE).parts[0]
        found = [number for number, wings in enumerate(WINGS) if wing in wings]
        assert found, f"dist_gan/{wing}/ has no place in the house: put it into WINGS, in this test"
        return found[0]
    if path.name in ("__init__.py", "__main__.py"):
        return len(WINGS) + 1
    return len(WINGS) if is_command(path) else -1


def wing(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0] if path.parent != PACKAGE else "dist_gan"


def test_a_wing_imports_only_wings_below_it() -> None:
    """Within a wing, and among the ground files, modules may import each other. Nobody imports a command."""

    def allowed(path: Path, used: Path) -> bool:
        if is_command(used):
            return path.name == "__main__.py"
        return level(path) > level(used) or (level(path) == level(used) and wing(path) == wing(used))

    upward = [
        f"{place(path)} imports {used}"
        for name, path in MODULES.items()
        for used in sorted(GRAPH[name] - {"dist_gan"})  # which has the version
        if not allowed(path, MODULES[used])
    ]
    assert not upward, "\n".join([*upward, SIZE])


def test_no_modules_import_each_other_in_a_circle() -> None:
    try:
        TopologicalSorter({name: used - {"dist_gan"} for name, used in GRAPH.items()}).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' imports '.join(reversed(error.args[1]))}\n{SIZE}")


@pytest.mark.parametrize("package", ONLY_IN)
def test_who_may_import(package: str) -> None:
    users = [place(path) for path in FILES if package in {name.split(".")[0] for name in imports(path)}]
    assert users, f"nobody imports {package}"
    assert [user for user in users if not user.startswith(ONLY_IN[package])] == [], SIZE


def test_heavy_packages_are_imported_where_they_are_used() -> None:
    """wandb, tensorboard and torchvision never at a module's top."""
    for path in FILES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [str(node.module)]
                assert not {name.split(".")[0] for name in names} & {"wandb", "tensorboard", "torchvision"}, path


@pytest.mark.parametrize("name", LIGHT)
def test_what_must_be_light_is(name: str) -> None:
    """Nothing of it loads torch: `dist_gan.status` answers at once, on machines without torch too."""
    done = finished([sys.executable, "-c", f"import sys, {name}; print(*sys.modules)"], cwd=ROOT, timeout=60)
    loaded = {module.split(".")[0] for module in done.stdout.split()}
    assert "dist_gan" in loaded, done.stderr
    assert loaded & HEAVY == set()


def test_module_names_hide_nobodys() -> None:
    """`accelerate launch dist_gan/train.py` puts dist_gan/ first on sys.path: what is directly in it could hide a
    package. Deeper names cannot, but those of the standard library would confuse."""
    first = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in FILES} - {"__init__", "__main__"}
    deeper = {part for name in MODULES for part in name.split(".")} - {"dist_gan", "__main__"}
    assert first & set(importlib.metadata.packages_distributions()) == set()
    assert deeper & set(sys.stdlib_module_names) == set()


def test_git_ignores_no_folder_of_the_package() -> None:
    ignored = {line.strip("/") for line in (ROOT / ".gitignore").read_text().split() if line.endswith("/")}
    folders = {part for path in FILES for part in path.relative_to(ROOT).parts[:-1]}
    assert folders & ignored == set()


def test_files_stay_short() -> None:
    everywhere = [
        path for folder in ("dist_gan", "tests", "launch", "benchmarks") for path in ROOT.glob(f"{folder}/**/*.py")
    ]
    assert [str(path) for path in everywhere if len(path.read_text().splitlines()) > 330] == []


def test_nothing_unpickles() -> None:
    """One file reads what torch.save wrote, weights of feature networks, and lets torch build nothing but tensors."""
    for path in FILES:
        names = set(imports(path))
        assert not names & {"pickle", "dill", "joblib"}, path
        loads = re.findall(r"torch\.load\b.*", path.read_text())
        assert not loads or place(path) == "metrics/weight_files.py", path
        assert all("weights_only=True)" in load for load in loads), loads
