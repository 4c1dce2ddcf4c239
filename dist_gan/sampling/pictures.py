"""Images to files."""

from pathlib import Path

from PIL import Image
from torch import Tensor

SMALLEST = 512
"""Pixels that the longer side of a grid has at least: small images are enlarged by a whole factor."""


def save_grid(images: Tensor, path: Path, columns: int | None = None) -> None:
    """images uint8 [N, C, H, W] (C is 1 or 3) -> one PNG, row by row; about square by default."""
    from torchvision.utils import make_grid

    save_image(make_grid(images, nrow=columns or max(1, round(len(images) ** 0.5))), path)


def save_image(image: Tensor, path: Path) -> None:
    """uint8 [C, H, W] (C is 1 or 3) -> PNG, published by one rename. On an OSError nothing of it is left."""
    picture = Image.fromarray(image.permute(1, 2, 0).squeeze(2).numpy())
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        picture.save(temporary, format="PNG")
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
