"""Train a GAN: `accelerate launch dist_gan/train.py [CONFIG.yaml] [dotted.key=value ...]` (see `--help`)."""

import os
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

if __name__ == "__main__" and not __package__:
    # `python dist_gan/train.py` puts dist_gan/ itself first: its modules would hide others of the same name
    sys.path[0] = str(Path(__file__).resolve().parents[1])
# Peers and launchers that die are told in a line; torch's own, a stack in C++ for each, comes down to this.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

import torch

from dist_gan import __version__
from dist_gan.run import checkpoint
from dist_gan.run import debug
from dist_gan.config.command_line import configured, dump, help_text
from dist_gan.config.schema import Config
from dist_gan.console import Console, duration
from dist_gan.data import Dataset
from dist_gan.run.failures import failed, hung, its_status, let_rank_0_speak, tell
from dist_gan.game.game import Game
from dist_gan.part import ConfigError
from dist_gan.distributed.processes import Processes, check_launch, leave, world
from dist_gan.run.folder import RunFolder
from dist_gan.run.start import Start, begin, game_of, stream_of
from dist_gan.run.tracker import Tracker, still_busy
from dist_gan.run.trainer import Cadence, Desk, Trainer
from dist_gan.distributed.watchdog import Watchdog

SLACK = 5
"""Seconds that a collective may take longer than a run may stand still: so that the watchdog, which names, is first."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Train as the command line says; returns the exit code (README: "Exit codes")."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    rank, count = world()
    if {"-h", "--help"} & set(arguments):
        if rank == 0:
            print(help_text())
        return 0
    try:
        config = configured([a for a in arguments if a != "--print-config"])
        if "--print-config" in arguments:
            if rank == 0:
                print(dump(config), end="")
            return 0
        if mistakes := config.mistakes(count) + check_launch(config.precision):
            raise ConfigError("\n".join(mistakes))
    except ConfigError as error:
        if rank == 0:
            tell(error)
        else:
            let_rank_0_speak()
        return 2
    begun = time.time()
    try:
        return train_in_debug(config) if config.debug else train(config)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        return failed(error, rank, Path(config.run), begun)


def train(config: Config, watch: debug.Checks | None = None) -> int:
    """One run from its start (or resume) to its end. Returns 0 when it ended in good order, else raises."""
    begun = time.time()
    processes = Processes(config.precision, exact=config.exact, timeout_seconds=config.timeout + SLACK)
    processes.listen()
    console = Console(speaks=processes.is_first, style=config.console)
    for warning in config.unwise() + processes.unwise(config.precision):
        console.warn(warning)
    dataset = processes.together(lambda: config.data.open(processes.device))
    stream = processes.together(lambda: stream_of(config, processes, dataset))
    folder = RunFolder(Path(config.run))
    try:
        found = processes.together(
            lambda: begin(config, folder, dataset.fingerprint, console.warn) if processes.is_first else None
        )
        start = processes.share(found)
        assert start is not None
        watchdog = Watchdog(
            processes,
            config.timeout,
            lambda reason, speaks: hung(folder, processes.rank, begun, reason, speaks),
            folder.lock_file if processes.is_first else None,
        )
        with its_status(folder), watchdog.watching():
            if start.images_seen < config.images:
                game = game_of(config, processes, dataset, watch)
                _restore(game, start, processes, watch)
                desk = _desk(config, folder, dataset, processes, console, start) if processes.is_first else None
                _show(config, processes, game, dataset, console, start)
                every = config.track.every, config.sample.every, config.save.every
                cadence = Cadence(config.images, *every, grid=config.sample.count)
                with desk.tracker if desk else nullcontext():
                    Trainer(game, stream.batches, processes, cadence, console, desk).run()
                    processes.close()  # before the tracker: nobody waits for a service
            else:
                console.say(f"{config.run} has seen all of its {config.images:,} images. Ask for more with images=...")
                processes.close()
    finally:
        folder.release()
    return 0


def train_in_debug(config: Config) -> int:
    """A few updates, a checkpoint, a resume from it, a few more: everything once, everything checked."""
    begun = time.perf_counter()
    debug.watch_everything()
    half, whole = (debug.shortened(config, updates) for updates in (debug.UPDATES // 2, debug.UPDATES))
    debug.clear(Path(half.run))
    checks = debug.Checks()
    for part in (half, whole):
        train(part, watch=checks)
    seconds = time.perf_counter() - begun
    print(f"debug: {checks.passed:,} checks passed, everything written and read once, in {duration(seconds)}")
    return 0


def _restore(game: Game, start: Start, processes: Processes, watch: debug.Checks | None) -> None:
    if (path := start.checkpoint) is not None:
        restored = processes.together(lambda: checkpoint.read(path))
        game.load(restored.tensors, restored.state)
        if watch:
            debug.check_restored(game, restored)


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


def _show(config: Config, processes: Processes, game: Game, dataset: Dataset, console: Console, start: Start) -> None:
    G, D = (sum(p.numel() for p in player.parameters) for player in (game.generator, game.discriminator))
    shape = "x".join(map(str, dataset.shape))
    where = f", going on from {start.images_seen:,}" if start.images_seen else ""
    if start.images_seen and start.processes != processes.count and not config.exact:
        where += f" (saved on {start.processes} processes: equal to rounding, not to the bit)"
    share = config.batch_size // processes.count
    rows = [
        ("device", processes.describe()),
        (
            "world",
            f"{processes.count} process{'es' if processes.count > 1 else ''}, batch {config.batch_size}"
            f" = {processes.count} x {share}" + (f" in pieces of {config.unit}" if config.unit else ""),
        ),
        ("precision", config.precision + (", exact" if config.exact else "")),
        ("networks", f"{config.networks.name}: G {G:,} and D {D:,} parameters"),
        ("objective", " + ".join([config.objective.loss.name, *(p.name for p in config.objective.penalties)])),
        ("data", f"{config.data.name}: {len(dataset):,} images of {shape}"),
        ("images", f"{config.images:,}{where}"),
        ("run folder", config.run),
    ]
    console.table(f"dist_gan {__version__}", rows)


if __name__ == "__main__":
    code = main()
    if code or world()[1] > 1 or still_busy():  # what has failed may leave threads that would complain at the exit
        checkpoint.finish_save()
        leave(code)
    sys.exit(code)
