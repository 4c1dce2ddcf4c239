"""A turn is a function of tensors: inside it nothing is read back to the host, which would make a GPU wait."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from dist_gan.distributed.processes import Processes
from dist_gan.game.game import Game
from dist_gan.game.meter import Meter
from dist_gan.networks.r3gan import R3GAN
from dist_gan.objective.ada import ADA
from dist_gan.objective.objective import Objective, Terms
from dist_gan.objective.penalties import R1, WGANGP
from dist_gan.optim.ema import EMA
from dist_gan.optim.factors import LayerFactor
from dist_gan.optim.optimizers import SGD, Adam, AdamW
from dist_gan.optim.schedules import Cosine
from tests.support import doors, own_parts, tiny

METHODS = [
    getattr(Tensor, name)
    for name in ("item", "tolist", "numpy", "cpu", "__bool__", "__int__", "__float__", "__index__", "__array__")
]
OPERATORS = {"_local_scalar_dense", "item", "equal", "is_nonzero", "nonzero", "masked_select", "_unique2"}
EVERY = 2 * tiny.BATCH
PATHS = Objective.model_construct(penalties=(R1(every=EVERY), own_parts.PathLength(every=EVERY)))
SLOWER = Cosine(end=3 * tiny.BATCH, final=0.1)
FACTORS = (LayerFactor(pattern="*.bias", factor=0.5),)
CASES: dict[str, dict[str, Any]] = {
    "mlp, dropout, clip": {"recipe": tiny.MLP_DROPOUT},
    "dcgan, all penalties": {"recipe": tiny.DCGAN_TINY, "data": tiny.DATA_16, "objective": tiny.PENALISED},
    "lazy penalties": {"objective": Objective(penalties=(R1(every=EVERY), WGANGP(every=EVERY)))},
    "penalties alone": {"objective": Objective.model_construct(penalties=doors.ALONE)},
    "differences": {"objective": Objective(penalties=doors.DIFFERENCES)},
    "followers": {"objective": PATHS, "augment": own_parts.Controlled()},
    "ada by feedback": {"augment": ADA(pipe="bgcfnc", strength=0.5, every=EVERY)},
    "ada by a schedule": {"augment": doors.SCHEDULED_ADA, "objective": tiny.PENALISED},
    "r3gan": {"recipe": R3GAN(latent=6, width=8, group=4), "data": tiny.DATA_16, "objective": tiny.PENALISED},
    "spectral": {"recipe": own_parts.Spectral()},
    "stylegan2": {"recipe": tiny.STYLEGAN2_TINY, "objective": doors.STYLES},
    "labels": {"recipe": tiny.MLP_DROPOUT.model_copy(update={"conditional": True})},
    "adamw": {"optimizer": AdamW(clip=1)},
    "sgd": {"optimizer": SGD(momentum=0.9, nesterov=True, weight_decay=0.1, clip=1)},
    "two averages": {"ema": [EMA(), EMA(half_life_images=500, ramp=0, schedule=SLOWER)]},
    "beta2 schedule": {"optimizer": Adam(beta2_schedule=SLOWER, schedule=SLOWER, clip=1)},
    "beta2 schedule, weight decay": {"optimizer": AdamW(beta2_schedule=SLOWER, factors=FACTORS)},
    "factors": {"optimizer": Adam(factors=FACTORS, schedule=SLOWER)},
    "factors, rmsprop": {"optimizer": own_parts.RMSProp(factors=FACTORS)},
    "rmsprop": {"optimizer": own_parts.RMSProp(clip=1)},
    "microbatches": {"microbatch": tiny.BATCH // 4},
}


class ReadBack(Exception):
    """The host was about to wait for a tensor."""


class _Functions(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in METHODS:
            raise ReadBack(func)
        return func(*args, **(kwargs or {}))


class _Operators(TorchDispatchMode):
    """What C++ code and torch's own Python ask for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        chosen = args[1] if func._opname in ("index", "index_put_") else ()
        if func._opname in OPERATORS or any(mask is not None and mask.dtype == torch.bool for mask in chosen):
            raise ReadBack(func)
        return func(*args, **(kwargs or {}))


@contextmanager
def no_read_back() -> Iterator[None]:
    with _Functions(), _Operators():
        yield


@contextmanager
def no_synchronization() -> Iterator[None]:
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def play(processes: Processes, options: dict[str, Any], watched: Callable[[], AbstractContextManager[None]]) -> Game:
    """Updates whose turns and averages are watched, all but the first, in which the networks' purity is read."""
    data = options.get("data", tiny.DATA)
    exact = {"microbatch": 16} if processes.exact else {}
    game = tiny.play(tiny.game(processes, **{**exact, **options}), 1, data)
    batches = tiny.batches(processes, game.images_seen, data)
    taken = [next(batches) for _ in range(3)]
    for batch in taken:  # with a lazy penalty: one with it and two without
        with watched():
            game.update(iter([batch]))
    return game


@pytest.mark.parametrize("exact", [False, True], ids=["fp32", "exact"])
@pytest.mark.parametrize("name", CASES)
def test_an_update_reads_nothing_back(name: str, exact: bool) -> None:
    game = play(Processes(exact=exact), CASES[name], no_read_back)
    assert game.meter.read()["D/skipped"] == 0
    assert game.images_seen == 4 * tiny.BATCH


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU (make gpu)")
@pytest.mark.parametrize("name", CASES)
def test_an_update_never_makes_a_gpu_wait(name: str) -> None:
    assert play(Processes(), CASES[name], no_synchronization).meter.read()["D/skipped"] == 0


def _item(values: Tensor) -> object:
    return values[0].item()


READS: list[Callable[[Tensor], object]] = [
    _item,
    Tensor.tolist,
    lambda values: bool(values[0] > 0),
    lambda values: float(values[0]),
    lambda values: values.detach().numpy(),
    lambda values: torch.equal(values, values),
    lambda values: values[values > 0],
    lambda values: torch.clamp(values, max=values.amax().item()),
    lambda values: values.cpu(),
]


@pytest.mark.parametrize("read", READS)
def test_what_reads_back_is_noticed(
    read: Callable[[Tensor], object], monkeypatch: pytest.MonkeyPatch, processes: Processes
) -> None:
    add = Meter.add

    def reading(self: Meter, player: str, terms: Terms) -> None:
        if self.armed:  # type: ignore[attr-defined]  # by this test
            read(terms.fake)
        add(self, player, terms)

    monkeypatch.setattr(Meter, "add", reading)
    monkeypatch.setattr(Meter, "armed", False, raising=False)

    @contextmanager
    def watched() -> Iterator[None]:
        monkeypatch.setattr(Meter, "armed", True)
        with no_read_back():
            yield

    with pytest.raises(ReadBack):
        play(processes, {}, watched)
