"""pytorch/examples' own DCGAN, from a checkout of that repository: its networks and the update of its loop, as they
stand in dcgan/main.py, on our images."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from plain import Pair
from torch import Tensor, nn

SETTINGS = {"nz": 100, "ngf": 64, "ndf": 64, "nc": 3, "ngpu": 1, "real_label": 1, "fake_label": 0}
"""The script's defaults, for color images of 64x64."""


class ExamplesLoop:
    """It has no average, prints nothing here, and reads its losses back as the script does."""

    def __init__(self, script: Path, images: Iterator[Tensor], device: torch.device) -> None:
        """`script`: dcgan/main.py; `images`: real batches [N, 3, 64, 64] in [-1, 1].

        Raises:
            ValueError: there is no such loop in it.
        """
        tree = ast.parse(script.read_text(encoding="utf-8"))
        kept = [node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
        loops = [node for node in ast.walk(tree) if isinstance(node, ast.For) and _reads_batches(node)]
        if not kept or len(loops) != 1:
            raise ValueError(f"{script}: expected one loop over a dataloader, and found {len(loops)}")
        update = [node for node in loops[0].body if not isinstance(node, ast.If) and not _prints(node)]
        self._images = images
        self._names: dict[str, Any] = {"torch": torch, "nn": nn, "device": device, **SETTINGS}
        exec(compile(ast.Module(list(kept), []), str(script), "exec"), self._names)
        networks = [self._names[name](1).to(device) for name in ("Generator", "Discriminator")]
        for network, name in zip(networks, "GD", strict=True):
            network.apply(self._names["weights_init"])
            adam = torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.5, 0.999))
            self._names |= {f"net{name}": network, f"optimizer{name}": adam}
        self._names["criterion"] = nn.BCELoss()
        self._update = compile(ast.Module(list(update), []), str(script), "exec")
        self.pair = Pair(*networks)

    @property
    def average(self) -> nn.Module:
        return self.pair.generator

    def run(self, updates: int) -> None:
        for _ in range(updates):
            self._names["data"] = [next(self._images)]
            exec(self._update, self._names)

    def close(self) -> None:
        """Nothing is held."""


def _reads_batches(loop: ast.For) -> bool:
    return any(isinstance(node, ast.Name) and node.id == "dataloader" for node in ast.walk(loop.iter))


def _prints(node: ast.stmt) -> bool:
    called = node.value.func if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) else None
    return isinstance(called, ast.Name) and called.id == "print"
