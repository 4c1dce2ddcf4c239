"""Devices that are not there: peaks from data sheets, and what of a peak an update was seen to reach."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from dist_gan.errors import ConfigError
from dist_gan.planning.counting import Work
from dist_gan.planning.links import NCCL_STEPS, Link

MIXED = ("bf16", "fp16")
"""Precisions in which autocast adds operators."""


@dataclass(frozen=True)
class Reached:
    """What updates were seen to reach on a device: what `python benchmarks/gpu_fit.py --refit` makes of them."""

    operator: Mapping[bool, float]
    """Seconds in which the host starts one counted operator, without and with mixed precision."""
    graph: float
    """Seconds that the GPU itself needs for a counted operator at least: what is left where a graph starts them."""
    flops: float
    """The part of the peak of arithmetic."""
    bytes: float
    """Counted bytes for each byte that the memory's bandwidth allows. They are counted as if nothing stayed in caches
    and all numbers had 32 bits, so that this may be more than 1."""


H100_SEEN = Reached({False: 5.19e-5, True: 5.84e-5}, 4.07e-6, 0.201, 0.805)
"""Of an NVIDIA H100 80GB HBM3, torch 2.11, dist_gan 0.4.0: benchmarks/results/gpu-nvidia-h100-80gb-hbm3.json."""


@dataclass(frozen=True)
class Device:
    """A GPU's data sheet."""

    name: str
    teraflops: Mapping[str, float]
    """By precision, of dense products: without the factor of sparsity that data sheets like to include."""
    bandwidth: float
    """Of its memory, bytes per second."""
    memory: float
    """Bytes."""
    link: Link
    """To the other GPUs of its node, one direction."""
    source: str

    def seconds(
        self, work: Work, precision: str, *, graph: bool = False, reached: Reached = H100_SEEN
    ) -> tuple[float, str]:
        """Seconds of an update, and what they are bound by: the largest of three. `graph`: turns are repeated
        as CUDA graphs, so that the host starts no operators."""
        each = reached.graph if graph else reached.operator[precision in MIXED]
        bounds = {
            "the many small kernels" if graph else "starting operators": work.operators * each,
            "arithmetic": work.flops / (self.teraflops[precision] * 1e12 * reached.flops),
            "memory": work.bytes / (self.bandwidth * reached.bytes),
        }
        bound = max(bounds, key=lambda name: bounds[name])
        return bounds[bound], bound


def _sheet(name: str, part: str, teraflops: tuple[float, ...], gigabytes: tuple[float, float], link: Link) -> Device:
    """`teraflops`: in fp32, in tf32, in bf16 and fp16, and in fp64 where the sheet has it; `gigabytes`: of the memory's
    bandwidth in a second, of the memory."""
    fp32, tf32, half, *fp64 = teraflops
    peaks = {"fp32": fp32, "tf32": tf32, "bf16": half, "fp16": half} | ({"fp64": fp64[0]} if fp64 else {})
    bandwidth, memory = gigabytes
    return Device(name, peaks, 1e9 * bandwidth, 1e9 * memory, link, f"NVIDIA's data sheet of the {part}")


def _nvlink(both_directions: float) -> Link:
    """`both_directions`: gigabytes per second, as data sheets have it."""
    return Link(both_directions / 2 * 1e9, NCCL_STEPS["nvlink"])


DEVICES = {
    sheet.name: sheet
    for sheet in (
        _sheet("a100", "A100 80GB SXM", (19.5, 156, 312, 9.7), (2039, 80), _nvlink(600)),
        _sheet("h100", "H100 SXM", (67, 494.5, 989.5, 34), (3350, 80), _nvlink(900)),
        _sheet("h200", "H200 SXM", (67, 494.5, 989.5, 34), (4800, 141), _nvlink(900)),
        _sheet("l40s", "L40S", (91.6, 183, 362), (864, 48), Link(32e9, NCCL_STEPS["pcie"])),
    )
}
"""fp32 and fp64 without tensor cores; tf32, bf16 and fp16 with them."""


def device(name: str) -> Device:
    """The device of this name. Raises ConfigError."""
    if name not in DEVICES:
        near = difflib.get_close_matches(name, [*DEVICES, "here"], 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        there = ", ".join(DEVICES)
        raise ConfigError(f"gpu: expected here (this machine, measured) or one of {there}, got {name!r}{hint}")
    return DEVICES[name]
