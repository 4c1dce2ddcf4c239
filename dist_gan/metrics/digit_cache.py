"""The weights of the digit network on this machine: made by one process, verified by every other.

data_root()/digits/RECIPE.safetensors    the weights; in its metadata their SHA-256 and their accuracy
"""

import contextlib
import json
import os
import tempfile
import warnings
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dist_gan.data import MNIST
from dist_gan.data.fetch import data_root, only_one
from dist_gan.data.source import READING, Progress
from dist_gan.errors import ConfigError, FeaturesMissing
from dist_gan.metrics.digit_recipe import RECIPE, classified, fingerprint, network, train

LOWEST = 0.993
"""Of MNIST's test images, the part that must be classified rightly."""
FACTS = "dist_gan"
"""The one key of the file's metadata: JSON. (safetensors writes several in an order that differs from save to save.)"""


def weights(progress: Progress = READING.progress) -> dict[str, Tensor]:
    """The weights of `digit_recipe.network()`, trained if they are not there yet.

    Raises:
        FeaturesMissing: they are not there, and MNIST is not either, or they cannot be kept.
        RuntimeError: training has made a network that is not good enough.
    """
    file = _file()
    if (found := _read(file)) is not None:
        return found
    try:
        train_set, test_set = (MNIST().load(train=half) for half in (True, False))
    except ConfigError as error:
        raise FeaturesMissing(f"features: the digit network learns from MNIST, once on each machine. {error}") from None
    try:
        with only_one(file.parent):
            found = _read(file, aside=True)
            if found is None:  # else another process was faster
                found = train(*train_set, progress=progress)
                accuracy = check(found, *test_set)
                _write(file, found, accuracy)
            return found
    except OSError as error:
        raise FeaturesMissing(
            f"features: the digit network cannot be kept in {file.parent} ({error.strerror or error}). Make it a "
            "folder that can be written, or set DIST_GAN_DATA to one with MNIST/raw in it"
        ) from None


def there() -> bool:
    """Whether this machine has the weights: whether `weights` returns them at once."""
    return _read(_file()) is not None


def check(found: dict[str, Tensor], images: Tensor, labels: Tensor) -> float:
    """The part of `images` (uint8 [M, 1, 28, 28]) that is classified as `labels` (int64 [M]) say. Raises RuntimeError
    where that is too little."""
    trained = network().eval()
    trained.load_state_dict(found)
    accuracy = (classified(trained, images) == labels).double().mean().item()
    if accuracy < LOWEST:
        raise RuntimeError(
            f"the digit network, as trained on this machine, classifies {accuracy:.2%} of MNIST's test images rightly, "
            f"less than {LOWEST:.1%}: its recipe does not work with torch {torch.__version__} here, and it is not used"
        )
    return accuracy


def _file() -> Path:
    return data_root() / "digits" / f"{RECIPE.name}.safetensors"


def _read(file: Path, *, aside: bool = False) -> dict[str, Tensor] | None:
    """The weights in `file`; None where it is not there or damaged. `aside`: a damaged one gets another name."""
    if not file.exists():
        return None
    try:
        with safe_open(file, "pt") as opened:
            facts = json.loads((opened.metadata() or {})[FACTS])
            found = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # it is no mapping
        network().load_state_dict(found)
        wrong = "" if fingerprint(found) == facts["sha256"] else "the SHA-256 of its weights is another one"
    except (OSError, ValueError, LookupError, TypeError, RuntimeError, SafetensorError) as error:
        wrong = " ".join(str(error).split())[:200] or type(error).__name__
    if not wrong:
        return found
    if aside:
        kept = file.with_suffix(".damaged")
        os.replace(file, kept)
        warnings.warn(f"{file} is damaged ({wrong}): it is now {kept.name}, and is made again", stacklevel=2)
    return None


def _write(file: Path, found: dict[str, Tensor], accuracy: float) -> None:
    """By one rename. On an OSError nothing is left."""
    facts = {"recipe": RECIPE._asdict(), "accuracy": accuracy, "torch": torch.__version__}
    content = save(found, {FACTS: json.dumps(facts | {"sha256": fingerprint(found)})})
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=".tmp-")
    temporary = Path(name)
    try:
        with open(handle, "wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
        temporary.chmod(0o644)
        temporary.replace(file)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
