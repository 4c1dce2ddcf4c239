"""The model card: README.md in the format of the Hugging Face Hub, from what the run has written down."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dist_gan.config.reading import write_yaml
from dist_gan.formatting import plural, size
from dist_gan.handing_on.licenses import UNKNOWN, license_fields
from dist_gan.handing_on.own_files import with_labels
from dist_gan.handing_on.programs import ONNX, OPSET, PROGRAM, TOLERANCE
from dist_gan.metrics.protocol import parsed
from dist_gan.own_parts import names_in
from dist_gan.run.handed_on import CODE, CONFIG, WEIGHTS, HandedOn

TASK = "unconditional-image-generation"
"""The Hub's nearest task: no text and no image goes in."""
METRICS = {"fid": "FID", "kid": "KID", "inception_score": "Inception Score"}
"""Names that people know; of others the words."""
FILES = {
    WEIGHTS: "the averaged weights of G, with its batch statistics",
    CONFIG: "what the network is built from, and the SHA-256 of the other files",
    ONNX: f"the same for ONNX (opset {OPSET}): latents float32 [N, Z]{{labels}} to images float32 [N, C, H, W]",
    PROGRAM: "the same as a program of `torch.export`, with the same inputs and output",
    "samples.png": "the images of one seed",
}


class Told(NamedTuple):
    """What the card is about."""

    name: str
    where: str
    """What others load: the folder's name, or `user/name` on the Hub."""
    model: HandedOn
    config: Mapping[str, Any]
    """The run's config, as it was read."""
    state: Mapping[str, Any]
    """The checkpoint's state.json."""
    license: str | None
    sizes: Mapping[str, int]
    """Bytes of each file beside the card."""
    average: str = "ema"
    """Which average of G it is, where the run has several."""


def card(told: Told) -> str:
    """The text of README.md."""
    sections = [_title, _use, _files, _scores, _data, _training, _limits]
    header = write_yaml(_metadata(told))
    return f"---\n{header}---\n\n" + "\n\n".join(section(told) for section in sections) + "\n"


def _metadata(told: Told) -> dict[str, Any]:
    model = told.model
    tags = ["gan", "image-generation", "pytorch", *(["class-conditional"] if model.conditional else [])]
    tags += ["onnx"] if ONNX in told.sizes else []
    found: dict[str, Any] = {
        **license_fields(told.license),
        "library_name": "dist_gan",
        "pipeline_tag": TASK,
        "tags": tags,
    }
    if model.scores:
        data = _data_name(told)
        found["model-index"] = [
            {
                "name": told.name,
                "results": [
                    {
                        "task": {"type": TASK, "name": "Image generation"},
                        "dataset": {"type": data, "name": data},
                        "metrics": [
                            {"type": _value_name(key), "value": value, "name": _described(key), "args": {"key": key}}
                            for key, value in model.scores.items()
                        ],
                    }
                ],
            }
        ]
    return found


def _title(told: Told) -> str:
    model = told.model
    channels, height, width = model.image_shape
    shown = "![Images of this model](samples.png)"
    if model.conditional:
        columns = ", ".join(model.classes) if len(model.classes) <= 16 else "spread evenly over all"
        shown += f"\n\nEach column is one class: {columns}."
    weights = told.state.get("parameters", {}).get("G")
    return (
        f"# {told.name}\n\nThe generator of a generative adversarial network (GAN). It turns {model.latent} normally "
        f"distributed random numbers{' and a class' if model.conditional else ''} into an image of {height} x {width} "
        f"pixels with {plural(channels, 'channel')}. Its network is `{_networks(told)['name']}`"
        + (f", with {weights:,} weights" if weights else "")
        + f". dist_gan {model.dist_gan} wrote this folder.\n\n{shown}"
    )


def _use(told: Told) -> str:
    model, own = told.model, list(names_in(told.model.networks))
    trust = ", trust_code=True" if own else ""
    classes = ", classes=0" if model.conditional else ""
    text = (
        "## How to use it\n\n```python\nfrom dist_gan import load_generator, samples\n\n"
        f'generator = load_generator("{told.where}"{trust})\n'
        f"for images in samples(generator, 64, seed=0{classes}):  # uint8 [n, C, H, W]\n    ...\n```\n\n"
        f"Or as a command: `python -m dist_gan.sample {told.where} out=samples.png{' trust_code=true' if own else ''}`."
    )
    if copied := [name for name in own if name.startswith(f"{CODE}/")]:
        text += (
            f"\n\nThe network is code of its author's: `{copied[0]}`, in this folder. `trust_code` executes it: read "
            "it first."
        )
    elif own:
        text += (
            f"\n\nThe network is code of its author's, `{own[0]}`, which is **not** in this folder. Get it from the "
            "author, and put it into this folder or the current directory (or install it, if it is a package). "
            "`trust_code` executes it."
        )
    labels = ', "labels": np.arange(16) % ' + str(len(model.classes)) if model.conditional else ""
    if ONNX in told.sizes:
        text += (
            "\n\nWithout dist_gan and PyTorch, from the ONNX file:\n\n```python\nimport numpy as np\nimport onnxruntime"
            f'\n\nsession = onnxruntime.InferenceSession("{ONNX}")\n'
            f'latents = np.random.default_rng(0).standard_normal((16, {model.latent})).astype("float32")\n'
            f'(images,) = session.run(None, {{"latents": latents{labels}}})  # float32 [16, C, H, W] in [-1, 1]\n```'
        )
    if PROGRAM in told.sizes:
        labels = f", torch.arange(16) % {len(model.classes)}" if model.conditional else ""
        text += (
            "\n\nWithout dist_gan, from the program of `torch.export`:\n\n```python\nimport torch\n\n"
            f'generator = torch.export.load("{PROGRAM}").module()\n'
            f"images = generator(torch.randn(16, {model.latent}){labels})  # float32 [16, C, H, W] in [-1, 1]\n```"
        )
    if {ONNX, PROGRAM} & told.sizes.keys():
        text += f"\n\nIts images were compared with the generator's before it was written: within {TOLERANCE:g}."
    return text


def _files(told: Told) -> str:
    labels = " and labels int64 [N]" if told.model.conditional else ""
    about = {name: text.format(labels=labels) for name, text in FILES.items()}
    about |= {name: "code of the network's author" for name in told.sizes if name.startswith(f"{CODE}/")}
    about |= {f"{ONNX}.data": f"the weights of `{ONNX}`"}
    rows = [[f"`{name}`", size(told.sizes[name]), about.get(name, "")] for name in sorted(told.sizes)]
    return "## Files\n\n" + _table(("file", "size", "what it is"), rows)


def _scores(told: Told) -> str:
    if not told.model.scores:
        return "## Scores\n\nNone was computed for this checkpoint."
    rows = [[f"**{_metric(key)}**", f"{value:.6g}", _how(key)] for key, value in told.model.scores.items()]
    keys = "\n".join(f"- `{key}`" for key in told.model.scores)
    return (
        "## Scores\n\n"
        + _table(("score", "value", "how it was computed"), rows)
        + f"\n\nScores of different features, filters or numbers of images cannot be compared. Full names:\n\n{keys}"
    )


def _data(told: Told) -> str:
    model, state = told.model, told.state
    rows = [["images", f"{state['data_images']:,}"]] if "data_images" in state else []
    rows += [[key, text] for key, text in _flat(_data_block(told))]
    rows += [["fingerprint", f"`{state['data']}`"]] if state.get("data") else []
    if model.classes:
        few = ", ".join(model.classes[:20]) + (", ..." if len(model.classes) > 20 else "")
        rows.append(["classes", f"{len(model.classes):,}: {few}"])
    return "## Data\n\n" + _table(("data", ""), rows)


def _training(told: Told) -> str:
    config, state = told.config, told.state
    rows: list[Sequence[str]] = [
        ["images that D saw", f"{told.model.images_seen:,}"],
        *(
            [key.replace("_", " "), str(config[key]).lower()]
            for key in ("batch_size", "discriminator_turns", "precision", "exact", "seed")
            if key in config
        ),
    ]
    for block in ("networks", "objective", "generator_optimizer", "discriminator_optimizer", "ema", "augment"):
        tree = _networks(told) if block == "networks" else with_labels(config.get(block, {}))
        rows.append([block.replace("_", " "), ", ".join(f"{key} {text}" for key, text in _flat(tree))])
    if isinstance(config.get("ema"), list):
        rows.append(["average of G", f"`{told.average}` of {len(config['ema'])}"])
    if state.get("processes"):
        rows.append(["processes", f"{state['processes']}; {state.get('device', '')}".rstrip("; ")])
    rows += [["began from", "the weights of another run"]] if state.get("parent") else []
    versions = state.get("versions", {})
    rows.append(["versions", ", ".join(f"{name} {text}" for name, text in versions.items())])
    return "## Training\n\n" + _table(("setting", "value"), [row for row in rows if row[1]])


def _limits(told: Told) -> str:
    said = [
        "It makes images like those of its data and no others. What is rare, wrong or one-sided there is so here too.",
        "A GAN may leave out a part of what its data shows, and may make images that are close to single ones of it. "
        "Scores do not measure this completely.",
        f"It makes images of {told.model.image_shape[1]} x {told.model.image_shape[2]} pixels only.",
    ]
    if not told.model.scores:
        said.append("Nobody has measured how good it is.")
    if told.license in (None, UNKNOWN):
        said.append(
            "**No license was given.** Without one nobody but its author may use it: ask the author. The data has "
            "terms of its own."
        )
    else:
        said.append(f"Its license is `{told.license}`. The data has terms of its own.")
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in said)


def _networks(told: Told) -> dict[str, Any]:
    block: dict[str, Any] = with_labels(told.model.networks)
    return block


def _data_block(told: Told) -> dict[str, Any]:
    """Of a path only the last part: the rest is about somebody's machine."""
    block: dict[str, Any] = with_labels(told.config.get("data", {}))
    return {key: Path(item).name if isinstance(item, str) and "/" in item else item for key, item in block.items()}


def _data_name(told: Told) -> str:
    block = _data_block(told)
    return str(block.get("path") or block.get("name") or "unknown")


def _metric(key: str) -> str:
    value = _value_name(key)
    return METRICS.get(value, value.replace("_", " "))


def _value_name(key: str) -> str:
    found = parsed(key)
    return found[0] if found else key


def _how(key: str) -> str:
    found = parsed(key)
    return found[1].text() if found else "not recorded"


def _described(key: str) -> str:
    return f"{_metric(key)} ({_how(key)})"


def _flat(tree: Any, path: str = "") -> list[tuple[str, str]]:
    """(dotted key, text) of all that is set in a block of the config."""
    if isinstance(tree, Mapping):
        return [pair for key, item in tree.items() for pair in _flat(item, f"{path}.{key}" if path else str(key))]
    if isinstance(tree, list) and any(isinstance(item, Mapping) for item in tree):
        return [pair for number, item in enumerate(tree) for pair in _flat(item, f"{path}.{number}")]
    if tree in ("", None, []):
        return []
    text = ", ".join(map(str, tree)) if isinstance(tree, list) else str(tree)
    return [(path, text.lower() if isinstance(tree, bool) else text)]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
