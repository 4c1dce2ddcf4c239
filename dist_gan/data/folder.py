"""Any folder of images."""

import os
from pathlib import Path
from typing import Literal

import torch

from dist_gan.data.files import GONE, Found, expanded, find, is_skipped, read, shown, skipped_note
from dist_gan.data.from_files import FromFiles, ImageFiles, broken_note, dataset_of, transparent_note
from dist_gan.data.source import READING, Dataset, Reading
from dist_gan.data.survey import Survey, survey
from dist_gan.errors import ConfigError
from dist_gan.part import free


class Folder(FromFiles):
    """All images below a folder, sub-folders included, in the order of their paths.

    The fingerprint of the data is of every file's path below the folder and of every file's *content* (SHA-256), where
    the files have 256 MB or less together; above that, of the path, the size and the time of the last change of every
    file, as reading them all would take too long. The folder itself may move. A copy of a large one must keep the
    times (`cp -a`, `rsync -a`). That all files of a large one were looked at is remembered in DIST_GAN_DATA, else in
    ~/.cache/dist_gan.

    Images of 16 bits, and floats from 0 to 1, are scaled to 8 bits; see `white` for others.
    """

    name: Literal["folder"] = "folder"
    path: str = free(...)
    """The folder. It may move between starts; its files must not change."""
    labels: bool = False
    """Whether an image's first sub-folder is its class (numbered in alphabetical order)."""

    def open(self, device: torch.device, reading: Reading = READING) -> Dataset:
        """Check every file, and keep all images where they are small together.

        Of files that are read later, only the beginning and the end are checked.
        """
        found = find(expanded(self.path), reading.patience)
        names, labels = classes_of(found) if self.labels else ((), None)
        images = self.room(len(found.names))
        files = _Files(found, labels, self, reading.patience)
        seen = survey(found, files, self.look, self.skip_broken, images, reading)
        files.broken = seen.broken
        return dataset_of(files, self, images, device, seen.fingerprint, names, _notes(found, self, seen))

    def mistakes(self, run: str) -> list[str]:
        try:
            root, folder = expanded(self.path).resolve(), Path(run).expanduser().resolve()
        except ConfigError as error:
            return [str(error)]
        except (OSError, RuntimeError):
            return []
        if not folder.is_relative_to(root) or any(map(is_skipped, folder.relative_to(root).parts)):
            return []
        return [
            f"data.path: the run's folder {shown(folder)} is inside {shown(root)}: the run's own pictures would be "
            "taken for data. Set run to a folder outside of it"
        ]


def _notes(found: Found, source: Folder, seen: Survey) -> tuple[str, ...]:
    notes = [note] if (note := skipped_note(found.skipped)) else []
    if seen.transparent:
        notes.append(transparent_note(seen.transparent, len(found.names), source))
    if seen.broken:
        notes.append(broken_note([shown(found.names[index]) for index in seen.broken]))
    return tuple(notes)


class _Files(ImageFiles):
    """Images that are read when they are needed."""

    def __init__(self, found: Found, labels: list[int] | None, source: Folder, patience: float) -> None:
        super().__init__(source, len(found.names), None if labels is None else torch.tensor(labels), {})
        self.found = found
        self.patience = patience

    def content(self, index: int) -> bytes:
        return read(self.found.path(index), self.patience, GONE)

    def where(self, index: int) -> str:
        return shown(self.found.path(index))


def classes_of(found: Found) -> tuple[tuple[str, ...], list[int]]:
    """The names of the classes, and each file's class.

    Raises:
        ConfigError: a file is in no sub-folder.
    """
    folders = []
    for name in found.names:
        folder, separator, _ = name.partition("/")
        if not separator:
            raise ConfigError(
                f"data.labels: {shown(os.path.join(found.root, name))} is in no sub-folder of {shown(found.root)}, so "
                "it has no class. Move it into one"
            )
        folders.append(folder)
    ordered = sorted(set(folders), key=os.fsencode)
    number = {folder: i for i, folder in enumerate(ordered)}
    return tuple(map(shown, ordered)), [number[folder] for folder in folders]
