"""A generator as a program for other software: ONNX, and `torch.export`. Each is checked before it is published."""

import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dist_gan.distributed.numerics import torch_defaults
from dist_gan.errors import ConfigError
from dist_gan.networks import Generator
from dist_gan.sampling.generate import sample_latents

ONNX, PROGRAM = "generator.onnx", "generator.pt2"
PACKAGES = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "program": ()}
"""Option -> what must be installed for it."""
OPSET = 18
"""Version of ONNX's operators."""
TRACED, CHECKED = 2, 64
"""Images of the export, and of the check: any number must work."""
TOLERANCE = 1e-4
"""Largest difference of a pixel in [-1, 1] between the program and the generator."""
LARGEST_FILE = 2**30
"""Bytes of weights above which ONNX puts them into a file of their own; no ONNX file can have 2 GiB."""


class Plain(nn.Module):
    """latents float32 [N, Z] (and labels int64 [N]) -> images float32 [N, C, H, W] in [-1, 1]."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = deepcopy(generator).float().cpu().eval()

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """The images of `latents`."""
        images: Tensor = self.generator(latents, labels)
        return images


def check_packages(option: str) -> None:
    """Raises ConfigError where what `option` needs is not installed."""
    if missing := [name for name in PACKAGES[option] if importlib.util.find_spec(name) is None]:
        raise ConfigError(f"{option}: needs {', '.join(missing)}: pip install 'dist_gan[export]'")


@torch.no_grad()
def write_programs(generator: Generator, folder: Path, *, onnx: bool, program: bool) -> None:
    """Write generator.onnx and generator.pt2 into `folder`, as asked for, and check that they make the same images.

    Raises:
        ConfigError: the generator cannot be exported, or its program makes other images.
    """
    plain = Plain(generator)
    batch = torch.export.Dim("batch", min=1)
    inputs = _inputs(generator, TRACED)
    with _quiet(), torch_defaults():
        shapes = {name: {0: batch} for name in inputs}
        exported = _tried(
            "onnx" if onnx else "program",
            lambda: torch.export.export(plain, tuple(inputs.values()), dynamic_shapes=shapes),
        )
        if program:
            torch.export.save(exported, folder / PROGRAM)
            again = torch.export.load(folder / PROGRAM).module()
            _check(PROGRAM, generator, plain, lambda inputs: again(*inputs.values()))
        if onnx:
            _write_onnx(exported, inputs, folder / ONNX, sum(weight.nbytes for weight in plain.state_dict().values()))
            _check(ONNX, generator, plain, _onnx_session(folder / ONNX))


def _write_onnx(exported: Any, inputs: dict[str, Tensor], path: Path, size: int) -> None:
    _tried(
        "onnx",
        lambda: torch.onnx.export(
            exported,
            f=path,
            input_names=list(inputs),
            output_names=["images"],
            opset_version=OPSET,
            dynamo=True,
            external_data=size > LARGEST_FILE,
            verbose=False,
        ),
    )


def _onnx_session(path: Path) -> Callable[[dict[str, Tensor]], Tensor]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = _tried("onnx", lambda: onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]))
    return lambda inputs: torch.from_numpy(session.run(["images"], {k: v.numpy() for k, v in inputs.items()})[0])


def _check(name: str, generator: Generator, plain: Plain, program: Callable[[dict[str, Tensor]], Tensor]) -> None:
    """With as many images as it was not exported with, and with a single one."""
    option = "onnx" if name == ONNX else "program"
    for count in (CHECKED, 1):
        inputs = _inputs(generator, count)
        expected = plain(*inputs.values())
        found = _tried(option, lambda inputs=inputs: program(inputs))  # type: ignore[misc]
        if found.shape != expected.shape or found.dtype != expected.dtype:
            raise ConfigError(
                f"{option}: {name} makes {found.dtype} {list(found.shape)} of {count} latents, and the generator "
                f"{expected.dtype} {list(expected.shape)}. Its forward must work for any number of samples"
            )
        difference = float((found - expected).abs().max())
        if not difference <= TOLERANCE:
            raise ConfigError(
                f"{option}: the images of {name} differ from the generator's by up to {difference:.2g} "
                f"(at most {TOLERANCE:g}). Its forward must be a function of its weights and arguments alone"
            )


def _inputs(generator: Generator, count: int) -> dict[str, Tensor]:
    inputs = {"latents": sample_latents(0, range(count), generator.latent)}
    if generator.classes:
        inputs["labels"] = torch.arange(count) % generator.classes
    return inputs


def _tried(option: str, work: Callable[[], Any]) -> Any:
    try:
        return work()
    except Exception as error:  # anything that a network of somebody's own does, in the words of its exporter
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = " ".join(str(cause).split())[:300].rstrip(".")
        raise ConfigError(
            f"{option}: this generator cannot be exported ({type(cause).__name__}: {reason}). Leave {option} out, or "
            "write its forward in operations that can"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """What exporters say on the way is about their own inside."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
