"""The table of `doctor --plan`: what a run would reach on machines that may not be there, and how that is known."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from dist_gan.console import Console
from dist_gan.distributed.launch import check_launch, has_gpu, world
from dist_gan.distributed.processes import Processes
from dist_gan.errors import ConfigError
from dist_gan.formatting import duration, plural, size
from dist_gan.game.turn import Mover
from dist_gan.planning.asked import Asked, asked
from dist_gan.planning.cadence import moves
from dist_gan.planning.counting import Arrival, Costs, Work, count
from dist_gan.planning.devices import DEVICES, Device
from dist_gan.planning.estimate import Prediction, memory, number_bytes, predicted, reduced_at_once
from dist_gan.planning.links import NCCL_STEPS, Host, Link, World
from dist_gan.planning.measuring import Measured, copy_bandwidth, host, measured

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
    stall: float
    """Seconds for which a checkpoint holds up training."""
    world: World
    repeated: bool
    """Whether turns are repeated, as graphs or compiled: their gradients are reduced in one piece."""


def plan(arguments: Sequence[str], console: Console) -> int:
    """Print the table of what these arguments ask for; returns the exit code.

    Raises:
        ConfigError: see `asked`; the run could not be split so, or not run here; or this process is one of several.
    """
    if world()[1] > 1:
        raise ConfigError("--plan: one process plans for all. Start it by itself: python -m dist_gan.doctor --plan ...")
    what = asked(arguments, by_nccl=has_gpu())
    config = what.config
    if mistakes := config.mistakes(what.count) + ([] if what.sheet else check_launch(config.precision, config.speed)):
        raise ConfigError("\n".join(mistakes))
    share = config.batch_size // what.count
    microbatches = share // config.used_microbatch if config.used_microbatch else 1
    parts = f" in {microbatches} microbatches of {config.used_microbatch}" if microbatches > 1 else ""
    exact = ", exact" if config.exact else ""
    where = f"{plural(what.nodes, 'node')} with {plural(what.gpus, 'process')} each"
    console.row("world", "ok", f"{where}, {'nccl' if what.sheet or has_gpu() else 'gloo'}")
    split = f"batch {config.batch_size} = {what.count} x {share}{parts}"
    console.row("plan", "ok", f"{split}, {config.precision}{exact}, {config.networks.name}, {config.images:,} images")
    # Before anything is counted: the memory that counting takes would be in what is seen.
    found = None if what.sheet else _timed_here(what, share)
    counted_in = "fp64" if config.precision == "fp64" else "fp32"
    costs = count(config, Processes(counted_in), what.count)
    work = costs.work(share, microbatches)
    numbers = f"{work.flops / 1e9:,.3g} GFLOP, {size(work.bytes)} moved, {work.operators:,.0f} operators an update"
    console.row("work", "ok", f"{numbers} of a process (counted in {counted_in})")
    if what.sheet:
        alone = _calculated(what, what.sheet, costs, work, share, console)
    else:
        assert found is not None
        alone = _measured(what, found, share, console)
    wire = number_bytes(config)
    at_once = reduced_at_once(config, repeated=alone.repeated)
    speed = predicted(config, alone.world, alone.seconds, alone.arrivals, moves(config), wire=wire, at_once=at_once)
    _wire(what, speed, alone.world, console, at_once=at_once)
    rate = float(f"{speed.images_per_second:.3g}")
    seen = " that D sees" if config.discriminator_turns > 1 else ""
    whole = f"all {config.images:,} images in about {duration(config.images / rate)}"
    pace = f"{rate:,.{0 if rate >= 100 else 1}f} images/s{seen}, {_time(speed.seconds)} an update"
    console.row("speed", "ok", f"{pace}: {whole} (calculated)")
    if what.sheet:
        _memory_of_a_sheet(what, what.sheet, costs, share, console)
    else:
        assert found is not None
        _memory_here(costs, found, console)
    how = "bytes by the bandwidth of this machine's memory" if what.sheet else "measured here"
    state = f"{size(found.state_bytes if found else costs.state_bytes)}, every {config.save.every:,} images"
    console.row("checkpoint", "ok", f"{state}; rank 0 stops for {_time(alone.stall)} ({how}); written meanwhile")
    return 0


def _timed_here(what: Asked, share: int) -> Measured:
    """An update on this machine's own device."""
    config = what.config
    processes = Processes(config.precision, exact=config.exact)
    if not has_gpu() and "OMP_NUM_THREADS" not in os.environ and not config.exact:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // what.gpus))  # as launch/local.sh does it
    return measured(config, processes, share, reduces=what.count > 1)


def _measured(what: Asked, found: Measured, share: int, console: Console) -> Alone:
    """This machine's own device, on which an update was timed."""
    cores, threads = len(os.sched_getaffinity(0)), torch.get_num_threads()
    if has_gpu():
        name = torch.cuda.get_device_name()
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
    at_once = reduced_at_once(what.config, repeated=found.repeated)
    ddp = "" if what.count == 1 or at_once else ", with DDP and nobody to send to"
    console.row(
        "update", "ok", f"{_time(seconds)} of one process, of {plural(share, 'image')} (measured here{ddp}{note})"
    )
    return Alone(seconds, found.arrivals, found.stall, world, found.repeated)


def _calculated(what: Asked, sheet: Device, costs: Costs, work: Work, share: int, console: Console) -> Alone:
    """A device that is not there. What `compile` saves is not known: the host starts operators, as if it were eager."""
    config = what.config
    peak = sheet.teraflops[config.precision]
    facts = f"{peak:,g} TFLOP/s in {config.precision}, {size(sheet.bandwidth)}/s, {size(sheet.memory)}"
    console.row("device", "ok", f"{sheet.name}: {facts} ({sheet.source})")
    graph = config.speed in ("auto", "graph") and not config.only_eager()
    compiled = config.speed == "compile"
    seconds, bound = sheet.seconds(work, config.precision, graph=graph)
    how = " as graphs" if graph else ", as slow as if it were not compiled" if compiled else ""
    found = f"{_time(seconds)} of one process, of {plural(share, 'image')}{how}"
    origin = "calculated from counts, the data sheet, and what an H100 was seen to reach"
    console.row("update", "ok", f"{found}; longest: {bound} ({origin})")
    world = World(what.nodes, what.gpus, what.network or sheet.link, sheet.link, "nccl")
    return Alone(seconds, costs.arrivals, costs.state_bytes / copy_bandwidth(), world, graph or compiled)


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
    text += f"; {found.wire_share:.0%} of an update waits for the wire, {found.efficiency:.0%} of the speed without it"
    text += " (calculated)" if world.backend == "gloo" else " (calculated; never checked on several GPUs)"
    if found.wire_share > 0.5:
        console.row("wire", "advice", f"{text}: fewer processes, or a larger batch_size")
    else:
        console.row("wire", "ok", text)


def _memory_of_a_sheet(what: Asked, sheet: Device, costs: Costs, share: int, console: Console) -> None:
    config, numbers = what.config, max(costs.parameters.values())
    least, needs = (
        memory(config, costs.own_bytes, numbers, costs.kept(images), share)
        for images in (config.batch_multiple, config.used_microbatch or share)
    )
    found = f"{size(needs)} of {size(sheet.memory)} (counted: a rough figure)"
    most = LITTLE * sheet.memory
    if needs <= most:
        console.row("memory", "ok", found)
    elif least <= most:
        console.row("memory", "advice", f"{found}: perhaps too much; a smaller microbatch needs less")
    else:
        may_shard = what.count > 1 and not config.shard
        advice = "shard=true or smaller networks need less" if may_shard else "smaller networks need less"
        text = f"{found}: perhaps too much, {size(least)} with the smallest microbatch; {advice}"
        console.row("memory", "advice", text)


def _memory_here(costs: Costs, found: Measured, console: Console) -> None:
    """What was measured has all of the state."""
    others = found.state_bytes - costs.own_bytes
    less = f", less {size(others)} of state that only other processes keep" if others > 0 else ""
    console.row("memory", "ok", f"{size(found.peak - max(0, others))} at most in a process (measured here{less})")


def _time(seconds: float) -> str:
    """Three digits: 1.23 s, 45.6 ms, 9.6 us."""
    scale, unit = (1.0, "s") if seconds >= 1 else (1e3, "ms") if seconds >= 1e-3 else (1e6, "us")
    return f"{scale * seconds:.3g} {unit}"
