"""The table of `doctor --plan`: what a run would reach on machines that may not be there, and how that is known."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from dist_gan.console import Console
from dist_gan.distributed.launch import check_launch, world
from dist_gan.distributed.processes import Processes
from dist_gan.errors import ConfigError
from dist_gan.formatting import duration, plural, size
from dist_gan.game.turn import Mover
from dist_gan.planning.asked import Asked, asked
from dist_gan.planning.counting import Arrival, Costs, count, moves
from dist_gan.planning.devices import DEVICES, Device
from dist_gan.planning.estimate import Prediction, memory, number_bytes, predicted, reduced_at_once
from dist_gan.planning.links import NCCL_STEPS, Host, Link, World
from dist_gan.planning.measuring import copy_bandwidth, host, measured
from dist_gan.run.build import used_speed

INSIDE_MACHINE = Link(float("inf"), 0.0)
"""gloo between processes of one machine: what it takes is all in `Host`."""
PCIE = Link(31.5e9, NCCL_STEPS["pcie"])
"""PCI Express 4.0 with 16 lanes, one direction (PCI-SIG). Assumed between GPUs that no data sheet here describes."""
LITTLE = 0.9
"""From this part of the memory on, little is left."""


@dataclass(frozen=True)
class Alone:
    """One process's update, and what it needs."""

    seconds: float
    arrivals: Mapping[Mover, Sequence[Arrival]]
    memory: float
    """Bytes."""
    stall: float
    """Seconds for which a checkpoint holds up training."""
    world: World
    repeated: bool
    """Whether turns are repeated as graphs, or compiled."""


def plan(arguments: Sequence[str], console: Console) -> int:
    """Print the table of what these arguments ask for; returns the exit code.

    Raises:
        ConfigError: see `asked`; the run could not be split so, or not run here; or this process is one of several.
    """
    if world()[1] > 1:
        raise ConfigError("--plan: one process plans for all. Start it by itself: python -m dist_gan.doctor --plan ...")
    own_gpu = torch.cuda.is_available()
    what = asked(arguments, by_nccl=own_gpu)
    config = what.config
    if mistakes := config.mistakes(what.count) + ([] if what.sheet else check_launch(config.precision, config.speed)):
        raise ConfigError("\n".join(mistakes))
    share = config.batch_size // what.count
    microbatches = share // config.used_microbatch if config.used_microbatch else 1
    parts = f" in {microbatches} microbatches of {config.used_microbatch}" if microbatches > 1 else ""
    exact = ", exact" if config.exact else ""
    where = f"{plural(what.nodes, 'node')} with {plural(what.gpus, 'process')} each"
    console.row("world", "ok", f"{where}, {'nccl' if what.sheet or own_gpu else 'gloo'}")
    split = f"batch {config.batch_size} = {what.count} x {share}{parts}"
    console.row("plan", "ok", f"{split}, {config.precision}{exact}, {config.networks.name}, {config.images:,} images")
    costs = count(config, Processes("fp32"))
    work = costs.work(share, microbatches)
    found = f"{work.flops / 1e9:,.3g} GFLOP, {size(work.bytes)} moved, {work.operators:,.0f} operators an update"
    console.row("work", "ok", f"{found} of a process (counted in fp32)")
    if what.sheet is None:
        alone = _measured(what, share, console)
    else:
        alone = _calculated(what, what.sheet, costs, share, microbatches, console)
    wire = number_bytes(config)
    at_once = reduced_at_once(config, repeated=alone.repeated)
    found_speed = predicted(
        config, alone.world, alone.seconds, alone.arrivals, moves(config), wire=wire, at_once=at_once
    )
    _wire(what, found_speed, alone.world, console, at_once=at_once)
    rate = found_speed.images_per_second
    whole = f"all {config.images:,} images in {duration(config.images / rate)}"
    console.row("speed", "ok", f"{rate:,.0f} images/s, {_time(found_speed.seconds)} an update: {whole} (calculated)")
    _memory(what, alone, costs, console)
    return 0


def _measured(what: Asked, share: int, console: Console) -> Alone:
    """This machine's own device, on which an update is timed."""
    config = what.config
    processes = Processes(config.precision, exact=config.exact)
    on_gpu = processes.device.type == "cuda"
    cores = len(os.sched_getaffinity(0))
    if not on_gpu and "OMP_NUM_THREADS" not in os.environ and not config.exact:
        torch.set_num_threads(max(1, cores // what.gpus))  # as launch/local.sh does it
    threads = torch.get_num_threads()
    found = measured(config, processes, share, reduces=what.count > 1)
    if on_gpu:
        name = torch.cuda.get_device_name(processes.device)
        sheet = next((one for one in DEVICES.values() if one.name in name.lower()), None)
        console.row("device", "ok", f"{name}: this machine's, and others like it")
        world = World(what.nodes, what.gpus, what.network or PCIE, sheet.link if sheet else PCIE, "nccl")
        shared = 1.0
    else:
        shared = max(1.0, what.gpus * threads / cores)
        each = f"{plural(what.gpus, 'process')} of {plural(threads, 'thread')}"
        console.row("device", "ok", f"a CPU with {plural(cores, 'core')} for {each}: this machine, and others like it")
        work = host() if what.count > 1 else Host()
        busy = what.gpus * threads >= cores
        world = World(what.nodes, what.gpus, what.network or INSIDE_MACHINE, INSIDE_MACHINE, "gloo", work, shared, busy)
    seconds = shared * found.seconds
    note = f", {shared:.2g} times that of a process alone, since they share cores" if shared > 1 else ""
    repeated = used_speed(config, processes)[0] != "eager"
    ddp = (
        ", with DDP and nobody to send to" if what.count > 1 and not reduced_at_once(config, repeated=repeated) else ""
    )
    console.row(
        "update", "ok", f"{_time(seconds)} of one process, of {plural(share, 'image')} (measured here{ddp}{note})"
    )
    return Alone(seconds, found.arrivals, found.peak, found.stall, world, repeated)


def _calculated(what: Asked, sheet: Device, costs: Costs, share: int, microbatches: int, console: Console) -> Alone:
    """A device that is not there."""
    config = what.config
    peak = sheet.teraflops[config.precision]
    facts = f"{peak:,g} TFLOP/s in {config.precision}, {size(sheet.bandwidth)}/s, {size(sheet.memory)}"
    console.row("device", "ok", f"{sheet.name}: {facts} ({sheet.source})")
    graph = config.speed in ("auto", "graph", "compile") and not config.only_eager()
    seconds, bound = sheet.seconds(costs.work(share, microbatches), config.precision, graph=graph)
    found = f"{_time(seconds)} of one process, of {plural(share, 'image')}{' as graphs' if graph else ''}"
    origin = "calculated from counts, the data sheet, and what an H100 was seen to reach"
    console.row("update", "ok", f"{found}: {bound} takes longest ({origin})")
    world = World(what.nodes, what.gpus, what.network or sheet.link, sheet.link, "nccl")
    weights = 4 * sum(costs.parameters.values())  # which every process has, sharded or not
    parts = (weights / costs.state_bytes * (what.count - 1) + 1) / what.count if config.shard else 1.0
    needs = memory(config, costs.state_bytes, max(costs.parameters.values()), costs.kept_bytes, share, parts=parts)
    return Alone(seconds, costs.arrivals, needs, costs.state_bytes / copy_bandwidth(), world, graph)


def _wire(what: Asked, found: Prediction, world: World, console: Console, *, at_once: bool) -> None:
    if world.count == 1:
        console.row("wire", "ok", "nothing: one process")
        return
    if what.network:
        latency = f"{_time(what.network.latency)} ({what.latency_from})"
        console.row("network", "ok", f"{size(what.network.bandwidth)}/s of a node in each direction, latency {latency}")
    if world.backend == "gloo":
        each = f"{_time(world.host.per_step)} a step, {1e9 * world.host.per_byte:.2g} s a GB"
        console.row("gloo", "ok", f"a reduction costs the processors {each} (measured here)")
    text = f"{size(found.wire_bytes)} sent by each process in an update take {_time(found.reductions)}"
    text += f", of which {_time(found.reductions - found.exposed)} behind the backward" if not at_once else ""
    share = f"; {found.wire_share:.1%} of an update waits for the wire, {found.efficiency:.1%} of the speed without it"
    if found.wire_share > 0.5:
        console.row("wire", "advice", f"{text}{share} (calculated): fewer processes, or a larger batch_size")
    else:
        console.row("wire", "ok", f"{text}{share} (calculated)")


def _memory(what: Asked, alone: Alone, costs: Costs, console: Console) -> None:
    """The rows of memory and checkpoints."""
    config = what.config
    if what.sheet is None:
        console.row("memory", "ok", f"{size(alone.memory)} at most in a process (measured here)")
    else:
        found = f"{size(alone.memory)} of {size(what.sheet.memory)} (counted: a rough figure)"
        little = alone.memory > LITTLE * what.sheet.memory
        more = ": perhaps too much; a smaller microbatch needs less" if little else ""
        console.row("memory", "advice" if little else "ok", found + more)
    how = "measured here" if what.sheet is None else "bytes by the bandwidth of this machine's memory"
    found = f"{size(costs.state_bytes)}, every {config.save.every:,} images"
    console.row("checkpoint", "ok", f"{found}; rank 0 stops for {_time(alone.stall)} ({how}); written meanwhile")


def _time(seconds: float) -> str:
    """Three digits: 1.23 s, 45.6 ms, 9.6 us."""
    scale, unit = (1.0, "s") if seconds >= 1 else (1e3, "ms") if seconds >= 1e-3 else (1e6, "us")
    return f"{scale * seconds:.3g} {unit}"
