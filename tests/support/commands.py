"""The project's commands, in this process and in others."""

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.support.children import finished

ROOT = Path(__file__).resolve().parents[2]
# By their modules' names: `dist_gan.train` is also the function that Python users call.
advise = importlib.import_module("dist_gan.advise")
train = importlib.import_module("dist_gan.train")
doctor = importlib.import_module("dist_gan.doctor")
status = importlib.import_module("dist_gan.status")
export = importlib.import_module("dist_gan.export")
sample = importlib.import_module("dist_gan.sample")
score = importlib.import_module("dist_gan.score")


def command(*arguments: str, ranks: int = 1, env: dict[str, str] | None = None, **options: Any) -> Any:
    """Run python to its end (with `ranks` > 1 under torchrun) in the repository's root."""
    launch = [sys.executable]
    if ranks > 1:
        launch += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)]
    return finished(
        [*launch, *arguments],
        cwd=options.pop("cwd", ROOT),
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
        **options,
    )


def last_metrics(run: Path) -> dict[str, float]:
    return json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
