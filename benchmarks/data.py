"""Small images by the hundred thousand: every source of files beside torchvision's ImageFolder and WebDataset's loader.

    python benchmarks/data.py [--images 100000] [--size 64] [--workers 0,1,2] [--rounds 5] [--work FOLDER] [--keep]

Made-up JPEGs, the same for all: as a folder (with a sub-folder for each of 100 classes), a zip, tar shards, Parquet
files, a `.npy` file and a pack. Printed: how long each takes to open, the first time and from its index; the memory
that belongs to one process alone; images a second.
"""

import argparse
import gc
import io
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from judge import hardware
from PIL import Image

from dist_gan.data import Folder, Npy, Packed, Parquet, Source, Tar, Zip
from dist_gan.data.decode import Look, decode
from dist_gan.data.pack import pack
from dist_gan.data.stream import Stream
from dist_gan.randomness import permutation

CLASSES, DIFFERENT, SHARDS, BATCH = 100, 2000, 50, 64
WARM_UP, MEASURED = 20, 100  # batches
CPU = torch.device("cpu")
OURS: dict[str, type[Source]] = {"folder": Folder, "zip": Zip, "tar": Tar, "parquet": Parquet}
OURS |= {"packed": Packed, "npy": Npy}
PLACES = {"folder": "folder", "zip": "images.zip", "tar": "shards", "parquet": "tables", "npy": "images.npy"}
PLACES |= {"packed": "pack"}
THEIRS = ("ImageFolder", "ImageFolder, decode_image", "WebDataset")
MAPPED = ("npy", "packed")
"""Without decoding and without workers."""


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=64, help="of an image, in pixels")
    parser.add_argument("--workers", default="0,1,2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sources", default=",".join(OURS), help="which of ours")
    parser.add_argument("--work", help="a folder for the images; those that are there are used again")
    parser.add_argument("--keep", action="store_true", help="leave the images there")
    parser.add_argument("--one", help="for itself: open this one, and print what it takes")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    work = Path(asked.work or tempfile.mkdtemp(prefix="images-"))
    os.environ["DIST_GAN_DATA"] = str(work / "cache")
    sources = asked.sources.split(",")
    if asked.one:
        print(json.dumps(opening(asked.one, work, asked.size)))
        return
    try:
        print(f"{hardware()}, torch {torch.__version__}; {asked.images:,} JPEGs of {asked.size}x{asked.size}\n")
        make(work, asked.images, asked.size, sources)
        open_all(sources, asked)
        for workers in map(int, filter(None, asked.workers.split(","))):
            speeds(work, asked.size, workers, asked.rounds, sources)
    finally:
        if not asked.keep:
            shutil.rmtree(work)


def made_up(size: int) -> list[bytes]:
    """JPEGs, all different."""
    random = np.random.default_rng(0)
    found = []
    for _ in range(DIFFERENT):
        cells = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(cells).resize((size, size), Image.Resampling.BICUBIC), np.int16)
        noisy = (smooth + random.integers(-15, 16, smooth.shape)).clip(0, 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(noisy).save(file, "JPEG", quality=90)
        found.append(file.getvalue())
    return found


Images = list[tuple[str, int, bytes]]
"""The name, class and content of each."""


def make(work: Path, count: int, size: int, sources: list[str]) -> None:
    """Write the images in every form that is not there yet."""
    pictures = made_up(size)
    images = [(f"{number:07d}", number * CLASSES // count, pictures[number % DIFFERENT]) for number in range(count)]
    work.mkdir(parents=True, exist_ok=True)
    for kind, write in {"folder": folder, "zip": zipped, "tar": tars, "parquet": tables}.items():
        if (kind in sources or kind == "tar") and not (work / PLACES[kind]).exists():
            write(work / PLACES[kind], images)
    if "packed" in sources and not (work / PLACES["packed"]).exists():
        options = {"size": size, "labels": True, "workers": 0, "resident_megabytes": 0}
        pack(Tar(path=str(work / PLACES["tar"]), **options), work / PLACES["packed"])
    if "npy" in sources and not (work / PLACES["npy"]).exists():
        shutil.copy(work / PLACES["packed"] / "images.npy", work / PLACES["npy"])


def folder(path: Path, images: Images) -> None:
    """Links to a few files."""
    seeds = path.with_name("seeds")
    seeds.mkdir()
    for number, label, content in images:
        seed = seeds / str(int(number) % DIFFERENT)
        if int(number) < DIFFERENT:
            seed.write_bytes(content)
        place = path / f"{label:03d}"
        place.mkdir(parents=True, exist_ok=True)
        os.link(seed, place / f"{number}.jpg")


def zipped(path: Path, images: Images) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for number, label, content in images:
            archive.writestr(f"{label:03d}/{number}.jpg", content)


def tars(path: Path, images: Images) -> None:
    path.mkdir()
    for shard in range(SHARDS):
        with tarfile.open(path / f"{shard:03d}.tar", "w") as tar:
            for number, label, content in part(images, shard):
                for ending, data in (("jpg", content), ("cls", str(label).encode())):
                    info = tarfile.TarInfo(f"{number}.{ending}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))


def tables(path: Path, images: Images) -> None:
    import pyarrow
    import pyarrow.parquet

    path.mkdir()
    for shard in range(SHARDS):
        mine = part(images, shard)
        columns = {"image": [{"bytes": data} for *_, data in mine], "label": [label for _, label, _ in mine]}
        pyarrow.parquet.write_table(pyarrow.table(columns), path / f"train-{shard:03d}.parquet")


def part(images: Images, shard: int) -> Images:
    """Those of one of the `SHARDS`."""
    return images[shard * len(images) // SHARDS : (shard + 1) * len(images) // SHARDS]


def source(name: str, work: Path, size: int, workers: int = 0) -> Source:
    """One of ours: nothing of it on the device."""
    options: dict[str, Any] = {"path": str(work / PLACES[name]), "size": size, "resident_megabytes": 0}
    if name not in MAPPED:
        options["workers"] = workers
    if name != "npy":
        options["labels"] = True
    return OURS[name](**options)


def image_folder(work: Path, quick: bool) -> Any:
    """torchvision's, with Pillow, as its documentation has it; or with torchvision's own decoder."""
    from torchvision.datasets import ImageFolder
    from torchvision.io import ImageReadMode, decode_image, read_file
    from torchvision.transforms.functional import pil_to_tensor

    if quick:
        return ImageFolder(str(work / "folder"), loader=lambda path: decode_image(read_file(path), ImageReadMode.RGB))
    return ImageFolder(str(work / "folder"), transform=pil_to_tensor)


def opening(name: str, work: Path, size: int) -> dict[str, float]:
    """Seconds until it is open, and the bytes that belong to this process alone after a batch."""
    next(iter(torch.utils.data.DataLoader([torch.zeros(1)])))  # type: ignore[arg-type]  # what is imported late is not the data's
    decode(made_up(size)[0], Look(3, size, size))
    before, begun = private(), time.perf_counter()
    held: Any = image_folder(work, quick=False) if name in THEIRS else source(name, work, size).open(CPU)
    seconds = time.perf_counter() - begun
    if name in THEIRS:
        batches: Iterator[Any] = iter(torch.utils.data.DataLoader(held, BATCH, shuffle=True))
    else:
        batches = Stream(held, seed=0, batch_size=BATCH, rank=0, processes=1, device=CPU).batches(0)
    next(batches)
    gc.collect()
    return {"seconds": seconds, "bytes": private() - before, "n": len(held)}


def private() -> int:
    """Bytes of memory that no other process could share: what the process itself has written."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("Private_Dirty"))


def open_all(sources: list[str], asked: argparse.Namespace) -> None:
    """Each in a process of its own, twice: the first time it makes its index."""
    print("| opened | the first time, s | again, s | memory of a process alone, bytes an image |\n|---|---|---|---|")
    for name in [*sources, *(["ImageFolder"] if "folder" in sources else [])]:
        command = [sys.executable, __file__, "--one", name, "--work", asked.work or "", "--size", str(asked.size)]
        first, again = (json.loads(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(2))
        row = f"{first['seconds']:.2f} | {again['seconds']:.2f} | {again['bytes'] / again['n']:.1f}"
        print(f"| {name} | {row} |", flush=True)
    print()


def ours(dataset: Any) -> Iterator[torch.Tensor]:
    """Batches in random order, as a run has them."""
    order = permutation(0, 0, len(dataset))

    def ordered(ordinals: range) -> torch.Tensor:
        return order[torch.arange(ordinals.start, ordinals.stop) % len(order)]

    ranges = (range(start, start + BATCH) for start in itertools.count(0, BATCH))

    def none(ordinals: range, k: int) -> torch.Tensor:
        raise AssertionError("no source of files draws images one by one")

    return (images for images, _ in dataset.batches(ranges, ordered, none))


def theirs(name: str, work: Path, workers: int) -> Iterator[Any]:
    """The same by others' loaders: endless."""
    options: dict[str, Any] = {"num_workers": workers, **({"prefetch_factor": 4} if workers else {})}
    if name == "WebDataset":
        import webdataset

        shards = sorted(map(str, (work / "shards").glob("*.tar")))
        data = webdataset.WebDataset(shards, shardshuffle=len(shards), empty_check=False).shuffle(1000)
        data = data.decode("torchrgb8").to_tuple("jpg", "cls").batched(BATCH, partial=False)
        loader: Iterable[Any] = webdataset.WebLoader(data, batch_size=None, **options)
    else:
        data = image_folder(work, quick="decode_image" in name)
        loader = torch.utils.data.DataLoader(data, BATCH, shuffle=True, drop_last=True, **options)
    return itertools.chain.from_iterable(itertools.repeat(loader))


def speeds(work: Path, size: int, workers: int, rounds: int, sources: list[str]) -> None:
    """Images a second, in short rounds of all in turn; ratios are to the best of the others in the same round."""
    opened = {name: source(name, work, size, workers).open(CPU) for name in sources}
    makers: dict[str, Callable[[], Iterator[Any]]] = {
        name: (lambda dataset=dataset: ours(dataset))  # type: ignore[misc]
        for name, dataset in opened.items()
    }
    makers |= {name: (lambda name=name: theirs(name, work, workers)) for name in THEIRS}  # type: ignore[misc]
    found: dict[str, list[float]] = {name: [] for name in makers}
    names = list(makers)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            batches = makers[name]()
            for _ in range(WARM_UP):
                next(batches)
            begun = time.perf_counter()
            for _ in range(MEASURED):
                next(batches)
            found[name].append(MEASURED * BATCH / (time.perf_counter() - begun))
            del batches
    best = [max(found[name][number] for name in THEIRS) for number in range(rounds)]
    print(f"| {workers} workers | images/s | of the best of the others |\n|---|---|---|")
    for name, speed in found.items():
        ratio = statistics.median(mine / other for mine, other in zip(speed, best, strict=True))
        print(f"| {name} | {statistics.median(speed):,.0f} | {ratio:.2f} |", flush=True)
    print()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
