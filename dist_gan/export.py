"""A model to hand on: `python -m dist_gan.export RUN out=FOLDER [key=value ...]` (see `--help`)."""

import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__" and not __package__:
    # `python dist_gan/export.py` puts dist_gan/ itself first: its modules would hide others of the same name
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from dist_gan.arguments import Flag, Text, read_options, run_command
from dist_gan.errors import ConfigError
from dist_gan.handing_on.folder import export
from dist_gan.handing_on.hub import check_push, push_to_hub
from dist_gan.run.handed_on import is_handed_on

USAGE = """usage: python -m dist_gan.export RUN out=FOLDER [key=value ...]
       python -m dist_gan.export FOLDER push=user/name

  RUN                a run's folder (its newest valid checkpoint is used), or one of its checkpoints
  FOLDER             where the model is written: generator.safetensors, config.json, README.md (the model card) and
                     samples.png. It must not exist, or be empty. Others use it with load_generator(FOLDER) or
                     python -m dist_gan.sample FOLDER
  which=last         last, best (by the metric that save.best names), or the images that a checkpoint of RUN had seen
  average=ema        of a run with several averages of G: which one, ema, ema_2, ...
  license=...        of the model, for its card: an identifier of the Hugging Face Hub's (apache-2.0, cc-by-4.0, ...),
                     or the name of another one. Not given: unknown, and the card says so
  name=...           of the model, for its card; the folder's name where it is not given
  onnx=false         true: generator.onnx too (pip install 'dist_gan[export]')
  program=false      true: generator.pt2 too, a program of torch.export
  code=false         true: the files of networks of your own travel along, in FOLDER/code
  trust_code=false   true: execute the code of the networks, where these are a class of somebody's own
  push=user/name     upload the folder to the Hugging Face Hub with your token (pip install huggingface_hub); where it
                     is written already, it is given in place of RUN
  private=true       with push: whether a new repository there is private
"""
OPTIONS = {
    "out": Text(None, example="model"),
    "which": Text("last"),
    "average": Text("ema"),
    "license": Text(None, example="apache-2.0"),
    "name": Text(None, example="my-gan"),
    "onnx": Flag(),
    "program": Flag(),
    "code": Flag(),
    "trust_code": Flag(),
    "push": Text(None, example="user/name"),
    "private": Flag(True),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write and push the model as the command line says; returns the exit code."""
    return run_command("dist_gan.export", USAGE, _export, arguments)


def _export(arguments: Sequence[str]) -> str:
    options = read_options(arguments[1:], OPTIONS)
    out, push, private = options.pop("out"), options.pop("push"), options.pop("private")
    if push:
        check_push(push)
    if out is None:
        if push and is_handed_on(Path(arguments[0])):
            return f"{push_to_hub(arguments[0], push, private=private)} (from {arguments[0]})"
        raise ConfigError("out: give the folder that is to be written, such as out=model")
    passed_over: list[str] = []
    found = export(arguments[0], out, **options, where=push, passed_over=passed_over)
    for line in passed_over:
        print(f"dist_gan.export: {line}", file=sys.stderr)
    print(f"{out} (from {found})")
    return push_to_hub(Path(out).expanduser(), push, private=private) if push else ""


if __name__ == "__main__":
    sys.exit(main())
