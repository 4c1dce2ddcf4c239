"""Zip files and tar shards of a folder of pictures, for tests."""

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path


def zip_of(folder: Path, method: int = zipfile.ZIP_STORED, extra: Mapping[str, str] | None = None) -> Path:
    """`folder` zipped, with it as the first folder of all names; `extra` files beside it."""
    path = folder.parent / f"{folder.name}.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, text in (extra or {}).items():
            archive.writestr(name, text)
        for file in sorted(folder.rglob("*"), reverse=True):  # the order in the zip does not matter
            if file.is_file():
                archive.write(file, f"{folder.name}/{file.relative_to(folder)}")
    return path


def tar_of(path: Path, files: Mapping[str, bytes]) -> Path:
    """A tar file with these files, in this order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def tars_of(folder: Path, shards: int) -> Path:
    """The pictures below `folder` in the order of their paths, in shards; the name of their folder is their class."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    each = -(-len(files) // shards)
    for number in range(shards):
        content: dict[str, bytes] = {}
        for file in files[number * each : (number + 1) * each]:
            content[f"{file.stem}{file.suffix}"] = file.read_bytes()
            content[f"{file.stem}.cls"] = file.parent.name.encode()
        tar_of(folder.parent / "shards" / f"train-{number:03d}.tar", content)
    return folder.parent / "shards"
