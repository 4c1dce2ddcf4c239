"""A shipped config with networks of a few pixels and times of a few updates; everything else as it is."""

from typing import Any

from dist_gan.config.schema import Config

NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": {"latent": 6, "width": 4},
    "dcgan": {"latent": 6, "width": 4, "group": 4},
    "r3gan": {"latent": 6, "width": 8, "blocks": 1, "group": 4, "embedding": 3},
    "sngan": {"latent": 6, "width": 4, "group": 4},
    "biggan": {"chunk": 3, "width": 4, "group": 4, "embedding": 3},
    "stylegan2": {"latent": 6, "style": 6, "mapping_layers": 2, "channel_base": 64, "channel_max": 8, "group": 4},
}
"""By the recipe's name: what makes it small."""
SIDES = {"mlp": 8}
"""Of images, by the recipe's name; others have 16."""


def shrunk(config: Config, batch: int, *, count: int = 500) -> Config:
    """The same recipe with small networks, made-up data and a batch of this many images.

    What is due now and then is due in every second update, and what changes over millions of images does in four.
    """
    values: dict[str, Any] = config.model_dump()
    name = values["networks"]["name"]
    values["networks"] |= NETWORKS[name]
    channels = config.data.shape.channels
    values["data"] = {"name": "generated", "size": SIDES.get(name, 16), "channels": channels, "count": count}
    values["data"]["flip"] = config.data.flip
    for part in ("objective", "generator_optimizer", "discriminator_optimizer", "ema", "augment"):
        values[part] = _hastened(values[part], batch)
    return Config(**values | {"batch_size": batch, "seed": 3, "evaluate": (), "save": {}})


def _hastened(value: Any, batch: int) -> Any:
    if isinstance(value, list | tuple):
        return [_hastened(item, batch) for item in value]
    if not isinstance(value, dict):
        return value
    times = {"every": 2 * batch, "end": 4 * batch, "half_life_images": 8 * batch, "rise_images": 50 * batch}
    found = {key: _hastened(item, batch) for key, item in value.items()}
    return found | {
        key: least for key, least in times.items() if isinstance(found.get(key), int) and found[key] > least
    }
