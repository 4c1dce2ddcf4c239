# shellcheck shell=bash
# Sourced by the batch scripts, with the repository's root as the current directory. SLURM runs a copy of the submitted
# script, so other files are found from the folder where sbatch was called.
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

# sweep [CONFIG.yaml] run=FOLDER key=value,value,... [key=value ...]: train the combination of this task.
# A value that has brackets, braces or quotes is taken as it is.
sweep() {
    local folder='' given=() keys=() lists=() names=() argument key count=1 at left values places=()
    for argument; do
        if ((${#given[@]} == 0)) && [[ -f $argument ]]; then
            given+=("$argument")  # the config, whose path may hold `=` and commas
        elif [[ $argument == run=* ]]; then
            folder=${argument#run=}
        elif [[ $argument == *=*,* && ${argument#*=} != *[][{}\"\']* ]]; then
            keys+=("${argument%%=*}") lists+=("${argument#*=}") places+=("${#given[@]}") given+=('')
            IFS=, read -ra values <<< "${argument#*=},"
            [[ $(printf '%s\n' "${values[@]}" | sort -u | grep -c .) == "${#values[@]}" ]] \
                || die "$argument: a value is empty, or there twice"
            count=$((count * ${#values[@]}))
        else
            given+=("$argument")
        fi
    done
    [[ -n $folder ]] || die "a sweep needs run=FOLDER, in which each combination has a folder"
    ((${#keys[@]} > 0)) || die "nothing to sweep: no argument is like seed=0,1,2"
    [[ ${SLURM_ARRAY_TASK_COUNT:-} == "$count" && $SLURM_ARRAY_TASK_MAX == $((count - 1)) ]] \
        || die "there are $count combinations: sbatch --array=0-$((count - 1)) slurm/sweep.sbatch ..."

    left=$SLURM_ARRAY_TASK_ID
    for ((at = ${#keys[@]} - 1; at >= 0; at--)); do # the last key varies fastest
        IFS=, read -ra values <<< "${lists[at]}"
        argument=${values[left % ${#values[@]}]}
        left=$((left / ${#values[@]}))
        given[places[at]]=${keys[at]}=$argument
        key=${keys[at]##*.}
        [[ $(printf '%s\n' "${keys[@]##*.}" | grep -cFx "$key") == 1 ]] || key=${keys[at]}
        names=("$key=${argument//\//_}" ${names[@]+"${names[@]}"})
    done
    train "${given[@]}" "run=$folder/$(IFS=, && echo "${names[*]}")"
}

# train [--doctor] [CONFIG.yaml] [key=value ...]: a launcher on each node, then requeue or end; the doctor just ends.
# With `saves` set it saves this many times as often as configured, unless the command line says how often.
train() {
    local each=${SLURM_GPUS_ON_NODE:-0} config every hosts head port code=0 status_before='' checkpoint_before
    if ((each == 0)); then
        each=${CPU_PROCESSES:-}
        [[ -n $each ]] || die "the job has no GPU. Ask for some (sbatch --gpus-per-node=N ...), or for processes on the" \
            "CPU: CPU_PROCESSES=N sbatch --gpus-per-node=0 ..."
        export ACCELERATE_USE_CPU=true
    fi
    # SLURM signals every process of a step. USR1 is ignored, so that it does not end the start; Python keeps it until the
    # ranks can answer it (dist_gan/distributed/warning.py).
    local step=(srun --cpus-per-task="$SLURM_CPUS_PER_TASK" ${SRUN_OPTIONS[@]+"${SRUN_OPTIONS[@]}"})
    # shellcheck disable=SC2016  # SLURM_NODEID is expanded on each node
    local each_node='trap "" USR1; exec launch/multi_node.sh --rank "$SLURM_NODEID" "$@"' \
        one_node='trap "" USR1; exec launch/local.sh -n 1 "$@"'
    mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
    head=${hosts[0]:?no node in SLURM_JOB_NODELIST=$SLURM_JOB_NODELIST}
    port=$((10000 + SLURM_JOB_ID % 20000)) # below the ephemeral ports; every task of an array has a job id of its own
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((SLURM_CPUS_PER_TASK > each ? SLURM_CPUS_PER_TASK / each : 1))}

    if [[ ${1:-} != --doctor ]]; then
        config=$("${step[@]}" --nodes=1 --ntasks=1 bash -c "$one_node" bash "$@" --print-config) || requeue_or_end $?
        run=$(sed -n "s/^run: '\{0,1\}\(.*[^']\)'\{0,1\}$/\1/p" <<< "$config")
        [[ -n $run ]] || die "the printed config has no line 'run: ...'; do SRUN_OPTIONS change it? $config"
        if [[ -n ${saves:-} && " $*" != *" save"[.=]* ]]; then
            every=$(sed -n '/^save:/,/^[^ ]/s/^  every: //p' <<< "$config")
            set -- "$@" "save.every=$(((every + saves - 1) / saves))"
        fi
        status_before=$(status)
        checkpoint_before=$(newest_checkpoint)
    fi
    "${step[@]}" --kill-on-bad-exit=1 bash -c "$each_node" \
        bash --nodes "${#hosts[@]}" --head "$head" --port "$port" -n "$each" "$@" || code=$?
    [[ ${1:-} != --doctor ]] || exit "$code"
    requeue_or_end "$code"
}

# Whether SLURM is about to give the nodes of this job to another one.
preempted() { [[ $(scontrol show job "$job") == *" PreemptTime="[0-9]* ]]; }

# The run's status.json decides: the launcher's exit code is the same for a clean stop and for the end.
requeue_or_end() {
    local state exit_code stuck newest wrote='' job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
    state=$(field state) exit_code=$(field exit_code) stuck=$(field restarts_without_progress) job=${job:-$SLURM_JOB_ID}
    newest=$(newest_checkpoint)
    [[ $(status) == "$status_before" ]] || wrote=yes
    if [[ $state == finished && (-n $wrote || $1 == 0) ]]; then
        exit "$1"
    elif [[ -n $wrote && $state == failed && $exit_code == [234] ]]; then
        echo "slurm: failed with exit code $exit_code, which would happen again; not requeued"
    elif preempted; then
        echo "slurm: preempted; requeued"
        scontrol requeue "$job" && exit 0
    elif [[ -z $wrote ]]; then
        echo "slurm: the run did not begin; not requeued"
    elif [[ $newest == "$checkpoint_before" ]] && ((${stuck:-0} >= 2)); then
        echo "slurm: $state: failing at the same place: $stuck restarts without a new checkpoint; not requeued"
    else
        [[ -e $newest ]] || newest='the beginning'
        echo "slurm: $state; requeued to go on from $newest"
        scontrol requeue "$job" && exit 0
    fi
    exit "$(($1 > 0 ? $1 : 1))"
}
