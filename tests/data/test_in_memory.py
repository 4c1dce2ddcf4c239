import pickle
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset as Indexed
from torch.utils.data import IterableDataset, TensorDataset

from dist_gan.config.command_line import dump, parse
from dist_gan.config.explain import differences
from dist_gan.config.schema import Config
from dist_gan.data import DataError, Given, Stream, given, in_memory
from dist_gan.data.source import Dataset
from dist_gan.data.streamed import Streamed
from dist_gan.errors import ConfigError
from tests.data.streams import CPU, stream, take

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (20, 8, 12)).astype("u1")
COLOR = RANDOM.integers(0, 256, (20, 3, 8, 12)).astype("u1")
LABELS = np.arange(20) % 4


class Items(Indexed[Any]):
    """A Dataset of one's own."""

    def __init__(self, items: list[Any], **attributes: Any) -> None:
        self.items = items
        self.__dict__.update(attributes)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        item = self.items[index]
        if isinstance(item, Exception):
            raise item
        return item() if callable(item) else item


def pixels(source: Given) -> torch.Tensor:
    return everything(source.open(CPU))[0]


def everything(dataset: Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    return next(
        dataset.batches([range(len(dataset))], lambda r: torch.arange(len(dataset)), lambda r, k: torch.empty(0))
    )


@pytest.mark.parametrize("make", [np.asarray, torch.from_numpy], ids=["array", "tensor"])
@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (GREY, GREY[:, None]),
        (GREY[..., None], GREY[:, None]),
        (GREY[:, None], GREY[:, None]),
        (COLOR, COLOR),
        (COLOR.transpose(0, 2, 3, 1), COLOR),
        (np.concatenate([COLOR, COLOR[:, :1]], 1), np.concatenate([COLOR, COLOR[:, :1]], 1)),
    ],
    ids=["MHW", "MHW1", "M1HW", "M3HW", "MHW3", "M4HW"],
)
def test_layouts(images: Any, expected: Any, make: Any) -> None:
    source = given(make(images))
    assert source.shape == expected.shape[1:]
    assert source.count == 20
    assert not source.has_labels
    assert np.array_equal(pixels(source).numpy(), expected)
    # Whatever the layout and the kind, the fingerprint is of the pixels.
    assert source == given(torch.from_numpy(expected.copy()))
    for i in range(20):  # as a Dataset of images
        assert given([make(images[i])]) == given(expected[i : i + 1])


@pytest.mark.parametrize(
    ("images", "text"),
    [
        (np.zeros((5, 4, 9, 4), "u1"), r"\[5, 4, 9, 4\] could have its channels first or last"),
        (np.zeros((5, 2, 8, 8), "u1"), r"\[5, 2, 8, 8\] is of none of the kinds"),
        (np.zeros((8, 8, 3), "u1"), r"the shape \[8, 1, 8, 3\]|the shape \[8, 8, 3\]"),
        (np.zeros((60, 784), "u1"), r"the shape \[60, 784\], expected \[M, H, W\]"),
        (np.zeros((0, 8, 8), "u1"), r"the shape \[0, 8, 8\]"),
        (np.zeros((5, 8, 8)), r"values are float64 \(for floats from 0 to 1: images.mul\(255\)"),
        (torch.zeros(5, 3, 8, 8), r"values are torch.float32 \(for floats"),
        (np.zeros((5, 8, 8), "u2"), "values are uint16"),
        (np.zeros((5, 8, 8), bool), "values are bool"),
        ([np.zeros((8, 8))], "item 0 is no image of uint8 values"),
        (["a.png"], "item 0 is no image of uint8 values from 0 to 255: it is a str"),
        ("a folder", "str has no length or no items by number"),
        ({0: GREY[0]}, "dict has no length or no items by number"),
        ([], "there are no images"),
        ([GREY[0], GREY[0, :6]], r"item 1 has the shape \[1, 6, 12\] and item 0 \[1, 8, 12\]"),
        ([Image.new("P", (8, 8))], r"mode P. Use image.convert\('RGB'\)"),
        ([lambda: GREY[0]], "it is a function"),
        ([(GREY[0], "cat")], "the label of item 0 must be integers from 0 on"),
        ([(GREY[0], -1)], "the label of item 0 must be 0 or more"),
    ],
)
def test_what_is_no_images_is_refused(images: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        given(images)


def test_an_iterable_dataset_is_refused() -> None:
    class Endless(IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter(GREY)

    with pytest.raises(ConfigError, match="Endless has no length or no items by number"):
        given(Endless())


@pytest.mark.parametrize(
    ("labels", "names", "text"),
    [
        (LABELS[:5], None, r"labels have the shape \[5\], expected \[20\]"),
        (LABELS.astype("f4"), None, "labels must be integers"),
        (["a"] * 20, None, "labels must be integers"),
        (LABELS - 1, None, "labels must be 0 or more, got -1"),
        (LABELS, ["a", "b"], "labels go up to 3, and there are 2 class_names"),
        (None, ["a"], "class_names are given, and no labels"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: Any, names: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        given(GREY, labels, names)


@pytest.mark.parametrize("kind", ["i8", "u2", "u1", "i4"])
def test_labels(kind: str) -> None:
    for labels in (LABELS.astype(kind), LABELS.tolist(), torch.from_numpy(LABELS)):
        source = given(GREY, labels)
        assert source.has_labels
        assert source.open(CPU).classes == ("0", "1", "2", "3")
        assert everything(source.open(CPU))[1].tolist() == LABELS.tolist()
        assert given(list(GREY), labels) == source
    named = given(GREY, LABELS, ["a", "b", "c", "d", "e"])
    assert named.open(CPU).classes == ("a", "b", "c", "d", "e")


def test_items_with_labels() -> None:
    expected = given(COLOR, LABELS, ["a", "b", "c", "d"])
    pillow = [
        (Image.fromarray(image.transpose(1, 2, 0)), int(label)) for image, label in zip(COLOR, LABELS, strict=True)
    ]
    tensors = TensorDataset(torch.from_numpy(COLOR), torch.from_numpy(LABELS))
    for data in (Items(pillow, classes=["a", "b", "c", "d"]), Items(list(tensors), classes=("a", "b", "c", "d"))):
        assert given(data) == expected
        assert not given(data, labels=False).has_labels
        assert given(data, LABELS[::-1].copy()) == given(COLOR, LABELS[::-1].copy(), ["a", "b", "c", "d"])
    assert given(tensors, class_names=["a", "b", "c", "d"]) == expected
    assert given(TensorDataset(torch.from_numpy(COLOR))) == given(COLOR)
    with pytest.raises(ConfigError, match="the label of item 2 is 2, and there are 2 class names"):
        given(Items(pillow, classes=["a", "b"]))


def test_a_random_dataset_is_refused() -> None:
    with pytest.raises(ConfigError, match="another image each time it is read"):
        given(Items([lambda: RANDOM.integers(0, 256, (8, 8)).astype("u1")]))


@pytest.mark.parametrize("with_labels", [False, True])
def test_a_large_dataset_is_read_when_needed(monkeypatch: pytest.MonkeyPatch, with_labels: bool) -> None:
    pairs = [(image, int(label)) for image, label in zip(COLOR, LABELS, strict=True)]
    data = Items(pairs if with_labels else list(COLOR))
    names = ["a", "b", "c", "d"] if with_labels else None
    small = given(data, class_names=names)
    monkeypatch.setattr(in_memory, "LIMIT", 1000)
    monkeypatch.setattr(in_memory, "SAMPLED", 4)
    large = given(data, class_names=names, flip=True)
    dataset = large.open(CPU)
    assert isinstance(dataset, Streamed)
    assert dataset.classes == small.open(CPU).classes
    for a, b in zip(
        take(stream(small, batch_size=8), 4),
        take(stream(large.model_copy(update={"flip": False}), batch_size=8), 4),
        strict=True,
    ):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.labels, b.labels)
    if with_labels:
        with pytest.raises(ConfigError, match="a large Dataset with labels needs class_names"):
            given(data)
    data.items[5] = data.items[6]  # one of the four that are read
    assert given(data, class_names=names).fingerprint != large.fingerprint
    data.items[7] = OSError("the share is away")
    with pytest.raises(DataError, match=r"item 7 of the Dataset cannot be read \(the share is away\)"):
        everything(dataset)


def test_a_large_array_stays_on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    small = take(stream(given(COLOR, LABELS), batch_size=8), 4)
    monkeypatch.setattr(in_memory, "LIMIT", 1000)
    last = np.ascontiguousarray(COLOR.transpose(0, 2, 3, 1))
    source = given(last, LABELS)
    assert source.open(CPU).images.data_ptr() == last.ctypes.data  # type: ignore[attr-defined]  # not copied
    for a, b in zip(small, take(stream(source, batch_size=8), 4), strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.labels, b.labels)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU (make gpu)")
def test_from_the_host_a_gpu_has_the_images_that_it_would_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda")
    batches = []
    for limit in (in_memory.LIMIT, 1000):
        monkeypatch.setattr(in_memory, "LIMIT", limit)
        images = given(COLOR, LABELS).open(gpu)
        batches.append(next(Stream(images, seed=0, batch_size=8, rank=0, processes=1, device=gpu).batches(0)).images)
    assert torch.equal(*batches)


def test_an_array_that_is_turned_or_cannot_be_written_is_used_as_it_is() -> None:
    turned = GREY[:, ::-1]
    assert np.array_equal(pixels(given(turned))[:, 0].numpy(), turned)
    fixed = GREY.copy()
    fixed.flags.writeable = False
    assert given(fixed) == given(GREY)


def test_the_configuration_holds_no_array_and_knows_it_again() -> None:
    config = Config(data=given(COLOR, LABELS, ["a", "b", "c", "d"], flip=True), batch_size=8)
    assert config.data.model_dump(mode="json") == {
        "name": "given",
        "flip": True,
        "channels": 3,
        "height": 8,
        "width": 12,
        "count": 20,
        "labels": True,
        "class_names": ["a", "b", "c", "d"],
        "fingerprint": given(COLOR, LABELS).fingerprint,
    }
    assert len(config.model_copy(update={"seed": 3}).data.open(CPU)) == 20
    again = parse(dump(config))
    assert again == config
    assert hash(again.data) == hash(config.data)
    assert again.data.shape == (3, 8, 12)
    assert again.data.has_labels
    with pytest.raises(ConfigError, match=r"Give the array again: train\(config, data=...\)"):
        again.data.open(CPU)
    assert differences(again, config) == []
    changed = COLOR.copy()
    changed[3, 0, 0, 0] ^= 1
    for other in (
        given(changed, LABELS, ["a", "b", "c", "d"], flip=True),
        given(COLOR, LABELS[::-1].copy(), ["a", "b", "c", "d"], flip=True),
    ):
        (difference,) = differences(again, config.model_copy(update={"data": other}))
        assert difference.startswith("data.fingerprint: ")
    assert pickle.loads(pickle.dumps(config)).data.open(CPU).fingerprint == config.data.fingerprint


def test_reading_a_dataset_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[tuple[str, int, int]] = []
    given(list(GREY), progress=lambda *report: heard.append(report))
    assert heard[-2:] == [("reading images", 20, 20), ("fingerprinting", 20, 20)]
