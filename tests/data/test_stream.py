from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dist_gan.data import (
    CIFAR10,
    MNIST,
    AnySource,
    FashionMNIST,
    Folder,
    Generated,
    Given,
    Npy,
    Packed,
    Parquet,
    Source,
    Tar,
    Zip,
    given,
)
from dist_gan.data.pack import pack
from dist_gan.data.stream import FRESH
from dist_gan.errors import ConfigError
from tests.data.archives import tables_of, tars_of, zip_of
from tests.data.streams import CPU, stream, take
from tests.support.unions import members


def packed(folder: Path) -> Path:
    pack(Folder(path=str(folder), size=16, labels=True), folder.parent / "pack")
    return folder.parent / "pack"


def array(folder: Path) -> Path:
    images = Folder(path=str(folder), size=16).open(CPU).images  # type: ignore[attr-defined]
    np.save(folder.parent / "images.npy", images.permute(0, 2, 3, 1).numpy())
    return folder.parent / "images.npy"


LAID_OUT: dict[Any, Callable[[Path], Path]] = {
    Folder: lambda folder: folder,
    Zip: zip_of,
    Tar: lambda folder: tars_of(folder, 3),
    Parquet: lambda folder: tables_of(folder, 2),
    Packed: packed,
    Npy: array,
}
"""How the pictures of a folder become what each kind reads."""


@pytest.fixture
def source(request: pytest.FixtureRequest, folder: Path) -> Source:
    kind = request.param
    if issubclass(kind, MNIST):
        request.getfixturevalue("monkeypatch").undo()  # it is where the machine keeps it
        request.getfixturevalue("mnist")
    elif issubclass(kind, FashionMNIST | CIFAR10):
        pytest.skip(f"{kind.__name__} is read from a made-up archive in another test; it cannot be fetched everywhere")
    if kind is Given:
        return given(Generated(size=16, channels=3, count=100).open(CPU).images, range(100))  # type: ignore[attr-defined]
    path = LAID_OUT[kind](folder) if kind in LAID_OUT else None
    options: dict[str, Any] = {} if path is None else {"path": str(path), "size": 16}
    if path is not None and kind is not Folder:
        options |= {"labels": kind is not Npy, "resident_megabytes": 0}  # read when they are needed
    return kind(**options)


@pytest.mark.parametrize("source", members(AnySource), ids=lambda kind: kind.__name__, indirect=True)
def test_contract(source: Source) -> None:
    """Shapes and ranges; the order depends on the seed alone, not on processes; any place can be jumped to."""
    whole = take(stream(source), 4)
    for k, batch in enumerate(whole):
        assert batch.images.shape == (32, *source.shape)
        assert batch.images.dtype == torch.float32
        assert batch.images.min() >= -1
        assert batch.images.max() <= 1
        assert batch.labels.dtype == torch.int64
        assert len(batch.labels) in (0, 32)
        assert batch.ordinals == range(32 * k, 32 * k + 32)
    for rank in (0, 1):
        for batch, mine in zip(whole, take(stream(source, rank=rank, processes=2), 4), strict=True):
            half = slice(16 * rank, 16 * rank + 16)
            assert torch.equal(mine.images, batch.images[half])
            assert mine.ordinals == batch.ordinals[half]
    assert torch.equal(take(stream(source), 1, images_seen=64)[0].images, whole[2].images)
    assert not torch.equal(take(stream(source, seed=1), 1)[0].images, whole[0].images)
    dataset = source.open(CPU)
    assert source.open(CPU).fingerprint == dataset.fingerprint
    assert source.has_labels == bool(dataset.classes) == bool(len(whole[0].labels))
    assert all(batch.labels.max() < len(dataset.classes) for batch in whole if len(batch.labels))
    assert dataset.shape == source.shape
    assert dataset.notes == ()
    assert source.mistakes("runs/a") == []


def test_fresh_reals_are_far_away_in_the_same_stream() -> None:
    """Those of G's turn: the same on any number of processes, and after a jump."""
    source = Generated(size=8, count=50, flip=True)
    whole = take(stream(source, fresh_every=1), 3)
    for batch, plain in zip(whole, take(stream(source), 3), strict=True):
        assert plain.fresh is None
        assert torch.equal(batch.images, plain.images)
        assert batch.fresh is not None
        assert batch.fresh.ordinals == range(batch.ordinals.start + FRESH, batch.ordinals.stop + FRESH)
        assert not torch.equal(batch.fresh.images, batch.images)
    far = take(stream(source), 3, images_seen=FRESH)
    for rank in (0, 1):
        half = slice(16 * rank, 16 * rank + 16)
        for mine, right in zip(take(stream(source, fresh_every=1, rank=rank, processes=2), 3), far, strict=True):
            assert mine.fresh is not None
            assert torch.equal(mine.fresh.images, right.images[half])
            assert torch.equal(mine.fresh.labels, right.labels[half])
    jumped = take(stream(source, fresh_every=1), 1, images_seen=64)[0].fresh
    assert jumped is not None
    assert torch.equal(jumped.images, far[2].images)
    third = take(stream(source, fresh_every=3), 6)
    assert [number for number, batch in enumerate(third) if batch.fresh] == [2, 5]
    assert third[2].fresh is not None
    assert torch.equal(third[2].fresh.images, far[2].images)


def test_every_pass_shows_every_image_once() -> None:
    source = Generated(size=8, count=50)
    images = torch.cat([batch.images for batch in take(stream(source, batch_size=20), 5)])  # two passes, no gap
    first, second = images[:50], images[50:]
    key = [image.flatten().tolist() for image in first]
    assert sorted(key) == sorted(image.flatten().tolist() for image in second)
    assert key != [image.flatten().tolist() for image in second]


def test_fewer_images_than_a_batch() -> None:
    with pytest.raises(ConfigError, match=r"10 images are fewer than one batch of 32.*batch_size=10"):
        stream(Generated(size=8, count=10))


def test_flips_are_by_ordinal() -> None:
    source = Generated(size=8, count=64)
    plain, flipped = take(stream(source), 1)[0], take(stream(source.model_copy(update={"flip": True})), 1)[0]
    mirrored = [torch.equal(a.flip(2), b) for a, b in zip(plain.images, flipped.images, strict=True)]
    same = [torch.equal(a, b) for a, b in zip(plain.images, flipped.images, strict=True)]
    assert all(a or b for a, b in zip(mirrored, same, strict=True))
    assert 8 < sum(mirrored) < 24


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_workers_do_not_change_the_order(folder: Path, workers: int) -> None:
    resident = take(stream(Folder(path=str(folder), size=16, labels=True)), 3)
    read = take(stream(Folder(path=str(folder), size=16, labels=True, workers=workers, resident_megabytes=0)), 3)
    for a, b in zip(resident, read, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.labels, b.labels)
