"""The house's order: which room may import which, and what modules may be called."""

import ast
import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import ROOT

PACKAGE = ROOT / "dist_gan"
FILES = sorted(PACKAGE.rglob("*.py"))
PARTS = {
    "part",
    "randomness",
    "losses",
    "penalties",
    "augment",
    "schedules",
    "optimizers",
    "networks",
    "data",
    "objective",
}
RUNTIME = {
    "processes",
    "pulse",
    "wire",
    "exact",
    "player",
    "game",
    "meter",
    "checkpoint",
    "run_folder",
    "tracker",
    "console",
    "trainer",
    "debug",
    "failures",
    "start",
    "watchdog",
    "checkup",
}
ENTRIES = {"train", "sample", "status", "doctor"}
ONLY = {"accelerate": {"processes"}, "wandb": {"tracker"}, "rich": {"console"}, "tensorboard": set()}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module
            yield node.module
            if node.module == "dist_gan":
                yield from (f"dist_gan.{alias.name}" for alias in node.names)


def rooms_of(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imports(path) if name.startswith("dist_gan.")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows(path: Path) -> None:
    here, used = room(path), rooms_of(path)
    assert not used & ENTRIES, "nobody imports an entry"
    if here in PARTS:
        assert not used & (RUNTIME | {"config", "command_line"}), "parts never import the runtime"
    if here == "config":
        assert not used & RUNTIME
    if here in RUNTIME - {"tracker", "debug", "start", "checkup"}:
        assert not used & {"config", "command_line"}, "the runtime receives objects, not the config"
    if here in ("checkpoint", "console", "run_folder"):
        assert not used & (RUNTIME - {here})
    for package, allowed in ONLY.items():
        if any(name.split(".")[0] == package for name in imports(path)):
            assert here in allowed, f"only {allowed} may import {package}"


def test_heavy_packages_are_imported_where_they_are_used() -> None:
    """wandb, tensorboard and torchvision never at a module's top."""
    for path in FILES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [str(node.module)]
                assert not {name.split(".")[0] for name in names} & {"wandb", "tensorboard", "torchvision"}, path


def test_module_names_break_nobodys_import() -> None:
    """`accelerate launch dist_gan/train.py` puts dist_gan/ first on sys.path."""
    installed = {name for names in importlib.metadata.packages_distributions() for name in [names]}
    ours = {room(path) for path in FILES} - {"__init__"}
    assert not ours & set(sys.stdlib_module_names)
    assert not ours & installed - {"dist_gan"}


def test_files_stay_short() -> None:
    assert [str(path) for path in FILES if len(path.read_text().splitlines()) > 330] == []


def test_nothing_unpickles_a_checkpoint() -> None:
    for path in FILES:
        names = set(imports(path))
        assert not names & {"pickle", "dill", "joblib"}, path
        assert "torch.load" not in path.read_text(), path
