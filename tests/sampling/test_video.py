"""Videos: what was shown comes back, loops close, and every mistake is a sentence."""

import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dist_gan.errors import ConfigError
from dist_gan.run.restore import load_generator
from dist_gan.sampling import video
from dist_gan.sampling.generate import generate, sample_latents, slerp
from dist_gan.sampling.pictures import grid
from dist_gan.sampling.video import save_video, training_video
from dist_gan.sampling.walk import latent_loop, walk
from tests.support.commands import sample

BOTH = pytest.mark.parametrize("ending", [".mp4", ".gif"])


@pytest.fixture(autouse=True)
def _with_encoder(request: pytest.FixtureRequest) -> None:
    if ".mp4" in request.node.name:
        pytest.importorskip("av", reason="MP4 needs PyAV: pip install 'dist_gan[video]'")


def decoded(path: Path) -> np.ndarray:
    """uint8 [frames, H, W, 3]"""
    if path.suffix == ".gif":
        with Image.open(path) as image:
            frames = []
            for i in range(image.n_frames):  # type: ignore[attr-defined]
                image.seek(i)
                frames.append(np.asarray(image.convert("RGB")))
            return np.stack(frames)
    import av

    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def soft(count: int, channels: int = 3, height: int = 40, width: int = 33) -> list[Tensor]:
    """Frames uint8 [C, H, W] in which a soft pattern moves, as encoders like it."""
    y, x = torch.meshgrid(torch.arange(height) / height, torch.arange(width) / width, indexing="ij")
    waves = [torch.sin(6 * (x + y) + i / 3 + 2 * c) for i in range(count) for c in range(channels)]
    return list(torch.stack(waves).mul(100).add(128).to(torch.uint8).view(count, channels, height, width))


def assert_shown(path: Path, frames: list[Tensor], factor: int, loss: float) -> None:
    """The file shows `frames`, enlarged by `factor`, and at odd edges the last line again."""
    found = decoded(path).astype(int)
    expected = np.stack([frame.repeat_interleave(factor, 1).repeat_interleave(factor, 2).numpy() for frame in frames])
    expected = np.broadcast_to(expected.transpose(0, 2, 3, 1), (len(frames), *expected.shape[2:], 3))
    assert len(found) == len(frames)
    height, width = expected.shape[1:3]
    assert found.shape[1:3] in {(height, width), (height + height % 2, width + width % 2)}
    assert np.abs(found[:, :height, :width] - expected).mean(axis=(1, 2, 3)).max() < loss
    assert np.abs(found[:, height:] - found[:, height - 1 : height]).max(initial=0) < 20
    assert np.abs(found[:, :, width:] - found[:, :, width - 1 : width]).max(initial=0) < 20


@BOTH
@pytest.mark.parametrize("channels", [1, 3])
def test_what_was_shown_comes_back(tmp_path: Path, ending: str, channels: int) -> None:
    frames = soft(9, channels)
    save_video(iter(frames), tmp_path / f"a{ending}", fps=5)
    assert_shown(tmp_path / f"a{ending}", frames, 13, loss=3)
    save_video(iter(frames), tmp_path / f"b{ending}", fps=5)
    assert (tmp_path / f"a{ending}").read_bytes() == (tmp_path / f"b{ending}").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"a{ending}", f"b{ending}"]


def test_grays_of_a_gif_are_exact_and_it_lasts_as_long_as_it_should(tmp_path: Path) -> None:
    frames = soft(30, 1)
    save_video(frames, tmp_path / "a.gif", fps=30)
    assert_shown(tmp_path / "a.gif", frames, 13, loss=1e-9)
    with Image.open(tmp_path / "a.gif") as image:
        assert image.info["loop"] == 0
        durations = []
        for i in range(image.n_frames):  # type: ignore[attr-defined]
            image.seek(i)
            durations.append(image.info["duration"])
    assert sum(durations) == 1000
    assert set(durations) == {30, 40}


def test_an_mp4_says_how_fast_and_in_which_colors(tmp_path: Path) -> None:
    import_av = pytest.importorskip("av", reason="MP4 needs PyAV: pip install 'dist_gan[video]'")
    save_video(soft(10, height=37, width=600), tmp_path / "a.mp4", fps=24)
    with import_av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == (600, 38)
        assert stream.average_rate == 24
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert "creation_time" not in container.metadata


@BOTH
@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_frames(tmp_path: Path, ending: str) -> None:
    def peak(count: int) -> int:
        tracemalloc.start()
        save_video((frame for _ in range(count // 4) for frame in soft(4, 1, 64, 64)), tmp_path / f"a{ending}", 10)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(4)
    assert peak(60) < peak(12) + 300_000, "a frame has 262,144 bytes"


@BOTH
def test_nothing_is_left_of_a_video_that_failed(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    path.write_text("an older one")

    def failing() -> Iterator[Tensor]:
        yield from soft(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_video(failing(), path, 10)
    with pytest.raises(ValueError, match=r"a frame has shape \(3, 8, 8\), the ones before it \(3, 40, 33\)"):
        save_video([*soft(2), *soft(1, height=8, width=8)], path, 10)
    with pytest.raises(ValueError, match="no frames"):
        save_video([], path, 10)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "an older one"


def test_no_encoder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="MP4 needs PyAV: pip install 'dist_gan[video]'")
    monkeypatch.setattr(video, "ENCODERS", {"h267": {}})
    with pytest.raises(ConfigError, match=r"none of the encoders h267. Give a name ending in .gif"):
        save_video(soft(2), tmp_path / "a.mp4", 10)
    monkeypatch.setattr(video, "ENCODERS", {"h267": {}, "mpeg4": {"qmin": "2", "qmax": "4"}})
    save_video(soft(2), tmp_path / "a.mp4", 10)
    assert_shown(tmp_path / "a.mp4", soft(2), 13, loss=4)


def test_a_loop_comes_through_its_stops_and_closes() -> None:
    stops = sample_latents(3, range(6), 16).view(3, 2, 16)
    loop = torch.stack(list(latent_loop(stops, 30)))
    assert loop.shape == (30, 2, 16)
    torch.testing.assert_close(loop[::10].float(), stops, rtol=0, atol=1e-6)
    torch.testing.assert_close(loop[5, 1], slerp(stops[0, 1], stops[1, 1], 3)[1], rtol=0, atol=1e-12)
    steps = (loop.roll(-1, 0) - loop).norm(dim=2)
    assert (steps[-1] < steps.mean(0)).all(), "from the last frame to the first as smoothly as anywhere"
    assert steps.max() < 2 * steps.mean(), "nowhere is a jump"
    assert 0.6 < loop.norm(dim=2).mean() / 4 < 1.4, "lengths stay those of latents"


def test_the_first_frame_shows_the_images_of_the_seed(plain: Path, conditional: Path) -> None:
    generator = load_generator(plain, "cpu")
    first, *rest = walk(generator, 12, seed=4, stops=2)
    assert len(rest) == 11
    assert torch.equal(first, grid(generate(generator, sample_latents(4, range(16), generator.latent))))
    assert any(not torch.equal(first, frame) for frame in rest)

    generator = load_generator(conditional, "cpu")
    first = next(walk(generator, 6, classes=[2, 0], per_class=3))
    latents = sample_latents(0, range(3), generator.latent).repeat_interleave(2, 0)
    assert torch.equal(first, grid(generate(generator, latents, torch.tensor([2, 0] * 3)), 2)), "a row shares latents"
    assert next(walk(generator, 6)).shape == (3, 42, 42), "four rows of four classes"
    latents = sample_latents(0, range(16), generator.latent)
    first = next(walk(generator, 6, classes=[3]))
    assert torch.equal(first, grid(generate(generator, latents, torch.full((16,), 3)))), "one class is a square"


@BOTH
def test_a_walk_on_the_command_line(
    conditional: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], ending: str
) -> None:
    path = tmp_path / "new" / f"walk{ending}"
    assert sample.main([str(conditional), f"video={path}", "seconds=2", "fps=5", "stops=2", "which=256"]) == 0
    assert f"walk{ending} (from {conditional}/checkpoints/images-000000000256)" in capsys.readouterr().out
    frames = list(walk(load_generator(conditional, "cpu"), 10, stops=2))
    assert_shown(path, frames, 13, loss=4)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_mistakes(plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "folder.gif").mkdir()
    for options, expected in (
        (["video=walk.avi"], "video: expected a name ending in .mp4 or .gif, got walk.avi"),
        (["video=walk"], "video: expected a name ending in .mp4 or .gif, got walk"),
        ([f"video={tmp_path}/folder.gif"], "folder.gif is a folder"),
        (["video=x.gif", "out=x.png"], "video: give it or out, not both"),
        (["video=x.gif", "interpolate=4"], "video: give it or interpolate, not both"),
        (["video=x.gif", "fps=60"], "fps: a GIF has at most 50 frames a second, got 60"),
        (["video=x.gif", "stops=1"], "stops must be at least 2, got 1"),
        (["video=x.gif", "count=1025"], "count: a video shows at most 1,024 images at once"),
        (["video=x.gif", "count=1000000000000"], "count: a video shows at most 1,024 images at once"),
        (["video=x.gif", "classes=1"], "this run has no classes"),
        (["fps=10"], "fps: only with video="),
        (["which=17"], "which: expected last, best, or the images of a checkpoint (256), got '17'"),
    ):
        assert sample.main([str(plain), *options]) == 2
        out, error = capsys.readouterr()
        assert (out, error.count("\n")) == ("", 1)
        assert expected in error
    assert not list(Path.cwd().glob("x.gif"))


def test_without_pyav(
    plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    assert sample.main([str(plain), f"video={tmp_path}/new/x.mp4"]) == 2
    assert "MP4 needs PyAV, which is not installed: pip install 'dist_gan[video]'" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    assert sample.main([str(plain), f"video={tmp_path}/new/x.gif", "seconds=1", "fps=4"]) == 0


@BOTH
def test_a_video_of_training(tmp_path: Path, ending: str) -> None:
    frames = [torch.full((3, 60, 60), 50 * i, dtype=torch.uint8) for i in range(1, 4)]
    frames[1] = frames[1][:, :50, :40]  # sample.count was another one then
    pictures = []
    for i, frame in enumerate(frames):
        pictures.append(tmp_path / f"{i:012d}.png")
        Image.fromarray(frame.permute(1, 2, 0).numpy()).save(pictures[-1])
    training_video(pictures, tmp_path / f"a{ending}", fps=4)
    small = torch.zeros(3, 60, 60, dtype=torch.uint8)
    small[:, :50, :40] = frames[1]
    assert_shown(tmp_path / f"a{ending}", [frames[0], small, *[frames[2]] * 4], 9, loss=3)
    training_video(pictures, tmp_path / f"c{ending}", fps=4, side=30)
    half = torch.zeros(3, 30, 30, dtype=torch.uint8)
    half[:, :25, :20] = 100
    assert frames[1][0, 0, 0] == 100
    assert_shown(tmp_path / f"c{ending}", [frames[0][:, ::2, ::2], half, *[frames[2][:, ::2, ::2]] * 4], 18, loss=3)
    with pytest.raises(ConfigError, match="no pictures"):
        training_video([], tmp_path / f"b{ending}", fps=4)
    pictures[0].write_bytes(b"no picture")
    with pytest.raises(ConfigError, match=r"000000000000.png cannot be read"):
        training_video(pictures, tmp_path / f"b{ending}", fps=4)
    assert not (tmp_path / f"b{ending}").exists()
