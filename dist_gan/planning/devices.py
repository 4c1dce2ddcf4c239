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
    """What updates were seen to reach on a device: the fit of `python benchmarks/scaling.py --fit` to measured ones."""

    operator: Mapping[bool, float]
    """Seconds in which the host starts one counted operator, without and with mixed precision."""
    flops: float
    """The part of the peak of arithmetic."""
    bytes: float
    """Counted bytes for each byte that the memory's bandwidth allows. They are counted as if nothing stayed in caches
    and all numbers had 32 bits, so that this may be more than 1."""


H100_SEEN = Reached({False: 1.0, True: 1.0}, 1.0, 1.0)
"""Fitted to the updates of benchmarks/results/gpu-nvidia-h100-80gb-hbm3.json."""


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

    def seconds(self, work: Work, precision: str, reached: Reached = H100_SEEN) -> tuple[float, str]:
        """Seconds of an update, and what they are bound by: the largest of three."""
        bounds = {
            "the host starts operators": work.operators * reached.operator[precision in MIXED],
            "arithmetic": work.flops / (self.teraflops[precision] * 1e12 * reached.flops),
            "memory": work.bytes / (self.bandwidth * reached.bytes),
        }
        bound = max(bounds, key=lambda name: bounds[name])
        return bounds[bound], bound


def _gpu(
    name: str, fp64: float, fp32: float, tf32: float, half: float, bandwidth: float, memory: float, link: Link, sheet: str
) -> Device:
    peaks = {"fp64": fp64, "fp32": fp32, "tf32": tf32, "bf16": half, "fp16": half}
    return Device(name, peaks, bandwidth * 1e9, memory * 1e9, link, f"NVIDIA's data sheet of the {sheet}")


def _nvlink(both_directions: float) -> Link:
    return Link(both_directions / 2 * 1e9, NCCL_STEPS["nvlink"])


DEVICES = {
    device.name: device
    for device in (
        _gpu("a100", 9.7, 19.5, 156, 312, 2039, 80, _nvlink(600), "A100 80GB SXM"),
        _gpu("h100", 34, 67, 494.5, 989.5, 3350, 80, _nvlink(900), "H100 SXM"),
        _gpu("h200", 34, 67, 494.5, 989.5, 4800, 141, _nvlink(900), "H200 SXM"),
        _gpu("l40s", 1.4, 91.6, 183, 362, 864, 48, Link(32e9, NCCL_STEPS["pcie"]), "L40S"),
    )
}
"""TFLOP/s of fp64 and fp32 without tensor cores, of tf32, bf16 and fp16 with them; GB/s of memory; GB."""


def device(name: str) -> Device:
    """The device of this name. Raises ConfigError."""
    if name not in DEVICES:
        near = difflib.get_close_matches(name, [*DEVICES, "here"], 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"gpu: expected here (this machine, measured) or one of {', '.join(DEVICES)}, got {name!r}{hint}")
    return DEVICES[name]
