"""Train a GAN: `accelerate launch dist_gan/train.py [CONFIG.yaml] [dotted.key=value ...]` (see `--help`)."""

import os
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__" and not __package__:
    # `python dist_gan/train.py` puts dist_gan/ itself first: its modules would hide others of the same name
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch

from dist_gan import __version__, checkpoint, debug
from dist_gan.checkpoint import Checkpoint, CheckpointError
from dist_gan.command_line import differences, dump, help_text, load, parse
from dist_gan.config import Config
from dist_gan.console import Console, duration
from dist_gan.data import Dataset, Stream
from dist_gan.game import Game
from dist_gan.meter import Diverged
from dist_gan.networks import Networks
from dist_gan.part import ConfigError
from dist_gan.processes import Processes, check_launch, is_peer_failure, leave, world
from dist_gan.run_folder import RunFolder
from dist_gan.tracker import Tracker, still_busy
from dist_gan.trainer import Cadence, Desk, Trainer

EXIT_CODES = ((ConfigError, 2), (CheckpointError, 3), (Diverged, 4), (OSError, 5))
PEER_FAILED = 6


def main(arguments: Sequence[str] | None = None) -> int:
    """Train as the command line says; returns the exit code (README: "Exit codes")."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    rank, count = world()
    if {"-h", "--help"} & set(arguments):
        if rank == 0:
            print(help_text())
        return 0
    try:
        config = _configured([a for a in arguments if a != "--print-config"])
        if "--print-config" in arguments:
            if rank == 0:
                print(dump(config), end="")
            return 0
        if mistakes := config.mistakes(count) + check_launch(config.precision):
            raise ConfigError("\n".join(mistakes))
    except ConfigError as error:
        if rank == 0:
            _tell(error)
        return 2
    begun = time.time()
    try:
        return train_in_debug(config) if config.debug else train(config)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        return _failed(error, rank, config, begun)


def train(config: Config, watch: debug.Checks | None = None) -> int:
    """One run from start (or resume) to end. Returns 0 when it ended in good order, else raises."""
    processes = Processes(config.precision)
    processes.listen()
    console = Console(speaks=processes.is_first, style=config.console)
    for warning in config.unwise() + processes.unwise(config.precision):
        console.warn(warning)
    dataset = processes.together(lambda: config.data.open(processes.device))
    stream = processes.together(
        lambda: Stream(
            dataset,
            seed=config.seed,
            batch_size=config.batch_size,
            rank=processes.rank,
            processes=processes.count,
            device=processes.device,
            dtype=processes.dtype,
            flip=config.data.flip,
        )
    )
    folder = RunFolder(Path(config.run))
    start: Start | None = None
    try:
        found = processes.together(lambda: _begin(config, folder, dataset, console) if processes.is_first else None)
        start = processes.share(found)
        assert start is not None
        if start.images_seen >= config.images:
            console.say(f"{config.run} has seen all of its {config.images:,} images. Ask for more with images=...")
            processes.close()
            return 0
        _play(config, watch, processes, console, dataset, stream, folder, start)
    except Exception as error:
        if start is not None or isinstance(error, CheckpointError):
            error.folder = folder  # type: ignore[attr-defined]  # from here on its status.json is this run's to write
        raise
    finally:
        folder.release()
    return 0


def _play(
    config: Config,
    watch: debug.Checks | None,
    processes: Processes,
    console: Console,
    dataset: Dataset,
    stream: Stream,
    folder: RunFolder,
    start: "Start",
) -> None:
    networks = config.networks.build(dataset.shape, config.seed)
    game = Game(
        processes,
        networks,
        config.objective,
        generator_optimizer=config.generator_optimizer,
        discriminator_optimizer=config.discriminator_optimizer,
        ema=config.ema,
        augment=config.augment,
        seed=config.seed,
        batch_size=config.batch_size,
        piece=config.piece,
        discriminator_turns=config.discriminator_turns,
        watch=watch,
    )
    if start.checkpoint is not None:
        path = start.checkpoint
        restored = processes.together(lambda: checkpoint.read(path))
        game.load(restored.tensors, restored.state)
        if watch:
            debug.check_restored(game, restored)
    desk = _desk(config, folder, dataset, processes, console, start) if processes.is_first else None
    _show(config, processes, networks, dataset, console, start)
    cadence = Cadence(config.images, config.track.every, config.sample.every, config.save.every, config.sample.count)
    try:
        Trainer(game, stream.batches, processes, cadence, console, desk).run()
        processes.close()
    finally:
        if desk is not None:
            desk.tracker.close()


def train_in_debug(config: Config) -> int:
    """A few updates, a checkpoint, a resume from it, a few more: everything once, everything checked."""
    begun = time.perf_counter()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic products on a GPU want it
    debug.watch_everything()
    half, whole = (debug.shortened(config, updates) for updates in (debug.UPDATES // 2, debug.UPDATES))
    debug.clear(Path(half.run))
    checks = debug.Checks()
    for part in (half, whole):
        train(part, watch=checks)
    seconds = time.perf_counter() - begun
    print(f"debug: {checks.passed:,} checks passed, everything written and read once, in {duration(seconds)}")
    return 0


@dataclass(frozen=True)
class Start:
    """Where a run begins, as rank 0 decided."""

    checkpoint: Path | None
    images_seen: int
    wandb_id: str | None
    processes: int


def _configured(arguments: list[str]) -> Config:
    path = arguments.pop(0) if arguments and "=" not in arguments[0] and not arguments[0].startswith("-") else None
    return load(path, arguments)


def _begin(config: Config, folder: RunFolder, dataset: Dataset, console: Console) -> Start:
    """Take hold of the run's folder and find where to go on. Rank 0's."""
    folder.check()
    if config.resume == "never" and folder.path.is_dir() and checkpoint.existing(folder.checkpoints):
        raise ConfigError(
            f"resume: {folder.path} holds a run that has begun, and resume=never. Choose another folder with run=..., "
            "or resume=auto to go on"
        )
    given = None if config.resume in ("auto", "never") else Path(config.resume)
    if given and (problem := checkpoint.verify(given)):
        raise ConfigError(f"resume: {given} is no whole checkpoint: {problem}")
    folder.hold()
    path = checkpoint.find(folder.checkpoints, console.warn) or given
    if path is None:
        folder.forget_after(-1)
        return Start(None, 0, None, 0)
    found = checkpoint.read(path)
    _same_run(config, found, dataset)
    folder.forget_after(found.state["images_seen"])
    return Start(path, found.state["images_seen"], found.state["wandb"], found.state["processes"])


def _same_run(config: Config, found: Checkpoint, dataset: Dataset) -> None:
    if changed := differences(parse(found.config), config):
        raise ConfigError(
            f"resume: {found.path} was made with a config that makes another model:\n"
            + "".join(f"  - {line}\n" for line in changed)
            + "Set these back, or begin another run with run=..."
        )
    if found.state["data"] != dataset.fingerprint:
        raise ConfigError(
            f"resume: the data is not what {found.path} was trained on (files were added, removed or changed). Bring "
            "the old files back, or begin another run with run=..."
        )


def _desk(
    config: Config, folder: RunFolder, dataset: Dataset, processes: Processes, console: Console, start: Start
) -> Desk:
    text = dump(config)
    folder.write_config(text)
    tracker = Tracker(config.track, folder, processes, config.model_dump(mode="json"), start.wandb_id, console.warn)
    writer = checkpoint.Writer(
        folder.checkpoints, keep=config.save.keep, keep_every=config.save.keep_every, warn=console.warn
    )
    writer.last = start.checkpoint
    facts = {
        "processes": processes.count,
        "data": dataset.fingerprint,
        "image_shape": list(dataset.shape),
        "wandb": tracker.wandb_id,
        "versions": {"dist_gan": __version__, "torch": torch.__version__, "python": sys.version.split()[0]},
    }
    return Desk(folder, writer, tracker, text, facts)


def _show(
    config: Config, processes: Processes, networks: Networks, dataset: Dataset, console: Console, start: Start
) -> None:
    G, D = (sum(p.numel() for p in network.parameters()) for network in networks)
    shape = "x".join(map(str, dataset.shape))
    where = f", going on from {start.images_seen:,}" if start.images_seen else ""
    if start.images_seen and start.processes != processes.count:
        where += f" (saved on {start.processes} processes: equal to rounding, not to the bit)"
    share = config.batch_size // processes.count
    rows = [
        ("device", processes.describe()),
        (
            "world",
            f"{processes.count} process{'es' if processes.count > 1 else ''}, batch {config.batch_size}"
            f" = {processes.count} x {share}" + (f" in pieces of {config.piece}" if config.piece else ""),
        ),
        ("precision", config.precision),
        ("networks", f"{config.networks.name}: G {G:,} and D {D:,} parameters"),
        ("objective", " + ".join([config.objective.loss.name, *(p.name for p in config.objective.penalties)])),
        ("data", f"{config.data.name}: {len(dataset):,} images of {shape}"),
        ("images", f"{config.images:,}{where}"),
        ("run folder", config.run),
    ]
    console.table(f"dist_gan {__version__}", rows)


def _failed(error: Exception, rank: int, config: Config, begun: float) -> int:
    """Tell the first cause once, write it down, and choose the exit code."""
    code = next((code for kind, code in EXIT_CODES if isinstance(error, kind)), 1)
    if is_peer_failure(error):
        code = PEER_FAILED
        for _ in range(50):  # the rank that failed first says why; its peers only lost a connection
            status = RunFolder(Path(config.run)).read_status()
            if status.get("state") == "failed" and status["time"] > begun:
                return code
            time.sleep(0.1)
    if rank != 0 and getattr(error, "everywhere", False):
        time.sleep(1)  # rank 0 tells it: a launcher that sees this rank end first would end that one before it spoke
        return code
    if code == 1:
        traceback.print_exception(error)
    _tell(error, rank)
    folder: RunFolder | None = getattr(error, "folder", None)
    if folder is not None:
        folder.status("failed", reason=f"{type(error).__name__}: {error}", rank=rank, exit_code=code)
    return code


def _tell(error: Exception, rank: int = 0) -> None:
    where = f" (rank {rank})" if rank else ""
    print(f"dist_gan{where}: {error}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    code = main()
    if world()[1] > 1 or still_busy():
        leave(code)
    sys.exit(code)
