"""`doctor --plan`, as a user types it: the rows, what they say of their origin, and the messages about mistakes."""

import re
from dataclasses import replace
from typing import Any

import pytest

from dist_gan.planning import plan
from dist_gan.planning.devices import DEVICES
from tests.checkup.test_doctor import Told
from tests.support.commands import doctor
from tests.support.runs import SMALL, SMALL_DCGAN


@pytest.fixture
def planned(capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*arguments: str) -> Told:
        code = doctor.main(["--plan", *arguments])
        out, err = capsys.readouterr()
        told = Told(code, out)
        told.error = err  # type: ignore[attr-defined]
        return told

    return call


def number(text: str, unit: str) -> float:
    found = re.search(rf"([\d.,]+) {unit}", text)
    assert found, text
    return float(found[1].replace(",", ""))


def test_this_machine(planned: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dist_gan.planning.measuring.SECONDS", 0.2)
    told = planned(*SMALL, "nodes=2", "gpus=2", "network=1gbit", "latency=50ms", "batch_size=64")
    assert told.code == 0, told.error
    rows = ["world", "plan", "work", "device", "update", "network", "gloo", "wire", "speed", "memory", "checkpoint"]
    assert list(told.rows) == rows
    assert told.rows["world"][1] == "2 nodes with 2 processes each, gloo"
    assert told.rows["plan"][1].startswith("batch 64 = 4 x 16, fp32, mlp")
    assert "(measured here" in told.rows["update"][1]
    assert told.rows["network"][1].endswith("latency 50 ms (given)")
    # 2 turns, 2 * 3 steps of 2 segments of 50 ms: so slow a network that all else is nothing beside it
    assert number(told.rows["wire"][1], "s, of which") == pytest.approx(1.2, rel=0.05)
    assert told.rows["wire"][0] == "advice"
    assert number(told.rows["speed"][1], "images/s") == pytest.approx(64 / 1.2, rel=0.1)


def test_one_process(planned: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dist_gan.planning.measuring.SECONDS", 0.2)
    told = planned(*SMALL, "batch_size=64")
    assert (told.code, told.rows["wire"][1]) == (0, "nothing: one process")
    update = number(told.rows["update"][1], "ms")
    assert number(told.rows["speed"][1], "images/s") == pytest.approx(64 / update * 1e3, rel=0.02)


def test_a_gpu_that_is_not_there(planned: Any) -> None:
    told = planned(
        *SMALL_DCGAN, "nodes=8", "gpus=8", "gpu=h200", "network=400gbit", "batch_size=1024", "precision=bf16"
    )
    assert told.code == 0, told.error
    assert told.rows["world"][1] == "8 nodes with 8 processes each, nccl"
    assert (
        told.rows["device"][1] == "h200: 989.5 TFLOP/s in bf16, 4.8 TB/s, 141 GB (NVIDIA's data sheet of the H200 SXM)"
    )
    assert "as graphs; longest: the many small kernels (calculated from counts" in told.rows["update"][1]
    assert told.rows["network"][1] == "50 GB/s of a node in each direction, latency 14 us (NCCL's own model)"
    assert told.rows["wire"][1].endswith("(calculated; never checked on several GPUs)")
    assert "(counted: a rough figure)" in told.rows["memory"][1]
    assert "gloo" not in told.rows


def test_exact_runs_send_twice_as_much_and_hide_nothing(planned: Any) -> None:
    words = (*SMALL_DCGAN, "gpus=2", "gpu=a100", "batch_size=64", "speed=eager")
    usual, exact = (planned(*words, f"exact={value}").rows["wire"][1] for value in ("false", "true"))
    sent = [float(re.match(r"([\d.]+) (k|M)B sent", text)[1]) for text in (usual, exact)]
    assert sent[1] == pytest.approx(2 * sent[0], rel=0.02)
    graph = planned(*words, "speed=auto").rows["wire"][1]
    assert ["behind the backward" in text for text in (usual, exact, graph)] == [True, False, False]


def test_compiled_networks_leave_the_host_to_start_operators(planned: Any) -> None:
    words = (*SMALL_DCGAN, "gpus=2", "gpu=h100", "batch_size=64")
    eager, graph, compiled = (planned(*words, f"speed={speed}").rows for speed in ("eager", "graph", "compile"))
    assert (
        number(compiled["update"][1], "ms") == number(eager["update"][1], "ms") > number(graph["update"][1], "us") / 1e3
    )
    assert "longest: starting operators" in compiled["update"][1]
    assert "as if it were not compiled" in compiled["update"][1]
    assert "behind the backward" not in compiled["wire"][1], "reduced in one piece"


def test_sixty_four_bits(planned: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dist_gan.planning.measuring.SECONDS", 0.2)
    words = (*SMALL, "networks.width=128", "batch_size=64")
    usual = planned(*words, "gpu=h100").rows
    for gpu in ("h100", "here"):
        wide = planned(*words, f"gpu={gpu}", "precision=fp64").rows
        assert "(counted in fp64)" in wide["work"][1]
        sizes = [number(rows["checkpoint"][1], "MB") for rows in (usual, wide)]
        assert sizes[1] == pytest.approx(2 * sizes[0], rel=0.05), gpu


def test_what_a_run_has_written_can_be_planned(planned: Any) -> None:
    words = (*SMALL_DCGAN, "gpu=h100", "gpus=2", "batch_size=64")
    told = planned(*words, "processes=1", "debug=true")
    assert (told.code, told.rows["update"]) == (0, planned(*words).rows["update"]), told.error


def test_more_processes_than_parameters(planned: Any) -> None:
    told = planned(*SMALL, "batch_size=64", "gpu=h100", "gpus=16", "shard=true")
    assert (told.code, told.error) == (0, "")


def test_the_memory_that_is_seen(planned: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what counting takes; and of an unsharded process, less what a sharded one leaves to others."""
    order = []

    def noted(name: str, real: Any) -> Any:
        def call(*given: Any, **named: Any) -> Any:
            order.append(name)
            return real(*given, **named)

        return call

    monkeypatch.setattr("dist_gan.planning.measuring.SECONDS", 0.2)
    monkeypatch.setattr(plan, "measured", noted("measured", plan.measured))
    monkeypatch.setattr(plan, "count", noted("count", plan.count))
    told = planned(*SMALL, "batch_size=64", "gpus=2", "shard=true")
    assert order == ["measured", "count"]
    assert re.search(r"measured here, less [\d.]+ kB of state that only other processes keep\)", told.rows["memory"][1])


def test_images_that_D_sees(planned: Any) -> None:
    words = (*SMALL_DCGAN, "gpu=h100", "batch_size=64")
    assert "images that D sees" not in planned(*words).rows["speed"][1]
    assert " images/s that D sees, " in planned(*words, "discriminator_turns=2").rows["speed"][1]


def test_memory_that_may_not_suffice(planned: Any) -> None:
    told = planned(*SMALL_DCGAN, "gpu=l40s", "batch_size=8388608")
    assert (told.code, told.rows["memory"][0]) == (0, "advice"), told.text
    assert "a smaller microbatch needs less" in told.rows["memory"][1]
    assert planned(*SMALL_DCGAN, "gpu=l40s", "batch_size=8388608", "microbatch=1024").rows["memory"][0] == "ok"


def test_memory_that_no_microbatch_mends(planned: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DEVICES, "l40s", replace(DEVICES["l40s"], memory=1e5))
    words = (*SMALL_DCGAN, "gpu=l40s", "batch_size=64")
    for more, advice in (
        (["gpus=2"], "shard=true or smaller networks need less"),
        (["gpus=2", "shard=true"], "; smaller networks need less"),
        ([], "; smaller networks need less"),
    ):
        found = planned(*words, *more).rows["memory"]
        assert (found[0], advice in found[1], "smaller microbatch" in found[1]) == ("advice", True, False), found


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nodes=2"], "network: 2 nodes need one. Give the bits per second of a node"),
        (["nodes=0"], "nodes must be at least 1, got 0"),
        (["gpus=x"], "gpus: expected something like gpus=1, got 'gpus=x'"),
        (
            ["gpu=h20"],
            "gpu: expected here (this machine, measured) or one of a100, h100, h200, l40s, got 'h20'",
        ),
        (["network=10gbit"], "network: it is between nodes, and there is one"),
        (["nodes=2", "network=10"], "network: expected the bits per second of a node, such as network=400gbit"),
        (["nodes=2", "network=10gbit", "latency=5"], "latency: expected a time with its unit"),
        (["gpu=l40s", "precision=fp64"], "precision: the data sheet of l40s has no peak for fp64"),
        (["gpus=3"], "batch_size: 64 cannot be split over 3 processes"),
        (["batchsize=3"], "batchsize"),
        (["precision=fp16"], "precision: fp16 needs a GPU"),
        (["networks.width=100000000"], "this machine has not enough memory for an update of one process. Plan with"),
        (["none.yaml"], "none.yaml: No such file or directory"),
    ],
)
def test_mistakes(planned: Any, words: list[str], message: str) -> None:
    more = [] if words[0].endswith(".yaml") else SMALL
    told = planned(*words[:1], *more, *words[1:]) if not more else planned(*more, "batch_size=64", *words)
    assert told.code == 2
    assert told.error.startswith(f"dist_gan.doctor: {message}"), told.error
    assert set(told.rows) <= {"world", "plan"}


def test_several_processes_are_refused(planned: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    told = planned(*SMALL)
    assert (told.code, "--plan: one process plans for all" in told.error) == (2, True)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr("dist_gan.run.failures.RANK_0_SECONDS", 0.0)
    told = planned(*SMALL)
    assert (told.code, told.error) == (2, ""), "rank 0 has said it"


def test_ctrl_c(planned: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(plan, "count", stopped)
    assert planned(*SMALL, "gpu=h100", "batch_size=64").code == 130
