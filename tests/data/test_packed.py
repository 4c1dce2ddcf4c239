import json
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from dist_gan.data import Folder, Npy, Packed, npy, packed
from dist_gan.data.__main__ import KINDS, main
from dist_gan.data.mapped import Mapped
from dist_gan.data.pack import pack, source_at
from dist_gan.data.packed import verify
from dist_gan.data.source import Resident, Source
from dist_gan.errors import ConfigError, DataError
from tests.data.archives import tars_of
from tests.data.streams import CPU, stream, take


@pytest.fixture
def packed_folder(folder: Path) -> Path:
    out = folder.parent / "packs" / "pack"
    pack(Folder(path=str(folder), size=16, labels=True, resident_megabytes=0, workers=0), out)
    return out


def refused(source: Source) -> str:
    with pytest.raises(ConfigError) as error:
        source.open(CPU)
    return str(error.value)


@pytest.mark.parametrize("megabytes", [0, 100])
def test_a_pack_trains_like_its_folder(folder: Path, packed_folder: Path, megabytes: int) -> None:
    read = Folder(path=str(folder), size=16, labels=True, flip=True)
    ready = Packed(path=str(packed_folder), size=16, labels=True, flip=True, resident_megabytes=megabytes)
    for a, b in zip(take(stream(read), 3), take(stream(ready), 3), strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.labels, b.labels)
    dataset = ready.open(CPU)
    assert isinstance(dataset, Resident if megabytes else Mapped)
    assert dataset.classes == ("cats", "dogs")
    assert dataset.class_counts() == {"cats": 20, "dogs": 20}
    assert [path.name for path in packed_folder.parent.iterdir()] == ["pack"]  # nothing temporary is left
    assert Packed(path=str(packed_folder), size=16).open(CPU).class_counts() is None


def test_a_pack_keeps_its_fingerprint_where_it_is_copied(folder: Path, packed_folder: Path) -> None:
    before = Packed(path=str(packed_folder), size=16).open(CPU).fingerprint
    moved = packed_folder.rename(folder.parent / "moved")
    assert Packed(path=str(moved), size=16).open(CPU).fingerprint == before
    (folder / "cats" / "39.png").unlink()
    pack(Folder(path=str(folder), size=16, labels=True), folder.parent / "other")
    assert Packed(path=str(folder.parent / "other"), size=16).open(CPU).fingerprint != before


@pytest.mark.parametrize("harm", ["cut short", "longer", "changed", "labels gone", "no facts"])
def test_a_pack_that_is_not_whole_is_refused(packed_folder: Path, harm: str) -> None:
    images = packed_folder / "images.npy"
    content = bytearray(images.read_bytes())
    if harm == "cut short":
        images.write_bytes(content[:-1])
    elif harm == "longer":
        images.write_bytes(content + b"x")
    elif harm == "changed":
        content[len(content) // 2] ^= 1
        images.write_bytes(content)
    elif harm == "labels gone":
        (packed_folder / "labels.npy").unlink()
    else:
        (packed_folder / "pack.json").write_text("{")
    text = refused(Packed(path=str(packed_folder), size=16, labels=True))
    assert ("is no pack" if harm == "no facts" else "is not as it was packed") in text
    assert ("bytes, and had" in text) == (harm in ("cut short", "longer"))
    assert main(["verify", str(packed_folder)]) == 2


def test_opening_checks_some_blocks_and_verify_all(packed_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "BLOCK", 1024)
    facts = json.loads((packed_folder / "pack.json").read_text())
    content = bytearray((packed_folder / "images.npy").read_bytes())
    blocks = [content[start : start + 1024] for start in range(0, len(content), 1024)]
    facts["blocks"]["images.npy"] = [packed.hashlib.sha256(block).hexdigest() for block in blocks]
    (packed_folder / "pack.json").write_text(json.dumps(facts))
    assert len(blocks) > packed.SAMPLED
    looked_at = packed._spread(len(blocks), packed.SAMPLED)
    assert (len(looked_at), looked_at[0], looked_at[-1]) == (packed.SAMPLED, 0, len(blocks) - 1)
    missed = next(place for place in range(len(blocks)) if place not in looked_at)
    content[missed * 1024] ^= 1
    (packed_folder / "images.npy").write_bytes(content)
    Packed(path=str(packed_folder), size=16).open(CPU)
    with pytest.raises(ConfigError, match=f"the bytes from {missed * 1024:,} on are others"):
        verify(packed_folder)


def test_an_interrupted_pack_leaves_nothing(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dist_gan.data.pack.write_json", full)
    with pytest.raises(ConfigError, match=r"out: .*pack cannot be written \(No space left on device\)"):
        pack(Folder(path=str(folder), size=16), tmp_path / "new" / "pack")
    assert list((tmp_path / "new").iterdir()) == []


def harmed(monkeypatch: pytest.MonkeyPatch, harm: Callable[[], object]) -> None:
    """`harm` is done when all but the last file of a pack is written."""
    monkeypatch.setattr("dist_gan.data.pack.write_json", lambda *arguments: harm())


@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_nothing(
    folder: Path, tmp_path: Path, which: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.signal(signal.SIGTERM, lambda *arguments: pytest.fail("this would have ended it at once"))
    try:
        harmed(monkeypatch, lambda: signal.raise_signal(which))
        assert main(["pack", str(folder), f"out={tmp_path / 'new' / 'pack'}", "size=16", "workers=0"]) == 130
    finally:
        assert signal.signal(signal.SIGTERM, before).__name__ == "<lambda>"  # type: ignore[union-attr]
    assert list((tmp_path / "new").iterdir()) == []
    assert "Traceback" not in capsys.readouterr().err


def test_images_that_fail_while_they_are_packed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(error: Exception) -> None:
        raise error

    for error, code, message in (
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."),
            5,
            "data: a process that reads images",
        ),
        (DataError("data: 1.png cannot be used"), 5, "data: 1.png cannot be used"),
    ):
        harmed(monkeypatch, lambda error=error: fails(error))  # type: ignore[misc]
        assert main(["pack", str(folder), f"out={tmp_path / 'pack'}", "size=16", "workers=0"]) == code
        assert capsys.readouterr().err.startswith(message)
    harmed(monkeypatch, lambda: fails(RuntimeError("a defect")))
    with pytest.raises(RuntimeError, match="a defect"):
        main(["pack", str(folder), f"out={tmp_path / 'pack'}", "size=16", "workers=0"])


def test_what_a_folder_has_is_found_or_asked_for(folder: Path) -> None:
    def kind(path: Path) -> str:
        return str(source_at(str(path), KINDS, {}).model_dump()["name"])

    assert kind(folder) == "folder"
    assert kind(tars_of(folder, 2)) == "tar"
    tables = folder.parent / "some"
    (tables / "train").mkdir(parents=True)
    (tables / "train" / "0.parquet").touch()
    assert kind(tables) == "parquet"
    (folder / "backup.tar").touch()
    with pytest.raises(ConfigError, match=r"has files of several kinds: .*backup\.tar") as error:
        kind(folder)
    assert "name=folder" in str(error.value)
    assert "name=tar" in str(error.value)
    columns = source_at(str(tables), KINDS, {"label": "5", "labels": "true", "size": "8", "channels": "1"}).model_dump()
    assert [columns[key] for key in ("label", "labels", "size", "channels")] == ["5", True, 8, 1]


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "pack")
    assert main(["pack", str(folder), f"out={out}", "size=16x8", "channels=1", "labels=true", "workers=0"]) == 0
    said = capsys.readouterr().out
    assert f"{out}: 40 images" in said
    assert f"data.name=packed data.path={out} data.size=16x8 data.channels=1 data.labels=true" in said
    assert Packed(path=out, size="16x8", channels=1, labels=True).open(CPU).shape == (1, 16, 8)
    assert main(["verify", out]) == 0
    assert "all bytes of its 40 images" in capsys.readouterr().out
    for arguments, message in (
        (["pack", str(folder), f"out={out}"], "is there already"),
        (["pack", str(folder)], "expected the path of images, and out=PACK"),
        (["pack", str(folder), f"out={out}2", "size=2"], "size: a side of at least 4 pixels"),
        (["pack", str(folder), f"out={out}2", "size=\u00b2"], "size: a side of at least 4 pixels"),
        (["pack", str(folder), f"out={out}2", "sides=2"], "sides: Extra inputs are not permitted"),
        (["pack", str(folder), f"out={out}2", "name=rar"], "name: expected one of folder, "),
        (["pack", str(tmp_path / "none"), f"out={out}2"], "is not a folder"),
    ):
        assert main(arguments) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "pack2").exists()
    assert main(["--help"]) == 0
    assert "verify PACK" in capsys.readouterr().out


def test_other_shapes_and_no_classes_are_refused(folder: Path, tmp_path: Path) -> None:
    pack(Folder(path=str(folder), size=16), tmp_path / "pack")
    text = refused(Packed(path=str(tmp_path / "pack"), size=32))
    assert "Set data.channels=3 data.size=16, or pack the images again" in text
    assert "has no classes" in refused(Packed(path=str(tmp_path / "pack"), size=16, labels=True))


@pytest.mark.parametrize("megabytes", [0, 100])
@pytest.mark.parametrize("layout", ["M H W", "M H W C", "M C H W"])
def test_npy_in_every_layout(tmp_path: Path, layout: str, megabytes: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 1 if layout == "M H W" else 3, 8, 12), np.uint8)
    stored = {"M H W": images[:, 0], "M H W C": images.transpose(0, 2, 3, 1), "M C H W": images}[layout]
    np.save(tmp_path / "a.npy", np.ascontiguousarray(stored))
    np.save(tmp_path / "a-labels.npy", np.arange(20, dtype=np.int16) % 5)
    source = Npy(path=str(tmp_path / "a.npy"), size="8x12", channels=images.shape[1], labels=True)
    source = source.model_copy(update={"resident_megabytes": megabytes})
    dataset = source.open(CPU)
    assert isinstance(dataset, Resident if megabytes else Mapped)
    index = torch.tensor([7, 0, 19])
    found, labels = next(dataset.batches([range(3)], lambda those: index, lambda those, k: index))
    assert torch.equal(found, torch.from_numpy(images)[index])
    assert found.is_contiguous()
    assert labels.tolist() == [2, 0, 4]
    assert dataset.classes == ("0", "1", "2", "3", "4")


def test_npy_fingerprint_is_of_content_and_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((4, 8, 8, 3), np.uint8))
    source = Npy(path=str(path), size=8)
    before = source.open(CPU).fingerprint
    with monkeypatch.context() as patch:
        patch.setattr(npy, "block_hashes", lambda path: pytest.fail("read again"))
        assert source.open(CPU).fingerprint == before
    np.save(path, np.ones((4, 8, 8, 3), np.uint8))
    assert source.open(CPU).fingerprint != before
    np.save(path, np.zeros((4, 8, 8, 3), np.uint8))
    assert source.open(CPU).fingerprint == before


def test_npy_files_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    source = Npy(path=str(path), size=8)
    assert "a.npy cannot be used (No such file or directory)" in refused(source)
    path.write_bytes(b"no array")
    assert "Expected a whole .npy file" in refused(source)
    for end in (None, -5):
        np.savez(tmp_path / "a.npz", images=np.zeros((4, 8, 8, 3), np.uint8))
        path.write_bytes((tmp_path / "a.npz").read_bytes()[:end])
        assert "Expected a whole .npy file" in refused(source)
    np.save(path, np.zeros((4, 8, 8, 3), np.uint8))
    path.write_bytes(path.read_bytes()[:-5])
    assert "a.npy cannot be used" in refused(source)
    np.save(path, np.zeros((4, 8, 8, 3), np.float32))
    assert "no image of uint8 values from 0 to 255: its values are float32" in refused(source)
    np.save(path, np.asfortranarray(np.zeros((4, 8, 8, 3), np.uint8)))
    assert "in Fortran's order" in refused(source)
    np.save(path, np.zeros((4, 8, 8, 3), np.uint8))
    labelled = source.model_copy(update={"labels": True})
    assert "a-labels.npy cannot be used" in refused(labelled)
    np.save(tmp_path / "a-labels.npy", np.zeros(3, int))
    assert "labels have the shape [3], expected [4]" in refused(labelled)
