"""Opening feature networks on all processes: with the same weights everywhere, or nowhere."""

from collections.abc import Callable, Iterable
from functools import partial

from dist_gan.data.source import READING, Progress
from dist_gan.distributed.processes import Processes
from dist_gan.errors import FeaturesMissing
from dist_gan.metrics.features import FeatureNetwork, Features


def open_networks(
    wanted: Iterable[Features],
    processes: Processes,
    missing: Callable[[str], None] | None = None,
    progress: Progress = READING.progress,
) -> dict[Features, FeatureNetwork]:
    """The networks of `wanted`, in eval mode on this process's device; on all ranks with the weights of rank 0.

    Rank 0 opens each first: what it downloads or trains is there for the others.

    Args:
        wanted: the same on all ranks.
        processes: this process among the others.
        missing: called with the message where there are no weights on some rank, and the network is left out on all;
            None: that is an error.
        progress: called where it takes long.

    Raises:
        FeaturesMissing, ConfigError: on all ranks alike.
    """
    found: dict[Features, FeatureNetwork] = {}
    for features in dict.fromkeys(wanted):
        try:
            way = partial(features.open_and_report, processes.device, progress) if processes.is_first else _nothing
            first = processes.on_all_ranks(way)
            network = processes.on_all_ranks(partial(_opened, features, processes, first))
        except FeaturesMissing as error:
            if missing is None:
                raise
            missing(str(error))
            continue
        found[features] = _alike(network, processes).requires_grad_(False).eval()
    return found


def _nothing() -> None:
    pass


def _opened(features: Features, processes: Processes, already: FeatureNetwork | None) -> FeatureNetwork:
    return already or features.open(processes.device)


def _alike(network: FeatureNetwork, processes: Processes) -> FeatureNetwork:
    """With rank 0's weights, where others have some of their own: a network that was trained on another kind of CPU."""
    digests = processes.gather(network.sha256)
    if len(set(digests)) > 1:
        state = {name: tensor.cpu() for name, tensor in network.state_dict().items()}
        network.load_state_dict(processes.broadcast(state))
        network.sha256 = digests[0]
    return network
