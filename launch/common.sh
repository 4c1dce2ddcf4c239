# shellcheck shell=bash
# Sourced by the scripts in this folder. The current directory stays as it is, for paths in configs.
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 2
}

# The comment at the head of the script is its help.
usage() {
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
    exit 0
}

# What is started: the training, the doctor, or metrics of a run.
entry=train
examine() { entry=doctor; }
score() { entry=score; }

# is_config ARGUMENT: whether a first argument is the config's path, which may hold `=` and commas. `configured` in
# dist_gan/config/command_line.py has the last word: it knows the keys.
is_config() { [[ $1 != -* ]] && [[ $1 != *=* || -f $1 || $1 == *.yaml || $1 == *.yml ]]; }

is_count() { [[ $1 =~ ^[1-9][0-9]{0,4}$ ]]; }

# The repository's own environment where there is one, else the active one.
find_python() {
    python=$repository/.venv/bin/python
    [[ ! -x $python ]] || return 0
    python=$(command -v python3 || true)
    [[ -n $python ]] && "$python" -c 'import accelerate' 2>/dev/null && return
    die "found no Python with accelerate: neither $repository/.venv nor python3 on PATH has it." \
        "Run \`make setup\` in $repository, or activate the environment that has it"
}

# Sets `gpus`. SLURM sets CUDA_VISIBLE_DEVICES; as in torch, the list ends at the first entry that is not a device.
count_gpus() {
    local entries entry listed
    gpus=0
    local use_cpu=${ACCELERATE_USE_CPU:-}
    if [[ ${use_cpu,,} =~ ^(1|true|t|yes|y|on)$ ]]; then
        return
    elif [[ -n ${CUDA_VISIBLE_DEVICES+set} ]]; then
        IFS=, read -ra entries <<< "$CUDA_VISIBLE_DEVICES"
        for entry in "${entries[@]}"; do
            [[ $entry =~ ^([0-9]+|GPU-.*|MIG-.*)$ ]] || break
            gpus=$((gpus + 1))
        done
    elif listed=$(nvidia-smi -L 2>/dev/null); then
        gpus=$(grep -c '^GPU ' <<< "$listed") || true
    fi
}

# choose_processes N: sets `each`, the number of processes on this machine; '' is one for each GPU, else one.
choose_processes() {
    count_gpus
    each=${1:-$((gpus > 0 ? gpus : 1))}
    is_count "$each" || die "-n $each: expected a number of processes"
    if ((gpus > 0 && each > gpus)); then
        die "-n $each: this machine has $gpus GPU(s) to use, and each process needs its own." \
            "(On the CPU instead: CUDA_VISIBLE_DEVICES= in front of the command.)"
    fi
}

# start NODES RANK HEAD PORT [CONFIG.yaml] [key=value ...]: train (or examine), with `each` processes on this node.
start() {
    local nodes=$1 rank=$2 head=$3 port=$4 cores
    shift 4
    local world=$((nodes * each)) run=("$repository/dist_gan/$entry.py")
    [[ ${1:-} != *.py ]] || die "$1 is a Python program, not a config. Start it with accelerate launch;" \
        "docs/running.md says how on several processes of a CPU"
    if (($# > 0)) && is_config "$1"; then
        run+=("$1")
        shift
    fi
    run+=("processes=$world" "$@")  # a run with another number of processes is refused
    find_python

    cores=$(nproc)
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores > each ? cores / each : 1))}
    ((gpus > 0)) || export ACCELERATE_USE_CPU=true
    if ((world == 1)); then
        exec "$python" "${run[@]}"  # without a launcher: it gets signals and returns exit codes itself
    fi

    local launch=(--num_machines "$nodes" --num_processes "$world" --main_process_port "$port"
        --num_cpu_threads_per_process "$OMP_NUM_THREADS")
    if ((gpus > 0)); then
        launch+=(--config_file "$repository/launch/gpus.yaml")
    else
        # `--cpu` starts one process, whatever the number; this starts them, and ACCELERATE_USE_CPU makes them gloo's
        launch+=(--config_file "$repository/launch/cpu.yaml" --multi_gpu)
    fi
    ((nodes == 1)) || launch+=(--machine_rank "$rank" --main_process_ip "$head")
    exec "$python" "$repository/launch/launcher.py" "${launch[@]}" "${run[@]}"
}
