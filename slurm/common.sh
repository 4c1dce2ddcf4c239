# shellcheck shell=bash
# Sourced by the batch scripts in the repository's root. SLURM runs a copy of the script that was submitted, so what is
# beside it is found from the folder where sbatch was called.
if [[ -f slurm/env.sh ]]; then
    # shellcheck source=/dev/null
    source slurm/env.sh
fi

die() {
    printf 'slurm: %s\n' "$*" >&2
    exit 2
}

newest_checkpoint() { printf '%s\n' "$run"/checkpoints/images-* | tail -n 1; }

status() { cat "$run/status.json" 2>/dev/null || true; }

# field NAME: from status.json
field() { status | sed -n "s/^ *\"$1\": \"\{0,1\}\([a-z0-9]*\).*/\1/p"; }

# train [CONFIG.yaml] [key=value ...]: a launcher on each node, then requeue or end. {task} is the task of a job array.
train() {
    set -- "${@//\{task\}/${SLURM_ARRAY_TASK_ID:-}}"
    local each=${SLURM_GPUS_ON_NODE:-0} hosts head port code=0 status_before checkpoint_before
    if ((each == 0)); then
        each=${CPU_PROCESSES:-}
        [[ -n $each ]] || die "the job has no GPU. Ask for some (sbatch --gpus-per-node=N ...), or for processes on the" \
            "CPU: CPU_PROCESSES=N sbatch --gpus-per-node=0 ..."
        export ACCELERATE_USE_CPU=true
    fi
    local step=(srun --cpus-per-task="$SLURM_CPUS_PER_TASK" ${SRUN_OPTIONS[@]+"${SRUN_OPTIONS[@]}"})
    run=$("${step[@]}" --nodes=1 --ntasks=1 launch/local.sh -n 1 "$@" --print-config \
        | sed -n "s/^run: '\{0,1\}\(.*[^']\)'\{0,1\}$/\1/p")
    mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
    head=${hosts[0]:?no node in SLURM_JOB_NODELIST=$SLURM_JOB_NODELIST}
    port=$((10000 + SLURM_JOB_ID % 20000)) # below the ephemeral ports; every task of an array has a job id of its own
    status_before=$(status)
    checkpoint_before=$(newest_checkpoint)
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((SLURM_CPUS_PER_TASK > each ? SLURM_CPUS_PER_TASK / each : 1))}

    # SLURM signals every process of the step. Until the ranks listen, a signal is ignored, and does not end the start.
    # shellcheck disable=SC2016  # SLURM_NODEID is each node's own
    "${step[@]}" --kill-on-bad-exit=1 bash -c 'trap "" USR1; exec launch/multi_node.sh --rank "$SLURM_NODEID" "$@"' \
        bash --nodes "${#hosts[@]}" --head "$head" --port "$port" -n "$each" "$@" || code=$?
    requeue_or_end "$code"
}

# The run's status.json decides: the launcher's exit code does not tell a stop in good order from the end.
requeue_or_end() {
    local state exit_code job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
    state=$(field state) exit_code=$(field exit_code)
    if [[ $state == finished ]]; then
        exit "$1"
    elif [[ $(status) == "$status_before" ]]; then
        echo "slurm: $run/status.json was not written: the run did not begin; not requeued"
    elif [[ $state == failed && $exit_code == [234] ]]; then
        echo "slurm: failed with exit code $exit_code, which would come again; not requeued"
    elif [[ $(newest_checkpoint) == "$checkpoint_before" ]]; then
        echo "slurm: $state, without a new checkpoint in this attempt; not requeued"
    else
        echo "slurm: $state; requeued to go on from $(newest_checkpoint)"
        scontrol requeue "${job:-$SLURM_JOB_ID}" && exit 0
    fi
    exit "$((${1} > 0 ? ${1} : 1))"
}
