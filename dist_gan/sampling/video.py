"""Frames to a video: MP4 through PyAV, or an animated GIF through Pillow."""

import io
import itertools
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dist_gan.errors import ConfigError
from dist_gan.sampling.pictures import enlarged, publish, visible

ENCODERS = {
    "libx264": {
        "crf": "18",
        "flags": "+bitexact",
        "x264-params": "no-mbtree=1",
    },  # mbtree's choices vary from run to run
    "libopenh264": {"flags": "+bitexact"},
    "mpeg4": {"qmin": "2", "qmax": "4", "flags": "+bitexact"},
}
"""What PyAV may encode MP4 with, the best first, and the options of each: a quality that shows no blocks, and no text
that depends on the time or the version."""
BT601, LIMITED = 6, 1
"""How RGB becomes YUV, as FFmpeg numbers it: written into the file, so that players show the colors that were meant."""
GIF_FPS = 50
"""Viewers slow faster GIFs down."""


def save_video(frames: Iterable[Tensor], path: Path, fps: int) -> None:
    """Frames uint8 [C, H, W] of one shape -> a video, published by one rename; the same bytes for the same frames.

    Frames are enlarged as grids are, and shown as `save_image` shows them. An MP4 (H.264, 4:2:0) has even sides:
    the last line is there twice where they are odd. A GIF loops for ever. Memory does not grow with the number of
    frames.

    Raises:
        ConfigError: as `check_video`.
        OSError: it cannot be written; nothing is left.
        ValueError: there are no frames, or their shapes differ.
    """
    check_video(path, fps)
    write = _write_gif if path.suffix.lower() == ".gif" else _write_mp4
    publish(path, lambda file: write(_of_one_shape(frames), file, fps))


def check_video(path: Path, fps: int) -> None:
    """Whether `path` can become a video here.

    Raises:
        ConfigError: it has another ending, is a folder, or PyAV or its encoders are missing.
    """
    ending = path.suffix.lower()
    if ending not in (".mp4", ".gif"):
        raise ConfigError(f"video: expected a name ending in .mp4 or .gif, got {path}")
    if path.is_dir():
        raise ConfigError(f"video: {path} is a folder. Give the name of a file")
    if ending == ".mp4":
        _encoder()
    elif fps > GIF_FPS:
        raise ConfigError(f"fps: a GIF has at most {GIF_FPS} frames a second, got {fps}. Give fewer, or a name in .mp4")


def training_video(sample_pictures: Sequence[Path], path: Path, fps: int, side: int = 0) -> None:
    """A run's pictures of fixed latents, in the order given -> a video of its training; the last one stays a second.

    Pictures that are smaller than the largest one have black beside and below them. `side`: where the largest one is
    wider or higher than this many pixels, all are scaled down by the factor that brings it there; 0: none are.

    Raises:
        ConfigError: there are no pictures, one of them cannot be read, or as `check_video`.
        OSError: as `save_video`.
    """
    if not sample_pictures:
        raise ConfigError("video: there are no pictures to make it of")
    check_video(path, fps)
    sizes = []
    for picture in sample_pictures:
        with _opened(picture) as image:
            sizes.append(image.size)
    width, height = (max(sides) for sides in zip(*sizes, strict=True))
    factor = min(1, side / max(width, height)) if side else 1
    width, height = _scaled(width, height, factor)
    order = itertools.chain(sample_pictures, itertools.repeat(sample_pictures[-1], fps - 1))
    save_video((_framed(picture, width, height, factor) for picture in order), path, fps)


def _opened(picture: Path) -> Image.Image:
    try:
        return Image.open(picture)
    except OSError as error:
        raise ConfigError(f"video: {picture} cannot be read ({error.strerror or error})") from None


def _scaled(width: int, height: int, factor: float) -> tuple[int, int]:
    return max(1, round(width * factor)), max(1, round(height * factor))


def _framed(picture: Path, width: int, height: int, factor: float) -> Tensor:
    """uint8 [3, height, width]"""
    with _opened(picture) as image:
        size = _scaled(*image.size, factor)
        shown = image.convert("RGB")
        shown = shown if size == image.size else shown.resize(size, Image.Resampling.LANCZOS)
        pixels = torch.from_numpy(np.array(shown)).permute(2, 0, 1)
    frame = pixels.new_zeros(3, height, width)
    frame[:, : pixels.shape[1], : pixels.shape[2]] = pixels
    return frame


def _of_one_shape(frames: Iterable[Tensor]) -> Iterator[Tensor]:
    """uint8 [1 or 3, H, W], enlarged; at least one."""
    shape = None
    for frame in frames:
        shape = shape or frame.shape
        if frame.shape != shape:
            raise ValueError(f"a frame has shape {tuple(frame.shape)}, the ones before it {tuple(shape)}")
        yield enlarged(visible(frame[None])[0])
    if shape is None:
        raise ValueError("a video of no frames")


def _encoder() -> str:
    try:
        import av
    except ImportError:
        raise ConfigError(
            "video: MP4 needs PyAV, which is not installed: pip install 'dist_gan[video]'. Or give a name in .gif"
        ) from None
    if found := [name for name in ENCODERS if name in av.codecs_available and _encodes(av, name)]:
        return found[0]
    raise ConfigError(f"video: this PyAV has none of the encoders {', '.join(ENCODERS)}. Give a name ending in .gif")


def _encodes(av: Any, name: str) -> bool:
    try:
        return bool(av.codec.Codec(name, "w"))
    except av.error.FFmpegError:
        return False


def _write_mp4(frames: Iterator[Tensor], file: IO[bytes], fps: int) -> None:
    import av

    name = _encoder()
    first = next(frames)
    height, width = (side + side % 2 for side in first.shape[1:])
    options = {"movflags": "+faststart", "fflags": "+bitexact"}  # players begin before they have all of it
    try:
        with av.open(file.name, "w", format="mp4", options=options) as container:
            stream: Any = container.add_stream(name, rate=fps, options=ENCODERS[name])
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            context = stream.codec_context
            context.thread_count = 1  # more would encode in another way
            context.colorspace, context.color_range = BT601, LIMITED
            for frame in itertools.chain([first], frames):
                odd = [(0, height - first.shape[1]), (0, width - first.shape[2]), (0, 0)]
                pixels = np.pad(frame.expand(3, -1, -1).permute(1, 2, 0).numpy(), odd, mode="edge")
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode(None))
    except av.error.FFmpegError as error:
        raise OSError(error.errno, f"{name}: {error.strerror}") from None


def _write_gif(frames: Iterator[Tensor], file: IO[bytes], fps: int) -> None:
    """Frame by frame: Pillow's own way to write several frames holds all of them."""
    for number, frame in enumerate(frames):
        gray = bool((frame == frame[:1]).all())
        picture = Image.fromarray((frame[0] if gray else frame.permute(1, 2, 0)).numpy())
        one = io.BytesIO()
        (picture if gray else picture.quantize(256, dither=Image.Dither.NONE)).save(one, "GIF", interlace=False)
        size, table, pixels = _parts_of_gif(one.getvalue())
        if number == 0:
            file.write(b"GIF89a" + size + b"\x70\0\0")  # each frame has colors of its own
            file.write(b"!\xff\x0bNETSCAPE2.0\x03\x01\0\0\0")  # loops for ever
        hundredths = (number + 1) * 100 // fps - number * 100 // fps  # their sum is right, whatever fps is
        file.write(b"!\xf9\x04\0" + struct.pack("<H", hundredths) + b"\0\0")
        file.write(b"," + bytes(4) + size + bytes([0x80 | len(table).bit_length() - 3]) + table + pixels)
    file.write(b";")


def _parts_of_gif(gif: bytes) -> tuple[bytes, bytes, bytes]:
    """Of a GIF of one picture: width and height (4 bytes), the color table (2**n colors), the pixels."""
    colors = 13 + 3 * 2 ** ((gif[10] & 7) + 1)
    at = colors
    while gif[at : at + 1] == b"!":  # extensions: blocks after a length, and an empty one
        at += 2
        while gif[at]:
            at += 1 + gif[at]
        at += 1
    return gif[6:10], gif[13:colors], gif[at + 10 : -1]
