"""Real CUDA graphs: the same bits as eagerly; and what cannot be captured leaves nothing behind."""

import pytest
import torch

from dist_gan.distributed.processes import Processes
from dist_gan.game.cuda_graphs import CudaCapture
from dist_gan.game.speed import Repeated
from tests.support import tiny
from tests.support.repeating import REPEATABLE, Setting, read_back

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU (make gpu)")]


@pytest.mark.parametrize("exact", [False, True], ids=["fp32", "exact"])
@pytest.mark.parametrize("name", REPEATABLE)
def test_a_cuda_graph_makes_the_same_bits(name: str, exact: bool) -> None:
    processes = Processes(exact=exact)
    capture = CudaCapture(processes.device)
    setting = Setting(name, processes, capture)
    eager, repeated = setting.play(setting.eager()), setting.repeated()
    capture.optimizers = [player.optimizer for player in repeated.players.values()]
    setting.play(repeated)
    assert not setting.reports
    assert tiny.digest(tiny.state(repeated)) == tiny.digest(tiny.state(eager))
    assert repeated.meter.read() == eager.meter.read()
    assert isinstance(repeated.runner, Repeated)
    assert set(repeated.runner.differences.values()) == {0.0}


def test_what_cuda_cannot_capture_runs_eagerly(monkeypatch: pytest.MonkeyPatch) -> None:
    processes = Processes()
    setting = Setting("mlp, dropout, clip", processes, CudaCapture(processes.device))
    expected = tiny.digest(tiny.state(setting.play(setting.eager())))
    read_back(monkeypatch)
    game = setting.repeated()
    setting.capture.optimizers = [player.optimizer for player in game.players.values()]  # type: ignore[attr-defined]
    assert tiny.digest(tiny.state(setting.play(game))) == expected
    assert len(setting.reports) == 2, setting.reports
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    assert all("captur" in report for report in setting.reports), setting.reports
    assert isinstance(game.runner, Repeated)
    assert set(game.runner.differences) == {"the average"}
