"""A model's folder: everything of it is written beside its place, and appears there at once."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as serialize_tensors

from dist_gan import __version__
from dist_gan.config.reading import read_yaml
from dist_gan.errors import ConfigError, RunError
from dist_gan.handing_on.card import Told, card
from dist_gan.handing_on.own_files import with_copies, with_labels
from dist_gan.handing_on.programs import check_packages, write_programs
from dist_gan.metrics.protocol import parsed
from dist_gan.networks import Generator
from dist_gan.optim.names import NAMES
from dist_gan.run import checkpoint
from dist_gan.run.handed_on import CONFIG, WEIGHTS, HandedOn
from dist_gan.run.restore import find_checkpoint, load_generator
from dist_gan.run.scores import read_scores
from dist_gan.sampling.generate import sample_classes
from dist_gan.sampling.pictures import save_grid
from dist_gan.sampling.samples import samples

SHOWN, ROWS = 64, 8
"""Images in samples.png; and rows of it, where a column is a class."""
CARD, PICTURE, SCORES = "README.md", "samples.png", "scores.json"


def export(
    run: str | Path,
    out: str | Path,
    *,
    which: str = "last",
    average: str = NAMES[0],
    license: str | None = None,
    name: str | None = None,
    where: str | None = None,
    onnx: bool = False,
    program: bool = False,
    code: bool = False,
    trust_code: bool = False,
    passed_over: list[str] | None = None,
) -> Path:
    """Write the averaged generator of a run as a folder that can be handed on; nothing is written where that fails.

    Args:
        run: a run's folder, or one of its checkpoints.
        out: the folder; it must not exist, or be empty.
        which: checkpoint of a run: `last`, `best`, or the number of images it had seen.
        average: of a run with several averages of G: `ema`, the first, or `ema_2`, ...
        license: of the model, for its card: an identifier of the Hub's, or any other name. None: unknown.
        name: of the model, for its card. None: that of `out`.
        where: what others load, for the card: `user/name` on the Hub. None: the name of `out`.
        onnx: write generator.onnx too.
        program: write generator.pt2 too, a program of `torch.export`.
        code: let the files of networks of one's own travel along.
        trust_code: whether the code of such networks may be executed.
        passed_over: checkpoints that are not valid are noted here.

    Returns:
        The checkpoint.

    Raises:
        ConfigError: there is no such checkpoint, `out` cannot be written, a package is missing, the generator cannot be
            exported, or it needs code that is not trusted.
        CheckpointError, InputOutputError: the checkpoint is not valid, or cannot be read.
    """
    out = Path(out).expanduser()
    _check_target(out)
    for option, asked in (("onnx", onnx), ("program", program)):
        if asked:
            check_packages(option)
    found = find_checkpoint(Path(run), passed_over, which)
    read = checkpoint.read(found)
    generator = load_generator(found, "cpu", trust_code=trust_code, average=average)
    config = read_yaml(read.config)
    networks, copies = with_copies(config["networks"]) if code else (with_labels(config["networks"]), {})
    own = out.absolute().name
    with _appearing(out) as folder:
        facts = {checkpoint.FACTS: json.dumps({key: read.state[key] for key in checkpoint.NEEDED_TO_BUILD})}
        (folder / WEIGHTS).write_bytes(
            serialize_tensors({key: tensor.contiguous() for key, tensor in read.tensors[average].items()}, facts)
        )
        for copy, content in copies.items():
            (folder / copy).parent.mkdir(parents=True, exist_ok=True)
            (folder / copy).write_bytes(content)
        if onnx or program:
            write_programs(generator, folder, onnx=onnx, program=program)
        _write_picture(generator, folder / PICTURE)
        model = HandedOn(
            dist_gan=__version__,
            networks=networks,
            seed=config["seed"],
            image_shape=read.state["image_shape"],
            classes=read.state["classes"],
            conditional=bool(generator.classes),
            latent=generator.latent,
            images_seen=read.state["images_seen"],
            sha256={file: hashlib.sha256((folder / file).read_bytes()).hexdigest() for file in _files_in(folder)},
            scores=_scores(found, read.state, average),
        )
        (folder / CONFIG).write_text(json.dumps(model.model_dump(mode="json"), indent=2) + "\n", encoding="utf-8")
        sizes = {file: (folder / file).stat().st_size for file in _files_in(folder)}
        text = card(Told(name or own, where or own, model, config, read.state, license, sizes, average))
        (folder / CARD).write_text(text, encoding="utf-8")
    return found


def _check_target(out: Path) -> None:
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            what = "holds files already" if out.is_dir() else "is a file"
            raise ConfigError(f"out: {out} {what}, and nothing is replaced. Give a folder that does not exist")
    except OSError as error:
        raise _cannot_write(out, error) from None


@contextmanager
def _appearing(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its place at the end; where anything fails, nothing is left."""
    out = out.absolute()
    temporary = out.with_name(f".tmp-{out.name}")
    try:
        shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed
        temporary.mkdir(parents=True)
        yield temporary
        if out.exists():
            out.rmdir()  # empty; not every system renames over it
        temporary.rename(out)
    except RunError:  # which may be an OSError too
        raise
    except OSError as error:
        raise _cannot_write(out, error) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _cannot_write(out: Path, error: OSError) -> ConfigError:
    return ConfigError(f"out: cannot write {out} ({error.strerror or error}). Choose another place")


def _files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _write_picture(generator: Generator, path: Path) -> None:
    columns, count, classes = None, SHOWN, None
    if generator.classes:
        numbers, columns = sample_classes(generator.classes, SHOWN)
        classes, count = numbers[:columns].tolist(), columns * ROWS
    save_grid(torch.cat(list(samples(generator, count, 0, classes))), path, columns)


def _scores(found: Path, state: Mapping[str, Any], average: str) -> dict[str, float]:
    """What evaluations have found of this checkpoint, but not of another average."""
    known = read_scores(found.parent.parent).get(state["images_seen"], {})
    others = {name for name in NAMES if name != average}
    return {
        key: float(value)
        for key, value in known.items()
        if isinstance(value, int | float) and isfinite(value) and not (others & _weights(key))
    }


def _weights(key: str) -> set[str]:
    read = parsed(key)
    return {read[1].weights} if read else set()
