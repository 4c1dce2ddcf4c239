"""Would this run work, and how fast? `python -m dist_gan.doctor [CONFIG.yaml] [dotted.key=value ...]`, in seconds."""

import os
import re
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__" and not __package__:
    # `python dist_gan/doctor.py` puts dist_gan/ itself first: its modules would hide others of the same name
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from dist_gan import __version__
from dist_gan.checkup import Checkup, Line, Mark, Problem, disk, images, machine, rehearsal, services
from dist_gan.config.command_line import configured, dump
from dist_gan.config.schema import Config
from dist_gan.console import Console
from dist_gan.data import Folder
from dist_gan.distributed.launch import check_launch, is_peer_failure, launch_plainly, leave, world
from dist_gan.distributed.processes import Processes
from dist_gan.errors import INTERRUPTED, ConfigError
from dist_gan.planning.plan import plan
from dist_gan.run.failures import let_rank_0_report, report
from dist_gan.run.folder import RunFolder

PLAN = "--plan"
USAGE = """usage: python -m dist_gan.doctor [CONFIG.yaml] [dotted.key=value ...]
       accelerate launch [OPTIONS] -m dist_gan.doctor [CONFIG.yaml] [dotted.key=value ...]
       launch/local.sh [-n N] --doctor ...     launch/multi_node.sh ... --doctor ...
       python -m dist_gan.doctor --plan [CONFIG.yaml] [nodes=8 gpus=8 gpu=h200 network=400gbit] [dotted.key=value ...]

Has the arguments and the launcher of training, and reports line by line whether that run would work and how fast.
It trains nothing, downloads nothing, and leaves nothing behind. Exit code: 0 it would work, 2 it would not.

--plan: what a run would reach on machines that are not there, and how each number is known (docs/scaling.md).
  nodes=1        machines
  gpus=1         processes on each, one for each GPU; without a GPU, processes on its cores
  gpu=here       this machine's device, on which an update is timed; or a100, h100, h200, l40s by their data sheets
  network=       bits per second of a node to the others, all adapters together: 10gbit, 400gbit
  latency=       of that network, in one direction: 5us, 0.1ms
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Examine the run that the command line describes; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    rank, _ = world()
    console = Console(speaks=rank == 0)
    if {"-h", "--help"} & set(arguments):
        console.say(USAGE.rstrip())
        return 0
    console.say(f"dist_gan {__version__}, doctor: {' '.join(arguments) or 'the default config'}\n")
    if PLAN in arguments:
        return _plan_ahead([argument for argument in arguments if argument != PLAN], console)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # training shows torch's warnings again; here they would break the table
            return examine(arguments, console)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        if is_peer_failure(error):
            reason = re.sub(r"^\[.*?\] ", "", str(error).partition("\n")[0]).partition(". ")[0]
            console.row("world", "problem", f"another process ended or cannot be reached ({reason})")
            console.say("\nThis run would fail. The other process reports its cause itself.")
            if rank and getattr(error, "reports", False):
                report(error, rank)
        else:
            traceback.print_exception(error)
            report(error, rank)
        return 2


def _plan_ahead(arguments: Sequence[str], console: Console) -> int:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return plan(arguments, console)
    except KeyboardInterrupt:
        return INTERRUPTED
    except ConfigError as error:
        if world()[0]:
            let_rank_0_report()
        else:
            print(f"dist_gan.doctor: {error}", file=sys.stderr)
        return error.exit_code
    except (RuntimeError, MemoryError) as error:
        if not rehearsal.is_memory(error):
            raise
        advice = "Plan with a smaller batch_size, more processes, or smaller networks"
        lacks = "this machine has not enough memory for an update of one process"
        print(f"dist_gan.doctor: {lacks}. {advice}", file=sys.stderr)
        return 2


def examine(arguments: Sequence[str], console: Console) -> int:
    """All lines, then what to do. Called by all ranks."""
    config, mistake, refused = _read(arguments)
    count = world()[1]
    precision = config.precision if config and not refused else "fp32"
    launch_plainly()  # what is refused is reported below, and the rest can be examined without it
    timeout = config.timeout if config else 600
    processes = Processes(precision, exact=bool(config and config.exact), timeout_seconds=timeout)
    every = processes.gather(dict(machine.facts(processes, dump(config) if config else "")))
    hosts = [facts["host"] for facts in every]
    here = hosts.count(hosts[processes.rank])
    checkup = Checkup(processes, hosts, console)

    found = machine.world(every, processes)
    if len({facts["code"] for facts in every}) > 1:  # other code may communicate in another way
        if not processes.is_first:
            let_rank_0_report()
            return 2
        checkup.part()
        processes = checkup.processes
    checkup.look("world", lambda: (_problem_raised(found), None))
    checkup.look("packages", lambda: (machine.packages(config), None))
    checkup.look("device", lambda: (machine.device(processes, here), None))
    checkup.look("config", lambda: (_valid(config, mistake), None))
    if config is not None and "config" in checkup.has:
        _examine_run(config, refused, checkup, here, count)
    if job := os.environ.get("SLURM_JOB_ID"):
        checkup.look_on_rank_0("SLURM", lambda: services.slurm(job))
    if processes.is_first:
        _conclude(checkup, console)
    if processes.count > 1:
        processes.close()
    return 2 if checkup.verdict is Mark.PROBLEM else 0


def _examine_run(config: Config, refused: list[str], checkup: Checkup, here: int, count: int) -> None:
    processes = checkup.processes
    folder = RunFolder(Path(config.run))
    checkup.look("plan", lambda: (_plan(config, refused, processes, count), None))
    stream = checkup.look("data", lambda: rehearsal.opened(config, processes), ["plan", "world"])
    data = stream.dataset.fingerprint if stream else None
    if processes.count > 1:
        prints = processes.gather(data)
        checkup.look_on_rank_0("same data", lambda: _same(prints, checkup.hosts))
    if isinstance(folder_of_images := config.data, Folder):
        checkup.look_on_rank_0("images", lambda: images.images(config, folder_of_images), ["data"])
    trial = checkup.look("memory", lambda: rehearsal.memory(config, processes, stream, here), ["plan", "world"])
    gradients = trial.gradients if trial else 0
    reduction = 0.0
    if count > 1:
        reduction = checkup.measure("all-reduce", lambda: machine.all_reduce(processes, gradients), ["world"]) or 0.0

    with disk.beacon(folder, first=processes.is_first) as path:
        shown = processes.broadcast(path)
        checkup.look_on_rank_0("run folder", lambda: disk.usable(folder))
        if processes.count > 1:
            checkup.look("shared", lambda: (disk.sees(shown, first=processes.is_first), None), ["run folder"])
    begun = checkup.look(
        "start",
        lambda: disk.beginning(config, folder, data) if processes.is_first else (Line(""), None),
        ["run folder"],
    )
    if trial:
        checkup.look_on_rank_0("room", lambda: disk.room(config, folder, trial.checkpoint), ["run folder"])
    first = processes.broadcast(begun.images_seen if begun else 0)

    rate: float | None = None
    if trial:
        rate = checkup.measure("speed", lambda: rehearsal.speed(config, processes, trial, first, reduction))
    if stream:
        checkup.look("reading", lambda: (rehearsal.reading(config, processes, stream, rate or 0.0), None))
    checkup.look_on_rank_0("W&B", lambda: services.wandb(config.track, folder))


def _read(arguments: Sequence[str]) -> tuple[Config | None, ConfigError | None, list[str]]:
    """(the config, why there is none, what this launch cannot do)"""
    try:
        config = configured(arguments)
    except ConfigError as error:
        return None, error, []
    return config, None, check_launch(config.precision, config.speed)


def _problem_raised(line: Line) -> Line:
    if line.mark is Mark.PROBLEM:
        raise Problem(line.found, line.advice)
    return line


def _valid(config: Config | None, mistake: ConfigError | None) -> Line:
    if config is None:
        mistakes = str(mistake).splitlines()
        raise Problem(f"{len(mistakes)} mistake{'s' if len(mistakes) > 1 else ''}", "\n".join(mistakes))
    if unwise := config.unwise():
        return Line("valid, but most likely not what was meant", Mark.ADVICE, "\n".join(unwise))
    return Line("valid")


def _plan(config: Config, refused: list[str], processes: Processes, count: int) -> Line:
    if mistakes := config.mistakes(count) + refused:
        raise Problem(f"{len(mistakes)} mistake{'s' if len(mistakes) > 1 else ''}", "\n".join(mistakes))
    microbatches = f" in microbatches of {config.used_microbatch}" if config.used_microbatch else ""
    found = f"batch {config.batch_size} = {count} x {config.batch_size // count}{microbatches}, {config.precision}"
    found += f"{', exact' if config.exact else ''}, {config.networks.name}, {config.images:,} images"
    if unwise := processes.unwise(config.precision):
        return Line(found, Mark.ADVICE, "\n".join(unwise))
    return Line(found)


def _same(prints: Sequence[str | None], hosts: Sequence[str]) -> Line:
    others = [hosts[rank] for rank, seen in enumerate(prints) if seen and prints[0] and seen != prints[0]]
    if not others:
        return Line("")
    return Line(
        f"the data on {', '.join(dict.fromkeys(others))} is not rank 0's",
        Mark.PROBLEM,
        "copy it again, or let all nodes read it from one place",
    )


def _conclude(checkup: Checkup, console: Console) -> None:
    noted = {name: line for name, line in checkup.lines.items() if line.mark >= Mark.ADVICE}
    if noted:
        console.say("\nWhat to do")
    for name, line in noted.items():
        console.row(name, "", line.advice)
    problems = sum(line.mark is Mark.PROBLEM for line in noted.values())
    advice = len(noted) - problems
    if problems:
        console.say(f"\nThis run would fail: {problems} problem{'s' if problems > 1 else ''}.")
    else:
        console.say("\nThis run would work." + (" It could be better: see above." if advice else ""))


if __name__ == "__main__":
    leave(main())
