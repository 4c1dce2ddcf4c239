"""What `doctor --plan` is asked: a config, and the machines on which it would run."""

from collections.abc import Sequence
from dataclasses import dataclass

from dist_gan.arguments import Text, Whole, read_options
from dist_gan.config.command_line import configured
from dist_gan.config.schema import Config
from dist_gan.errors import ConfigError
from dist_gan.planning.devices import DEVICES, Device, device
from dist_gan.planning.links import NCCL_STEPS, Link, bandwidth_of, seconds_of

HERE = "here"
"""The name of this machine's own device."""
OPTIONS = {
    "nodes": Whole(1, least=1, most=100_000),
    "gpus": Whole(1, least=1, most=1024),
    "gpu": Text(HERE, example="h200"),
    "network": Text(None, example="400gbit"),
    "latency": Text(None, example="5us"),
}
TCP_LATENCY = 1e-4
"""Seconds in one direction between two machines of one room by TCP: assumed where `latency` is not given."""


@dataclass(frozen=True)
class Asked:
    """A config and its machines."""

    config: Config
    """Without what only states how it was launched, so that the config that a run has written can be planned too."""
    nodes: int
    gpus: int
    """Processes on a node: one for each GPU, or as many on its cores."""
    sheet: Device | None
    """The device that is not there; None: this machine's."""
    network: Link | None
    """Between the nodes; None where there is one node."""
    latency_from: str
    """Where the latency of the network is known from."""

    @property
    def count(self) -> int:
        """All processes."""
        return self.nodes * self.gpus


def asked(arguments: Sequence[str], *, by_nccl: bool) -> Asked:
    """What `[CONFIG.yaml] [key=value ...]` asks for, with the plan's own keys among those of the config.

    Args:
        arguments: without `--plan`.
        by_nccl: whether this machine's own device is a GPU.

    Raises:
        ConfigError: of the config as in training; of the plan's keys; or the device's data sheet has no such precision.
    """
    own = [argument for argument in arguments if argument.partition("=")[0] in OPTIONS]
    options = read_options(own, OPTIONS)
    config = configured([argument for argument in arguments if argument not in own])
    config = config.model_copy(update={"processes": 0, "debug": False})
    nodes, gpus = options["nodes"], options["gpus"]
    sheet = None if options["gpu"] == HERE else device(options["gpu"])
    if sheet is not None and config.precision not in sheet.teraflops:
        there = ", ".join(name for name, one in DEVICES.items() if config.precision in one.teraflops)
        raise ConfigError(
            f"precision: the data sheet of {sheet.name} has no peak for {config.precision}. Set another precision, or "
            f"gpu= one of {there}"
        )
    if nodes == 1:
        if unused := [key for key in ("network", "latency") if options[key] is not None]:
            raise ConfigError(f"{unused[0]}: it is between nodes, and there is one. Set nodes=2, or leave it out")
        return Asked(config, nodes, gpus, sheet, None, "")
    if options["network"] is None:
        raise ConfigError(
            f"network: {nodes} nodes need one. Give the bits per second of a node, all its adapters together, such as "
            "network=400gbit"
        )
    if options["latency"] is not None:
        latency, where = seconds_of("latency", options["latency"]), "given"
    elif by_nccl or sheet is not None:
        latency, where = NCCL_STEPS["network"], "NCCL's own model"
    else:
        latency, where = TCP_LATENCY, "assumed; half of what ping says is better: latency=..."
    return Asked(config, nodes, gpus, sheet, Link(bandwidth_of(options["network"]), latency), where)
