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

run=
newest_checkpoint() { printf '%s\n' "$run"/checkpoints/images-* | tail -n 1; }

status() { cat "$run/status.json" 2>/dev/null || true; }

# field NAME: from status.json
field() { status | sed -n "s/^ *\"$1\": \"\{0,1\}\([a-z0-9]*\).*/\1/p"; }

# train [CONFIG.yaml] [key=value ...]: a launcher on each node, then requeue or end. {task} is the task of a job array.
# With `saves` set it saves so many times as often as configured, unless the command line says how often.
train() {
    set -- "${@//\{task\}/${SLURM_ARRAY_TASK_ID:-}}"
    local each=${SLURM_GPUS_ON_NODE:-0} config every hosts head port code=0 status_before='' checkpoint_before
    if ((each == 0)); then
        each=${CPU_PROCESSES:-}
        [[ -n $each ]] || die "the job has no GPU. Ask for some (sbatch --gpus-per-node=N ...), or for processes on the" \
            "CPU: CPU_PROCESSES=N sbatch --gpus-per-node=0 ..."
        export ACCELERATE_USE_CPU=true
    fi
    local step=(srun --cpus-per-task="$SLURM_CPUS_PER_TASK" ${SRUN_OPTIONS[@]+"${SRUN_OPTIONS[@]}"})
    config=$("${step[@]}" --nodes=1 --ntasks=1 launch/local.sh -n 1 "$@" --print-config) || requeue_or_end $?
    run=$(sed -n "s/^run: '\{0,1\}\(.*[^']\)'\{0,1\}$/\1/p" <<< "$config")
    [[ -n $run ]] || die "the printed config has no line 'run: ...'; do SRUN_OPTIONS change it? $config"
    if [[ -n ${saves:-} && " $*" != *" save"[.=]* ]]; then
        every=$(sed -n '/^save:/,/^[^ ]/s/^  every: //p' <<< "$config")
        set -- "$@" "save.every=$(((every + saves - 1) / saves))"
    fi
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

# SLURM is about to take the nodes of this job for another one.
preempted() { [[ $(scontrol show job "$job") == *" PreemptTime="[0-9]* ]]; }

# The run's status.json decides: the launcher's exit code does not tell a stop in good order from the end.
requeue_or_end() {
    local state exit_code wrote='' job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
    state=$(field state) exit_code=$(field exit_code) job=${job:-$SLURM_JOB_ID}
    [[ $(status) == "$status_before" ]] || wrote=yes
    if [[ $state == finished && (-n $wrote || $1 == 0) ]]; then
        exit "$1"
    elif [[ -n $wrote && $state == failed && $exit_code == [234] ]]; then
        echo "slurm: failed with exit code $exit_code, which would come again; not requeued"
    elif preempted; then
        echo "slurm: preempted; requeued"
        scontrol requeue "$job" && exit 0
    elif [[ -z $wrote ]]; then
        echo "slurm: the run did not begin; not requeued"
    elif [[ $(newest_checkpoint) == "$checkpoint_before" ]]; then
        echo "slurm: $state, without a new checkpoint in this attempt; not requeued"
    else
        echo "slurm: $state; requeued to go on from $(newest_checkpoint)"
        scontrol requeue "$job" && exit 0
    fi
    exit "$(($1 > 0 ? $1 : 1))"
}
