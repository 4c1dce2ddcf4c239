"""dist_gan trains GANs: same config, same seed, same model, on one process or sixty-four, interrupted or not.

From Python: `from dist_gan import Config, train, load_generator, samples`; `given` makes a source of images in memory.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dist_gan.config.schema import Config
    from dist_gan.data import given
    from dist_gan.run.restore import load_generator
    from dist_gan.run.session import Result, train
    from dist_gan.sampling.samples import samples

__version__ = "0.4.0"
__all__ = ["Config", "Result", "given", "load_generator", "samples", "train"]

_PLACES = {
    "Config": "dist_gan.config.schema",
    "Result": "dist_gan.run.session",
    "given": "dist_gan.data",
    "load_generator": "dist_gan.run.restore",
    "samples": "dist_gan.sampling.samples",
    "train": "dist_gan.run.session",
}
"""Where they are. Imported when they are asked for: whoever wants `dist_gan.status` does not wait for torch."""


class _Package(ModuleType):
    """`train` is a function for Python and a module for `accelerate launch dist_gan/train.py`. Importing the module
    would put it in the function's place; as an attribute of the package it stays the function."""

    def __getattr__(self, name: str) -> Any:
        if name not in _PLACES:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        try:
            module = import_module(_PLACES[name])
        except AttributeError as error:  # it would read as if there were no such name
            raise ImportError(f"{_PLACES[name]} cannot be imported: {error}") from error
        return getattr(module, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _PLACES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package
