"""slurm/ on a real SLURM: jobs of several nodes; stopped, preempted, cancelled, crashed and failing ones; what is left.

Two things take minutes and need nobody: a job with a time limit (node1) and jobs that fail (node5). They are submitted
first, and looked at last.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dist_gan.run import checkpoint
from tests.campaigns.proof.compare import differences
from tests.support.children import finished
from tests.support.cluster import Cluster, started
from tests.support.commands import ROOT
from tests.support.runs import SMALL, assert_same, newest, run

pytestmark = pytest.mark.slow
TRAIN, PREEMPTIBLE, SWEEP = (f"slurm/{name}.sbatch" for name in ("train", "preemptible", "sweep"))
INSIDE = {"PYTHONPATH": f"{ROOT / 'tests/support/inside'}:{ROOT}"}
ELSEWHERE = "--exclude=node1,node5"
PATIENCE = 600
"""Seconds for a job that is stopped twice by its time limit."""


class Brake:
    """A file: while it exists, runs that are submitted with `env` make ten updates a second."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.env = {**INSIDE, "DIST_GAN_BRAKE": str(path)}
        path.touch()

    def release(self) -> None:
        self.path.unlink()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with started(nodes=5) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def _free_nodes(cluster: Cluster) -> Iterator[None]:
    """No test leaves a job of its own behind."""
    before = jobs(cluster)
    yield
    for job in jobs(cluster) - before:
        cluster.ask("scancel", job)


def jobs(cluster: Cluster) -> set[str]:
    return set(cluster.ask("squeue", "-h", "-a", "-o", "%A").split())


@pytest.fixture
def brake(tmp_path: Path) -> Brake:
    return Brake(tmp_path / "brake")


@dataclass(frozen=True)
class Limited:
    """A job with a time limit of two minutes, whose first two attempts get nowhere near the end in that time."""

    job: str
    folder: Path
    images: int = 128_000
    config: tuple[str, ...] = (*SMALL, f"images={images}")


@pytest.fixture(scope="module")
def limited(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Limited:
    folder = tmp_path_factory.mktemp("limited") / "a"
    # SLURM looks at limits every 30 s, and warns a job whose end is nearer than that: this comes 85 to 115 s after the
    # start, when the step that prints the config has ended on a slow machine too. With less than 5 s, a look that is
    # late finds a job beyond its limit, and kills it without a warning.
    options = ["--nodelist=node1", "--time=2", "--signal=USR1@5"]
    slow = {**INSIDE, "DIST_GAN_SLOW": "2"}
    job = cluster.submit(*options, TRAIN, *Limited.config, f"run={folder}", CPU_PROCESSES="2", **slow)
    return Limited(job, folder)


@pytest.fixture(scope="module")
def failing(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], Path]:
    """Jobs by what is wrong with them, and the folder of their runs."""
    folder = tmp_path_factory.mktemp("failing")
    for name in ("2", "3"):
        run(folder / name, 1280)
    for path in checkpoint.existing(folder / "3/checkpoints"):
        (path / "generator.safetensors").write_bytes(b"rotten")

    def submit(name: str, *more: str, **env: str) -> str:
        config = [*SMALL, f"run={folder / name}", "images=2560", *more]
        return cluster.submit("--nodelist=node5", TRAIN, *config, CPU_PROCESSES="1", **INSIDE, **env)

    return {
        "same place": submit("same", DIST_GAN_POISON="5,1,1,1,1"),  # what was good is saved when it fails
        "moves on": submit("moves", DIST_GAN_POISON="5,5,25"),  # the third one has saved at 20
        "2": submit("2", "seed=1"),
        "3": submit("3"),
        "4": submit("4", "generator_optimizer.learning_rate=1e30"),
    }, folder


def status(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "status.json").read_text()))


def images(folder: Path) -> list[int]:
    """Those of the lines of metrics.jsonl."""
    path = folder / "metrics.jsonl"
    return [json.loads(line)["images"] for line in path.read_text().splitlines()] if path.exists() else []


def saved(folder: Path) -> int:
    """The images of the newest checkpoint; 0: there is none."""
    found = checkpoint.existing(folder / "checkpoints")
    return int(found[-1].name.removeprefix("images-")) if found else 0


def turns(output: str) -> tuple[list[int], list[int]]:
    """Where a job's attempts say that they stopped, and from where that they went on."""
    stops = re.findall(r"^stopped by \S+\s+images seen +([\d,]+)", output, re.MULTILINE)
    starts = re.findall(r"going on from ([\d,]+)", output)
    return [int(n.replace(",", "")) for n in stops], [int(n.replace(",", "")) for n in starts]


def begun(cluster: Cluster, job: str, folder: Path, beyond: int = 0) -> None:
    cluster.until(job, lambda: any(n > beyond for n in images(folder)))


def assert_whole(folder: Path, seen: int, every: int = 640) -> None:
    """Finished; metrics at every multiple, none twice, in order; and what is kept can be used."""
    assert (status(folder)["state"], status(folder)["images_seen"]) == ("finished", seen)
    lines = images(folder)
    assert lines == sorted(set(lines))
    assert set(lines) >= set(range(every, seen + 1, every))
    for path in checkpoint.existing(folder / "checkpoints"):
        assert checkpoint.verify(path) == ""


def test_two_nodes_make_the_model_of_one_process(cluster: Cluster, limited: Any, failing: Any, tmp_path: Path) -> None:
    few = ["precision=fp64", "track.every=64", "sample.every=128", "save.every=192"]
    job = cluster.submit(
        ELSEWHERE, "--nodes=2", TRAIN, *SMALL, *few, f"run={tmp_path}/a", "images=384", CPU_PROCESSES="2"
    )
    run(tmp_path / "one", 384, *few)
    found = cluster.wait(job, "COMPLETED", "FAILED")
    output = cluster.output(job)
    assert (found["JobState"], found["NumNodes"], found["Restarts"]) == ("COMPLETED", "2", "0"), output
    assert "processes   4 processes, batch 64 = 4 x 16" in output
    assert_whole(tmp_path / "a", 384, every=64)
    assert status(tmp_path / "a")["processes"] == 4
    assert max(differences(newest(tmp_path / "a").tensors, newest(tmp_path / "one").tensors).values()) <= 1e-12
    cluster.gone(job)


def test_the_doctor_looks_at_the_world_that_training_would_have(cluster: Cluster, tmp_path: Path) -> None:
    config = [*SMALL, f"run={tmp_path}/a", "images=640"]
    well = cluster.submit(ELSEWHERE, "--nodes=2", TRAIN, "--doctor", *config, CPU_PROCESSES="1")
    unwell = cluster.submit(ELSEWHERE, "--nodes=2", TRAIN, "--doctor", *config, "batch_size=65", CPU_PROCESSES="1")
    for job, code, verdict in (
        (well, "0:0", "This run would work."),
        (unwell, "2:0", "This run would fail: 1 problem."),
    ):
        found = cluster.wait(job, "COMPLETED", "FAILED")
        assert (found["ExitCode"], found["Restarts"]) == (code, "0"), cluster.output(job)
        assert verdict in cluster.output(job)
        assert "2 processes, gloo: 1 on node" in cluster.output(job)
        cluster.gone(job)
    assert list(tmp_path.iterdir()) == []


def test_preempted_jobs_save_and_go_on(cluster: Cluster, tmp_path: Path, brake: Brake) -> None:
    """Where SLURM requeues them, and where it would cancel them."""
    jobs = {}
    for partition, node in (("low", "node3"), ("cancel", "node4")):
        where = [f"--partition={partition}", f"--nodelist={node}"]
        config = [*SMALL, "save.every=1000000", f"run={tmp_path / partition}", "images=32000"]
        jobs[partition] = cluster.submit(*where, PREEMPTIBLE, *config, CPU_PROCESSES="2", **brake.env)
    for partition, job in jobs.items():
        begun(cluster, job, tmp_path / partition)
    other = cluster.submit("--partition=high", "--nodelist=node3,node4", "--wrap=srun hostname")
    cluster.wait(other, "COMPLETED")
    assert sorted(cluster.output(other).split()) == ["node3", "node4"]
    for job in jobs.values():
        cluster.wait(job, "PENDING", "RUNNING", restarts=1)
    brake.release()
    for partition, job in jobs.items():
        found = cluster.wait(job, "COMPLETED", "FAILED", "PREEMPTED", "CANCELLED")
        assert found["JobState"] == "COMPLETED", cluster.output(job)
        stops, starts = turns(cluster.output(job))
        assert stops == starts, cluster.output(job)
        assert len(stops) == 1
        assert_whole(tmp_path / partition, 32000)
        cluster.gone(job)
    assert "slurm: preempted; requeued" in cluster.output(jobs["cancel"])


def test_a_node_that_crashes(cluster: Cluster, tmp_path: Path, brake: Brake) -> None:
    """The job is put back by SLURM itself, and goes on elsewhere from its newest checkpoint."""
    folder = tmp_path / "a"
    config = [*SMALL, f"run={folder}", "images=32000"]
    job = cluster.submit(ELSEWHERE, "--nodes=2", TRAIN, *config, CPU_PROCESSES="1", **brake.env)
    cluster.until(job, lambda: saved(folder) > 0)
    nodes = cluster.ask("scontrol", "show", "hostnames", cluster.job(job)["NodeList"]).split()
    before = saved(folder)
    cluster.crash(nodes[1])
    try:
        cluster.wait(job, "RUNNING", restarts=1)
        brake.release()
        found = cluster.wait(job, "COMPLETED", "FAILED", "NODE_FAIL")
        assert found["JobState"] == "COMPLETED", cluster.output(job)
        assert nodes[1] not in cluster.ask("scontrol", "show", "hostnames", found["NodeList"]).split()
    finally:
        cluster.revive(nodes[1])
    (start,) = turns(cluster.output(job))[1]
    assert start >= before
    assert_whole(folder, 32000)
    cluster.gone(job)
    cluster.up(nodes[1])


def test_a_sweep_is_an_array_whose_tasks_go_their_own_ways(cluster: Cluster, tmp_path: Path, brake: Brake) -> None:
    """One ends, one is cancelled, one is told to stop, again and again from its first step on, and is requeued."""
    config = [*SMALL, f"run={tmp_path}/sweep", "seed=0,1,2", "images=32000"]
    job = cluster.submit(ELSEWHERE, "--array=0-2", SWEEP, *config, CPU_PROCESSES="1", **brake.env)
    ends, cancelled, told = (tmp_path / f"sweep/seed={seed}" for seed in range(3))
    last = f"{job}_2"  # its SLURM_JOB_ID is the whole array's
    cluster.wait(last, "RUNNING")

    def has_stopped() -> bool:
        if any("dist_gan/train.py" in line for line in cluster.processes(last)):  # bash has begun to ignore it
            cluster.ask("scancel", "--signal=USR1", last, check=False)
        return told.exists() and status(told).get("state") == "stopped"

    cluster.until(last, has_stopped)
    begun(cluster, f"{job}_1", cancelled)
    cluster.ask("scancel", f"{job}_1")
    cluster.wait(f"{job}_1", "CANCELLED")
    assert (status(cancelled)["state"], status(cancelled)["reason"]) == ("stopped", "signal 15")
    assert saved(cancelled) == status(cancelled)["images_seen"] == images(cancelled)[-1]
    cluster.wait(last, "RUNNING", restarts=1)
    brake.release()
    found = [cluster.wait(f"{job}_{k}", "COMPLETED", "FAILED", "CANCELLED") for k in range(3)]
    assert [(each["JobState"], each["Restarts"]) for each in found] == [
        ("COMPLETED", "0"),
        ("CANCELLED", "0"),
        ("COMPLETED", "1"),
    ], cluster.output(last)
    for seed, folder in ((0, ends), (2, told)):
        assert_whole(folder, 32000)
        run(tmp_path / f"alone-{seed}", 32000, f"seed={seed}")
        assert_same(newest(folder), newest(tmp_path / f"alone-{seed}"))
    cluster.gone(job)


def test_who_fails_is_tried_again_while_that_may_help(cluster: Cluster, failing: tuple[dict[str, str], Path]) -> None:
    """Until two restarts made no checkpoint; on and on with new ones; once where config, data or loss are to blame."""
    submitted, folder = failing
    ended = {name: cluster.wait(job, "COMPLETED", "FAILED") for name, job in submitted.items()}
    told = {name: cluster.output(job) for name, job in submitted.items()}
    found = {name: (each["JobState"], each["ExitCode"], each["Restarts"]) for name, each in ended.items()}
    assert found == {
        "same place": ("FAILED", "1:0", "3"),
        "moves on": ("COMPLETED", "0:0", "3"),
        "2": ("FAILED", "2:0", "0"),
        "3": ("FAILED", "3:0", "0"),
        "4": ("FAILED", "4:0", "0"),
    }, "\n".join(told.values())
    assert told["same place"].count("RuntimeError: poison") == 4
    assert told["same place"].endswith(
        "slurm: failed: failing at the same place: 2 restarts without a new checkpoint; not requeued\n"
    )
    assert_whole(folder / "moves", 2560)
    for job in submitted.values():
        cluster.gone(job)


def test_a_job_goes_on_at_each_time_limit(cluster: Cluster, limited: Limited, tmp_path: Path) -> None:
    """At the very image where it stopped, twice by itself, to the bits of a run that was never stopped."""
    found = cluster.wait(limited.job, "COMPLETED", "FAILED", "TIMEOUT", seconds=PATIENCE)
    output = cluster.output(limited.job)
    assert found["JobState"] == "COMPLETED", output
    stops, starts = turns(output)
    assert stops == starts
    assert len(stops) == int(found["Restarts"]) >= 2
    assert_whole(limited.folder, limited.images)
    done = finished([ROOT / "launch/local.sh", "-n", "2", *limited.config, f"run={tmp_path}/whole"])
    assert done.returncode == 0, done.stderr
    assert_same(newest(limited.folder), newest(tmp_path / "whole"))
    cluster.gone(limited.job)
