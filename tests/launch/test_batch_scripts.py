"""slurm/: what shows without a cluster. What needs one is in test_slurm.py."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from dist_gan.run.folder import RunFolder
from tests.support.children import finished
from tests.support.commands import ROOT

TRAIN, PREEMPTIBLE, SWEEP = (ROOT / f"slurm/{name}.sbatch" for name in ("train", "preemptible", "sweep"))


def bash(text: str, *arguments: str, **env: str) -> tuple[int, list[str], str]:
    """Run `text` where slurm/common.sh is sourced: (exit code, lines, stderr)."""
    done = finished(
        ["bash", "-euo", "pipefail", "-c", f"source slurm/common.sh; {text}", "bash", *arguments],
        cwd=ROOT,
        env={**os.environ, **env},
        timeout=30,
    )
    return done.returncode, done.stdout.splitlines(), done.stderr


def test_the_scripts_ask_for_what_requeueing_needs_and_differ_in_one_word() -> None:
    train, preemptible, sweep = (
        [line for line in path.read_text().splitlines() if line[:2] != "# "] for path in (TRAIN, PREEMPTIBLE, SWEEP)
    )
    assert train[-1] == 'train "$@"'
    assert preemptible == [*train[:-1], 'saves=10 train "$@"']
    assert sweep == [*train[:-1], 'sweep "$@"']
    needed = {"--ntasks-per-node=1", "--signal=USR1@300", "--requeue", "--open-mode=append"}  # no `B:`: to the ranks
    assert needed <= {line.removeprefix("#SBATCH ") for line in train}


def test_they_read_a_runs_status(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    ask = "run=$1; field state; field exit_code; field restarts_without_progress; newest_checkpoint"

    def answer() -> list[str]:
        return bash(ask, str(tmp_path))[1]

    assert answer() == [f"{tmp_path}/checkpoints/images-*"], "there is none"
    for images in (640, 1280):
        (folder.checkpoints / f"images-{images:012d}").mkdir(parents=True)
    newest = f"{tmp_path}/checkpoints/images-000000001280"
    folder.begin(1280)
    folder.begin(1280)
    folder.status("failed", reason='ConfigError: "state": "finished"\n "exit_code": 7', rank=0, exit_code=2)
    assert answer() == ["failed", "2", "1", newest]
    folder.status("stopped", reason="signal 10", images_seen=1280)
    assert answer() == ["stopped", "1", newest]


FAILED = {"state": "failed", "exit_code": 1, "restarts_without_progress": 0}
STUCK = FAILED | {"restarts_without_progress": 2}


@pytest.mark.parametrize(
    ("status", "new_checkpoint", "preempted", "code", "expected"),
    [
        ({"state": "finished"}, True, False, 0, (0, "")),
        ({"state": "stopped"}, True, False, 0, (0, "requeued to go on from RUN/checkpoints/images-000000001280")),
        ({"state": "running"}, False, False, 1, (0, "requeued to go on from RUN/checkpoints/images-000000000640")),
        ({"state": "starting", "restarts_without_progress": 2}, False, False, 1, (1, "not requeued")),
        (FAILED, False, False, 1, (0, "failed; requeued")),
        (FAILED | {"restarts_without_progress": 1}, False, False, 1, (0, "failed; requeued")),
        (STUCK, False, False, 1, (1, "failing at the same place: 2 restarts without a new checkpoint; not requeued")),
        (STUCK, True, False, 1, (0, "failed; requeued")),
        (STUCK, False, True, 0, (0, "preempted; requeued")),
        (FAILED | {"exit_code": 2}, True, False, 2, (2, "failed with exit code 2, which would happen again")),
        (FAILED | {"exit_code": 3}, True, True, 1, (1, "failed with exit code 3, which would happen again")),
        (FAILED | {"exit_code": 4}, True, False, 4, (4, "failed with exit code 4, which would happen again")),
        (FAILED | {"exit_code": 5}, True, False, 5, (0, "failed; requeued")),
        (None, False, False, 2, (2, "the run did not begin; not requeued")),
        (None, False, False, 0, (1, "the run did not begin; not requeued")),
        (None, False, True, 143, (0, "preempted; requeued")),
    ],
)
def test_who_is_requeued(
    tmp_path: Path,
    status: dict[str, Any] | None,
    new_checkpoint: bool,
    preempted: bool,
    code: int,
    expected: tuple[int, str],
) -> None:
    (tmp_path / "checkpoints/images-000000000640").mkdir(parents=True)
    (tmp_path / "before").write_text(json.dumps({"state": "running", "pid": 1}, indent=1))
    (tmp_path / "status.json").write_text(json.dumps(status or {"state": "running", "pid": 1}, indent=1))
    when = "2030-01-01T00:00:00" if preempted else "None"
    # As after the training step; SLURM is a function here.
    decide = f"""
        scontrol() {{ case $1 in show) echo " PreemptTime={when}";; *) echo "scontrol $*";; esac; }}
        run=$1 status_before=$(cat "$1/before") checkpoint_before=$(newest_checkpoint)
        {f'mkdir "{tmp_path}/checkpoints/images-000000001280"' if new_checkpoint else ""}
        requeue_or_end {code}
    """
    found, lines, error = bash(
        decide, str(tmp_path), SLURM_JOB_ID="12", SLURM_ARRAY_JOB_ID="11", SLURM_ARRAY_TASK_ID="3"
    )
    assert error == ""
    assert (found, expected[1] in "\n".join(lines).replace(str(tmp_path), "RUN")) == (expected[0], True), lines
    requeued = ["scontrol requeue 11_3"] if "; requeued" in expected[1] or "requeued to" in expected[1] else []
    assert lines[1:] == requeued


def tasks(count: int, *arguments: str, indices: str = "") -> list[list[str]]:
    """What each task of an array would train; an error is told as one line."""
    found = []
    for task in range(count):
        env = {"SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_TASK_COUNT": str(count)}
        top = indices or str(count - 1)
        code, lines, error = bash(
            'train() { printf "%s\\n" "$@"; }; sweep "$@"', *arguments, SLURM_ARRAY_TASK_MAX=top, **env
        )
        assert (code, error.count("\n")) == ((2, 1) if error else (0, 0)), error
        found.append([error] if error else lines)
    return found


def test_a_sweep_trains_each_combination_in_a_folder_of_its_own() -> None:
    rate = "generator_optimizer.learning_rate"
    found = tasks(6, "configs/a.yaml", "run=runs/x", "seed=0,1,2", "images=640", f"{rate}=1e-4,2e-4")
    assert found == [
        ["configs/a.yaml", f"seed={seed}", "images=640", f"{rate}={r}", f"run=runs/x/seed={seed},learning_rate={r}"]
        for seed in (0, 1, 2)
        for r in ("1e-4", "2e-4")
    ]


def test_a_sweep_of_a_config_whose_path_has_commas_and_equals_signs(tmp_path: Path) -> None:
    config = tmp_path / "lr=0.1,seed=1" / "config.yaml"
    config.parent.mkdir()
    config.touch()
    assert tasks(2, str(config), "run=runs/x", "seed=3,4")[1] == [str(config), "seed=4", "run=runs/x/seed=4"]


def test_names_that_would_collide_are_whole_and_what_is_no_list_stays() -> None:
    given = ["run=a,b", "data={name: generated, size: 8}", "objective.penalties=[{name: r1}, {name: r2}]"]
    found = tasks(4, *given, "generator_optimizer.clip=1,2", "discriminator_optimizer.clip=0.5,data/x")
    assert found[1] == [
        *given[1:],
        "generator_optimizer.clip=1",
        "discriminator_optimizer.clip=data/x",
        "run=a,b/generator_optimizer.clip=1,discriminator_optimizer.clip=data_x",
    ]
    assert len({line[-1] for line in found}) == 4


@pytest.mark.parametrize(
    ("count", "arguments", "expected"),
    [
        (2, ["run=a", "seed=0,1,2"], r"there are 3 combinations: sbatch --array=0-2 slurm/sweep\.sbatch"),
        (4, ["run=a", "seed=0,1,2"], "there are 3 combinations"),
        (1, ["run=a", "seed=0"], "nothing to sweep: no argument is like seed=0,1,2"),
        (2, ["seed=0,1"], "a sweep needs run=FOLDER"),
        (2, ["run=a", "seed=0,"], "seed=0,: a value is empty, or there twice"),
        (2, ["run=a", "seed=0,0"], "seed=0,0: a value is empty, or there twice"),
    ],
)
def test_a_wrong_sweep_is_one_line_and_exit_code_2(count: int, arguments: list[str], expected: str) -> None:
    for (line,) in tasks(count, *arguments):
        assert re.match(f"slurm: {expected}", line), line


def test_a_sweep_outside_an_array_or_of_other_tasks_is_refused() -> None:
    arguments = ["run=a", "seed=0,1,2"]
    assert bash('sweep "$@"', *arguments)[2].startswith("slurm: there are 3 combinations")
    assert "there are 3 combinations" in tasks(3, *arguments, indices="5")[0][0], "--array=3-5"


def test_the_doctor_sees_the_same_world_and_is_never_requeued(tmp_path: Path) -> None:
    """SLURM is functions here; launch/multi_node.sh is told all that it is told for a training."""
    slurm = """
        scontrol() { [[ $1 == show ]] && printf 'node1\\nnode2\\n'; }
        srun() { printf '%s\\n' "${@: -12}"; return 3; }
        train "$@"
    """
    env = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_CPUS_PER_TASK": "4", "CPU_PROCESSES": "2"}
    code, lines, error = bash(slurm, "--doctor", "configs/a.yaml", "seed=1", **env)
    world = "bash --nodes 2 --head node1 --port 10007 -n 2"
    assert (code, " ".join(lines), error) == (3, f"{world} --doctor configs/a.yaml seed=1", "")
