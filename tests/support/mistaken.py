"""What a config is refused for."""

from pathlib import Path

from dist_gan.config.command_line import load
from dist_gan.errors import ConfigError


def mistakes(*overrides: str, world: int = 1, path: Path | None = None) -> str:
    try:
        found = "\n".join(load(path, overrides).mistakes(world))
    except ConfigError as error:
        found = str(error)
    assert found, "no mistake was found"
    return found
