"""What a checkpoint holds of the two players."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from dist_gan.distributed.processes import Processes
from dist_gan.distributed.shards import Owners
from dist_gan.distributed.traffic import purpose


class NetworkState:
    """A network's weights and buffers."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def state(self) -> dict[str, Tensor]:
        """By name."""
        return dict(self.network.state_dict())

    def load(self, state: Mapping[str, Tensor]) -> None:
        """In place."""
        self.network.load_state_dict(dict(state))


class OptimizerState:
    """The state of an optimizer, by parameter name; empty before the first move."""

    def __init__(self, optimizer: torch.optim.Optimizer, network: nn.Module, owners: Owners | None = None) -> None:
        """`owners`: those over which it is sharded."""
        self.optimizer = optimizer
        self.named = list(network.named_parameters())
        self.processes = owners.processes if owners else None

    def state(self) -> dict[str, Tensor]:
        """`parameter's name.moment's name` -> tensor. Where it is sharded, all processes must call it, the first one
        has all of it, on the CPU, and the others only their own."""
        own = {
            f"{name}.{key}": value
            for name, parameter in self.named
            for key, value in self.optimizer.state.get(parameter, {}).items()
            if isinstance(value, Tensor)
        }
        return own if self.processes is None else dict(_gathered(own, self.processes))

    def load(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `state`."""
        self.optimizer.state.clear()
        moved = {parameter for group in self.optimizer.param_groups for parameter in group["params"]}
        left = set(state)
        for name, parameter in self.named:
            prefix = f"{name}."
            own = {key.removeprefix(prefix): value for key, value in state.items() if _belongs(key, prefix)}
            left -= {prefix + key for key in own}
            if own and (self.processes is None or parameter in moved):
                self.optimizer.state[parameter] = {
                    # with the strides of the parameter, as fused kernels need
                    key: torch.empty_like(parameter, requires_grad=False).copy_(value)
                    if value.shape == parameter.shape and value.dim()
                    else value.to(parameter.device, copy=True)
                    for key, value in own.items()
                }
        if left:
            raise KeyError(f"{sorted(left)[0]} belongs to no parameter")


def _belongs(key: str, prefix: str) -> bool:
    """Whether `key` is this prefix and a moment's name, which has no dot."""
    return key.startswith(prefix) and "." not in key[len(prefix) :]


class ScalerState:
    """fp16's loss scale; empty where there is none."""

    def __init__(self, scaler: torch.amp.GradScaler | None) -> None:
        self.scaler = scaler

    def state(self) -> dict[str, Tensor]:
        """scale, growth_tracker."""
        if self.scaler is None:
            return {}
        own = self.scaler.state_dict()
        return {name: torch.tensor(float(own[name]), dtype=torch.float64) for name in ("scale", "_growth_tracker")}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `state`."""
        if self.scaler is not None and state:
            own = self.scaler.state_dict()
            own |= {"scale": state["scale"].item(), "_growth_tracker": int(state["_growth_tracker"])}
            self.scaler.load_state_dict(own)


def _gathered(own: Mapping[str, Tensor], processes: Processes) -> Iterator[tuple[str, Tensor]]:
    """What each process has, one tensor after the other, so that no device needs memory for all of it."""
    kinds = processes.gather({name: (tuple(tensor.shape), tensor.dtype) for name, tensor in own.items()})
    for rank, theirs in enumerate(kinds):
        for name, (shape, dtype) in theirs.items():
            sent = own[name].to(processes.device) if rank == processes.rank else None
            flat = torch.empty(shape, dtype=dtype, device=processes.device) if sent is None else sent.contiguous()
            with purpose("shards"):
                torch.distributed.broadcast(flat, rank)
            if processes.is_first:
                yield name, flat.cpu()
            elif sent is not None:
                yield name, own[name]
